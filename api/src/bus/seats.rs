//! How many may listen at once: in all, and from one address.

use crate::{
    Problem,
    limits::{LISTENERS_MAX, LISTENERS_PER_ADDRESS_MAX},
};
use poem::http::StatusCode;
use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The seats of one way to listen. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seats(Arc<Mutex<BTreeMap<Option<IpAddr>, usize>>>);

/// A seat, given back by dropping it.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Seats,
    from: Option<IpAddr>,
}

impl Seats {
    /// A seat for a client at this address. Those whose address is unknown count as of one.
    pub(crate) fn take(&self, from: Option<IpAddr>) -> Result<Seat, Problem> {
        let from = from.map(|address| address.to_canonical());
        let mut taken = self.lock();
        if taken.values().sum::<usize>() >= LISTENERS_MAX {
            let text = format!("{LISTENERS_MAX} clients listen already: try again when one has gone");
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_listeners", text));
        }
        let theirs = taken.entry(from).or_default();
        if *theirs >= LISTENERS_PER_ADDRESS_MAX {
            let text = format!("{LISTENERS_PER_ADDRESS_MAX} clients of one address may listen: close one of yours");
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_listeners", text));
        }
        *theirs += 1;
        Ok(Seat { seats: self.clone(), from })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Option<IpAddr>, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        if let Some(theirs) = taken.get_mut(&self.from) {
            *theirs -= 1;
            if *theirs == 0 {
                taken.remove(&self.from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: usize) -> Option<IpAddr> {
        Some(IpAddr::from([127, 0, 0, n as u8]))
    }

    #[test]
    fn one_address_has_some_seats_and_a_left_one_is_free_again() {
        let seats = Seats::default();
        let mut taken: Vec<Seat> = (0..LISTENERS_PER_ADDRESS_MAX).map(|_| seats.take(address(1)).unwrap()).collect();
        assert_eq!(seats.take(address(1)).unwrap_err().status(), StatusCode::TOO_MANY_REQUESTS);
        let mapped = "::ffff:127.0.0.1".parse().unwrap();
        assert!(seats.take(Some(mapped)).is_err(), "an address has one form");
        assert!(seats.take(address(2)).is_ok());
        taken.pop();
        assert!(seats.take(address(1)).is_ok());
        drop(taken);
        assert!(seats.lock().is_empty(), "nothing is kept of those who left");
    }

    #[test]
    fn all_addresses_together_have_a_bound() {
        let seats = Seats::default();
        let taken: Vec<Seat> = (0..LISTENERS_MAX).map(|n| seats.take(address(n)).unwrap()).collect();
        assert_eq!(seats.take(address(99)).unwrap_err().status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(taken);
        assert!(seats.take(None).is_ok());
    }
}
