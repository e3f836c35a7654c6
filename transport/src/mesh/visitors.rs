//! How many strangers may be somewhere at once, all together and from one origin.

use crate::origin::Origin;
use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// The strangers in one place, by origin.
#[derive(Debug)]
pub(crate) struct Visitors {
    max: usize,
    per_origin_max: usize,
    places: Mutex<BTreeMap<Origin, usize>>,
}

/// A stranger's place. Dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Visit {
    visitors: Arc<Visitors>,
    from: Origin,
}

impl Visitors {
    /// Room for `max`, of whom `per_origin_max` from one origin.
    pub(crate) fn new(max: usize, per_origin_max: usize) -> Arc<Visitors> {
        Arc::new(Visitors { max, per_origin_max, places: Mutex::default() })
    }

    /// A place for someone from `from`, if there is one.
    pub(crate) fn enter(self: &Arc<Self>, from: IpAddr) -> Option<Visit> {
        let from = Origin::from(from);
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, here) = (places.values().sum::<usize>(), places.get(&from).copied().unwrap_or(0));
        if all >= self.max || here >= self.per_origin_max {
            return None;
        }
        places.insert(from, here + 1);
        Some(Visit { visitors: self.clone(), from })
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut places = self.visitors.places.lock().unwrap_or_else(PoisonError::into_inner);
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
    fn one_origin_can_not_take_every_place() {
        let visitors = Visitors::new(5, 3);
        let (anna, bert) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let places: Vec<_> = std::iter::from_fn(|| visitors.enter(anna)).collect();
        assert_eq!(places.len(), 3);
        assert!(visitors.enter(bert).is_some());
        drop(places);
        assert!(visitors.enter(anna).is_some());
    }
}
