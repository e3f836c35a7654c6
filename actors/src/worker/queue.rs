//! The jobs that a worker could have now: a higher class strictly first, then those that came back, then by arrival.
//!
//! Jobs that need the same stand in one line. Where a worker can't have the first of a line it can have none of it, so
//! that choosing costs a look at each line, not at each job.

use super::job::{Needs, Slip};
use crate::scheduler::messages::Priority;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use uuid::Uuid;

/// A job's place: the lower is served first. Every node gives a job the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    class: Reverse<Priority>,
    /// It was given to nobody yet: what comes back from a worker goes first.
    fresh: bool,
    submitted_ms: u64,
    id: Uuid,
}

/// The jobs that can be had.
#[derive(Debug, Default)]
pub struct Queue {
    places: BTreeMap<Uuid, (Rank, Arc<Needs>)>,
    lines: BTreeMap<Arc<Needs>, BTreeSet<Rank>>,
    /// The first of each line.
    heads: BTreeMap<Rank, Arc<Needs>>,
}

impl Queue {
    /// Adds a job at its place.
    pub fn join(&mut self, slip: &Slip) {
        self.remove(slip.id);
        let rank = Rank {
            class: Reverse(slip.priority),
            fresh: slip.attempts == 0,
            submitted_ms: slip.submitted_ms,
            id: slip.id,
        };
        let known = self.lines.get_key_value(&slip.needs).map(|(needs, _)| needs.clone());
        let needs = known.unwrap_or_else(|| Arc::new(slip.needs.clone()));
        self.change(&needs, |line| line.insert(rank));
        self.places.insert(slip.id, (rank, needs));
    }

    /// Takes one out.
    pub fn remove(&mut self, id: Uuid) {
        if let Some((rank, needs)) = self.places.remove(&id) {
            self.change(&needs, |line| line.remove(&rank));
        }
    }

    fn change(&mut self, needs: &Arc<Needs>, change: impl FnOnce(&mut BTreeSet<Rank>) -> bool) {
        let line = self.lines.entry(needs.clone()).or_default();
        let before = line.first().copied();
        change(line);
        let after = line.first().copied();
        if line.is_empty() {
            self.lines.remove(needs);
        }
        if before != after {
            before.map(|before| self.heads.remove(&before));
            after.map(|after| self.heads.insert(after, needs.clone()));
        }
    }

    /// The first of every line, in the order in which they are to be served.
    pub fn heads(&self) -> impl Iterator<Item = (&Needs, Uuid)> {
        self.heads.iter().map(|(rank, needs)| (&**needs, rank.id))
    }

    /// Whether nothing can be had.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}
