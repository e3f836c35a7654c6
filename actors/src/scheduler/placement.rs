//! Which node runs a command: those with room, then the preferred one, then the one that runs the fewest.
//!
//! A pure function of what is known of the nodes; equal knowledge gives an equal answer on every node.

use super::demand::{Demand, Offer};
use skep_runtime::NodeId;
use std::sync::Arc;

/// Commands that a node runs at once even if nobody knows its cores.
const SLOTS_MIN: u32 = 8;
/// Commands a core beyond that: most of them wait for something other than the processor.
const SLOTS_PER_CORE: u32 = 4;

/// What a command needs of a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// It must be this one.
    pub forced: Option<NodeId>,
    /// This one if it has room.
    pub preferred: Option<NodeId>,
    /// Cores; 0 is "whatever there is".
    pub cpus: u16,
    /// Bytes of memory; 0 is "whatever there is".
    pub memory_bytes: u64,
    /// What else it must have.
    pub demand: Demand,
}

/// What is known of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its key.
    pub id: NodeId,
    /// It answers.
    pub up: bool,
    /// It takes no new work.
    pub draining: bool,
    /// It refused or failed lately: not now.
    pub shut: bool,
    /// Its cores; 0 until its card was pulled.
    pub cpus: u16,
    /// Its memory in bytes; 0 until its card was pulled.
    pub memory_bytes: u64,
    /// Bytes of it that are free.
    pub free_bytes: u64,
    /// What the commands that run there take, as far as known.
    pub taken: Taken,
    /// What else it has.
    pub offer: Arc<Offer>,
}

/// What commands take of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taken {
    /// How many they are.
    pub commands: u32,
    /// Cores that they were promised.
    pub cpus: u32,
    /// Bytes of memory that they were promised.
    pub memory_bytes: u64,
    /// Graphics processors that they were promised.
    pub gpus: u32,
}

impl Taken {
    /// What one command takes.
    pub fn by(need: &Need) -> Taken {
        Taken { commands: 1, cpus: need.cpus.into(), memory_bytes: need.memory_bytes, gpus: need.demand.gpus().into() }
    }

    /// These as well.
    pub fn add(&mut self, more: Taken) {
        self.commands += more.commands;
        self.cpus += more.cpus;
        self.memory_bytes = self.memory_bytes.saturating_add(more.memory_bytes);
        self.gpus += more.gpus;
    }

    /// These no more.
    pub fn subtract(&mut self, less: Taken) {
        self.commands = self.commands.saturating_sub(less.commands);
        self.cpus = self.cpus.saturating_sub(less.cpus);
        self.memory_bytes = self.memory_bytes.saturating_sub(less.memory_bytes);
        self.gpus = self.gpus.saturating_sub(less.gpus);
    }
}

impl Candidate {
    /// Whether it could take the command now.
    pub fn has_room(&self, need: &Need) -> bool {
        self.takes_any() && self.could_ever(need) && {
            let cpus = need.cpus == 0 || self.taken.cpus + u32::from(need.cpus) <= u32::from(self.cpus);
            let memory = need.memory_bytes == 0
                || (need.memory_bytes <= self.free_bytes
                    && self.taken.memory_bytes.saturating_add(need.memory_bytes) <= self.memory_bytes);
            let gpus = need.demand.gpus() == 0
                || self.taken.gpus + u32::from(need.demand.gpus()) <= self.offer.gpus.len() as u32;
            cpus && memory && gpus && need.demand.disk_bytes <= self.offer.disk_free_bytes
        }
    }

    /// Whether it could take a command that needs nothing.
    pub fn takes_any(&self) -> bool {
        self.up && !self.draining && !self.shut && self.taken.commands < slots(self.cpus)
    }

    /// Whether it could take the command if it had nothing else to do.
    pub fn could_ever(&self, need: &Need) -> bool {
        need.forced.is_none_or(|id| id == self.id)
            && need.cpus <= self.cpus
            && need.memory_bytes <= self.memory_bytes
            && self.offer.satisfies(&need.demand)
    }
}

/// Commands that a node with so many cores runs at once.
pub fn slots(cpus: u16) -> u32 {
    SLOTS_MIN.max(SLOTS_PER_CORE * u32::from(cpus))
}

