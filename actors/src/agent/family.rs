//! A run and its sub-agents at any depth, as they are now: what followers and the parent are told from.
//!
//! It is a picture, not a stream: whoever is late gets the newest record of each run, never a backlog.

use super::Run;
use std::{collections::BTreeMap, sync::Arc};
use uuid::Uuid;

/// Runs of one family: more than a tree may have, so that a peer that invents runs can't fill the memory.
const RUNS_MAX: usize = 128;

/// The picture.
#[derive(Debug, Clone, Default)]
pub(super) struct Family {
    runs: BTreeMap<Uuid, (u64, Arc<Run>)>,
    version: u64,
    /// The run itself has ended, its budget is settled: nothing follows.
    pub(super) over: bool,
}

impl Family {
    /// Takes over the newest record of a run.
    pub(super) fn put(&mut self, run: Run) {
        if self.runs.len() >= RUNS_MAX && !self.runs.contains_key(&run.id) {
            return;
        }
        // A record that was overtaken on its way must not undo the end.
        if self.runs.get(&run.id).is_some_and(|(_, known)| known.state.ended() && !run.state.ended()) {
            return;
        }
        self.version += 1;
        self.runs.insert(run.id, (self.version, Arc::new(run)));
    }

    /// Which picture this is.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// What changed after `version`, oldest first, and the version to ask with next.
    pub(super) fn since(&self, version: u64) -> (Vec<Arc<Run>>, u64) {
        let mut newer: Vec<_> = self.runs.values().filter(|(v, _)| *v > version).collect();
        newer.sort_by_key(|(v, _)| *v);
        (newer.into_iter().map(|(_, run)| run.clone()).collect(), self.version)
    }
}
