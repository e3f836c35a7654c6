//! Many durations as two numbers.

use std::{fmt, time::Duration};

/// Durations, and how often there was none to measure as it took too long.
#[derive(Debug, Default, Clone)]
pub struct Spread {
    known: Vec<Duration>,
    never: usize,
}

impl Spread {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.known.len() + self.never
    }

    /// The duration that this part of all (0 to 1) doesn't exceed; `None` if it took longer than was waited for.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let mut sorted = self.known.clone();
        sorted.sort();
        let rank = (part * self.count() as f64).ceil() as usize;
        sorted.get(rank.max(1) - 1).copied()
    }
}

impl Extend<Option<Duration>> for Spread {
    fn extend<I: IntoIterator<Item = Option<Duration>>>(&mut self, times: I) {
        for time in times {
            match time {
                Some(time) => self.known.push(time),
                None => self.never += 1,
            }
        }
    }
}

/// `p50 | p99`, in seconds.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |part| self.quantile(part).map_or("never".into(), |time| format!("{:.2}", time.as_secs_f64()));
        write!(f, "{} | {}", text(0.5), text(0.99))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_durations() {
        let mut spread = Spread::default();
        spread.extend((1..=100).rev().map(|n| Some(Duration::from_secs(n))));
        assert_eq!(spread.to_string(), "50.00 | 99.00");
        assert_eq!(spread.quantile(1.0), Some(Duration::from_secs(100)));
    }

    #[test]
    fn what_never_came_is_longer_than_anything() {
        let mut spread = Spread::default();
        spread.extend([Some(Duration::from_secs(1)), None]);
        assert_eq!(spread.to_string(), "1.00 | never");
        assert_eq!(Spread::default().to_string(), "never | never");
    }
}
