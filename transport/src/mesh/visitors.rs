//! How many strangers may stand at the door at once, all together and from one address.

use crate::defaults::{JOINERS_MAX, JOINERS_PER_ADDRESS_MAX};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// The strangers at the door, by address.
#[derive(Debug, Default)]
pub(super) struct Visitors(Mutex<BTreeMap<IpAddr, usize>>);

/// A stranger's place. Dropping it frees the place.
#[derive(Debug)]
pub(super) struct Visit {
    visitors: Arc<Visitors>,
    from: IpAddr,
}

impl Visitors {
    /// A place for someone from `from`, if there is one.
    pub(super) fn enter(self: &Arc<Self>, from: IpAddr) -> Option<Visit> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, here) = (places.values().sum::<usize>(), places.get(&from).copied().unwrap_or(0));
        if all >= JOINERS_MAX || here >= JOINERS_PER_ADDRESS_MAX {
            return None;
        }
        places.insert(from, here + 1);
        Some(Visit { visitors: self.clone(), from })
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut places = self.visitors.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(here) = places.get_mut(&self.from) {
            *here -= 1;
            if *here == 0 {
                places.remove(&self.from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_can_not_take_every_place() {
        let visitors = Arc::new(Visitors::default());
        let (anna, bert) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let places: Vec<_> = std::iter::from_fn(|| visitors.enter(anna)).collect();
        assert_eq!(places.len(), JOINERS_PER_ADDRESS_MAX);
        assert!(visitors.enter(bert).is_some());
        drop(places);
        assert!(visitors.enter(anna).is_some());
    }
}
