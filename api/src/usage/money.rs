//! Money on its way in and out: numbers with a point in JSON, whole millionths inside.

/// Places that sums are told with, as the documented API does.
const PLACES: f64 = 1e4;
const MILLIONTHS: f64 = 1e6;

/// Millionths as a sum: to four places.
pub(crate) fn sum(cost: u64) -> f64 {
    (cost as f64 / MILLIONTHS * PLACES).round() / PLACES
}

/// Millionths as a limit or a price: exact.
pub(crate) fn exact(cost: u64) -> f64 {
    cost as f64 / MILLIONTHS
}

/// The nearest millionth. What is less than nothing is nothing: the bodies' checks refuse it before.
pub(crate) fn millionths(money: f64) -> u64 {
    (money * MILLIONTHS).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_have_four_places_and_prices_six() {
        assert_eq!((sum(123_449), sum(123_450), sum(1)), (0.1234, 0.1235, 0.0));
        assert_eq!((exact(150_001), millionths(0.150_001), millionths(2.5)), (0.150_001, 150_001, 2_500_000));
        assert_eq!((millionths(-1.0), millionths(f64::INFINITY)), (0, u64::MAX));
    }
}
