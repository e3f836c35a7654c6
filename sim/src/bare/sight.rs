//! Who sees whom as what, and which of it was never true.

use skep_runtime::member::State;
use std::collections::BTreeSet;

/// All machines' views.
#[derive(Debug)]
pub(super) struct Sight {
    seen: Vec<Vec<Option<State>>>,
    /// Runs of machines that were called dead and weren't.
    wronged: BTreeSet<(usize, u64)>,
}

impl Sight {
    pub(super) fn new(size: usize) -> Sight {
        Sight { seen: vec![vec![None; size]; size], wronged: BTreeSet::new() }
    }

    pub(super) fn set(&mut self, viewer: usize, subject: usize, state: State) {
        self.seen[viewer][subject] = Some(state);
    }

    pub(super) fn sees_up(&self, viewer: usize, subject: usize) -> bool {
        self.seen[viewer][subject] == Some(State::Up)
    }

    /// A machine starts anew and knows nobody.
    pub(super) fn forget(&mut self, viewer: usize) {
        self.seen[viewer].fill(None);
    }

    /// A run of a machine was called dead while it ran and could be reached. Counts once, however many believe it.
    pub(super) fn wrong(&mut self, subject: usize, epoch: u64) {
        self.wronged.insert((subject, epoch));
    }

    pub(super) fn wrongs(&self) -> usize {
        self.wronged.len()
    }
}