/// The node that runs it, if one has room: the preferred one, else the one that runs the fewest commands; of
/// equals, the lowest key.
pub fn place<'a>(need: &Need, fleet: impl IntoIterator<Item = &'a Candidate>) -> Option<NodeId> {
    let rank = |c: &Candidate| (need.preferred != Some(c.id), c.taken.commands, c.id);
    fleet.into_iter().filter(|c| c.has_room(need)).map(rank).min().map(|(_, _, id)| id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Level, fence::level::LEVELS};
    use proptest::{prelude::*, sample};

    fn id(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    prop_compose! {
        fn candidate(n: u8)(
            (up, draining, shut) in any::<(bool, bool, bool)>(), cpus in 0u16..4, memory in 0u64..4, free in 0u64..4,
            running in 0u32..10, taken_cpus in 0u32..4, taken_bytes in 0u64..4, taken_gpus in 0u32..3,
            gpus in prop::collection::vec(0u64..3, 0..3), disk_bytes in 0u64..4, disk_free_bytes in 0u64..4,
            (fast, sandbox) in (any::<bool>(), sample::select(&LEVELS[..])),
        ) -> Candidate {
            let (draining, shut) = (draining && shut, shut && !draining && !up);
            Candidate {
                id: id(n), up, draining, shut, cpus, memory_bytes: memory, free_bytes: free,
                taken: Taken { commands: running, cpus: taken_cpus, memory_bytes: taken_bytes, gpus: taken_gpus },
                offer: Arc::new(Offer {
                    gpus, disk_bytes, disk_free_bytes, sandbox, labels: fast.then(|| ("fast".into(), String::new())).into_iter().collect(),
                    ..Offer::default()
                }),
            }
        }
    }

    fn fleet() -> impl Strategy<Value = Vec<Candidate>> {
        (0u8..6).prop_flat_map(|n| (0..n).map(candidate).collect::<Vec<_>>())
    }

    /// The rules one by one, on a sorted list: what `place` must equal.
    fn brute(need: &Need, fleet: &[Candidate]) -> Option<NodeId> {
        let mut fit = Vec::new();
        for c in fleet {
            if !c.up || c.draining || c.shut || c.taken.commands >= 8.max(4 * u32::from(c.cpus)) {
                continue;
            }
            if need.forced.is_some() && need.forced != Some(c.id) {
                continue;
            }
            if need.cpus > 0 && u32::from(need.cpus) + c.taken.cpus > u32::from(c.cpus) {
                continue;
            }
            if need.memory_bytes > 0
                && (need.memory_bytes + c.taken.memory_bytes > c.memory_bytes || need.memory_bytes > c.free_bytes)
            {
                continue;
            }
            let gpus = need.demand.gpus() as usize;
            let good = c.offer.gpus.iter().filter(|g| **g >= need.demand.vram_bytes).count();
            if gpus > 0 && (good < gpus || c.taken.gpus as usize + gpus > c.offer.gpus.len()) {
                continue;
            }
            if need.demand.disk_bytes > c.offer.disk_bytes.min(c.offer.disk_free_bytes) {
                continue;
            }
            if !need.demand.labels.is_empty() && !c.offer.labels.contains_key("fast") {
                continue;
            }
            if c.offer.sandbox < need.demand.sandbox.unwrap_or(Level::Landlock) {
                continue;
            }
            if need.preferred == Some(c.id) {
                return Some(c.id);
            }
            fit.push((c.taken.commands, c.id));
        }
        fit.sort();
        fit.first().map(|(_, id)| *id)
    }

    proptest! {
        #[test]
        fn the_choice_is_what_the_rules_say_one_by_one(
            fleet in fleet(), forced in prop::option::weighted(0.2, 0u8..7), preferred in prop::option::of(0u8..7),
            cpus in 0u16..4, memory_bytes in 0u64..4, gpus in 0u16..3, vram_bytes in 0u64..3, disk_bytes in 0u64..3,
            fast in any::<bool>(), sandbox in prop::option::of(sample::select(&LEVELS[..])),
        ) {
            let labels = fast.then(|| "fast".parse().unwrap()).into_iter().collect();
            let demand = Demand { gpus, vram_bytes, disk_bytes, labels, model: None, sandbox };
            let need = Need { forced: forced.map(id), preferred: preferred.map(id), cpus, memory_bytes, demand };
            prop_assert_eq!(place(&need, &fleet), brute(&need, &fleet));
        }
    }
}
