//! Which node runs a command: those with room, of them the preferred one, else those that are most to its liking, and of
//! them the one that its strategy says.
//!
//! A pure function of what is known of the nodes; equal knowledge gives an equal answer on every node.

use super::{
    demand::{Demand, Offer},
    wish::{Strategy, Wish},
};
use skep_runtime::NodeId;
use std::sync::Arc;
use uuid::Uuid;

/// Commands that a node runs at once even if nobody knows its cores.
const SLOTS_MIN: u32 = 8;
/// Commands a core beyond that: most of them wait for something other than the processor.
const SLOTS_PER_CORE: u32 = 4;

/// What a command needs of a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
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
    /// What it would like.
    pub wish: Wish,
    /// Others of lower classes make way for it.
    pub preempts: bool,
    /// It never runs twice at once: a line of its own, since it may have to wait for more than room.
    pub once: bool,
    /// It is placed with the rest of its gang or not at all: a line of the gang's own.
    pub gang: Option<Uuid>,
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

    /// How many such commands it could take now, one after the other.
    pub fn fits(&self, need: &Need) -> u32 {
        if self.has_room(need) { self.room_beside(self.taken, need) } else { 0 }
    }

    /// How many such commands it could take at once if it had nothing else to do.
    pub fn holds(&self, need: &Need) -> u32 {
        if self.could_ever(need) { self.room_beside(Taken::default(), need) } else { 0 }
    }

    /// How many such commands there are promises for beside these.
    fn room_beside(&self, taken: Taken, need: &Need) -> u32 {
        let one = Taken::by(need);
        let times = |all: u64, taken: u64, one: u64| all.saturating_sub(taken).checked_div(one).unwrap_or(u64::MAX);
        let places = times(slots(self.cpus).into(), taken.commands.into(), 1);
        let cpus = times(self.cpus.into(), taken.cpus.into(), one.cpus.into());
        let memory = times(self.memory_bytes, taken.memory_bytes, one.memory_bytes);
        let gpus = times(self.offer.gpus.len() as u64, taken.gpus.into(), one.gpus.into());
        let together = if need.wish.apart.is_some() { 1 } else { u64::MAX };
        [places, cpus, memory, gpus, together].into_iter().min().unwrap_or_default() as u32
    }

    /// Commands for each thousand cores.
    fn crowd(&self) -> u64 {
        u64::from(self.taken.commands) * 1000 / u64::from(self.cpus.max(1))
    }

    /// What is left of cores or of memory, whichever is scarcer, in thousandths. Commands that said nothing of cores count
    /// a place each.
    fn left_permille(&self) -> u64 {
        let share = |taken: u64, all: u64| 1000 - (taken.saturating_mul(1000) / all.max(1)).min(1000);
        let cpus = share(self.taken.cpus.into(), self.cpus.into());
        let places = share(self.taken.commands.into(), slots(self.cpus).into());
        let promised = self.memory_bytes.saturating_sub(self.taken.memory_bytes);
        let memory = 1000 - share(self.free_bytes.min(promised), self.memory_bytes);
        cpus.min(places).min(memory)
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

/// The node that runs it, if one has room: the preferred one, else, of those where most of what it prefers holds, the one
/// that its strategy says; of equals, the lowest key. The fleet comes in the order of its keys. `turn` counts placements,
/// `id` is the command's.
pub fn place<'a>(need: &Need, fleet: impl IntoIterator<Item = &'a Candidate>, turn: usize, id: Uuid) -> Option<NodeId> {
    let unmet = |c: &Candidate| need.wish.prefers.iter().filter(|p| !p.holds(&c.offer.labels)).count();
    let liking = |c: &Candidate| (need.preferred != Some(c.id), unmet(c));
    let able = fleet.into_iter().filter(|c| c.has_room(need));
    // The strategies that compare nodes need no list of them: this is done for every command.
    let least = |rank: fn(&Candidate) -> (u64, u64)| move |c: &&Candidate| (liking(c), rank(c), c.id);
    let best = match need.wish.strategy {
        Strategy::LeastConnections => able.min_by_key(least(|c| (c.taken.commands.into(), 0))),
        Strategy::Weighted => able.min_by_key(least(|c| (c.crowd(), 0))),
        Strategy::ResourceBased => able.min_by_key(least(|c| (1000 - c.left_permille(), 0))),
        Strategy::BinPack => able.min_by_key(least(|c| (c.left_permille(), u64::MAX - u64::from(c.taken.commands)))),
        Strategy::RoundRobin | Strategy::RandomOfTwo => {
            let mut liked: Vec<&Candidate> = able.collect();
            let most = liked.iter().map(|c| liking(c)).min()?;
            liked.retain(|c| liking(c) == most);
            let count = liked.len();
            if need.wish.strategy == Strategy::RoundRobin {
                return Some(liked[turn % count].id);
            }
            // A command's id is as good as a die, and the same on every node.
            let (one, other) = id.as_u64_pair();
            let first = one as usize % count;
            let second = (first + 1 + other as usize % (count - 1).max(1)) % count;
            [liked[first], liked[second]].into_iter().min_by_key(|c| (c.taken.commands, c.id))
        }
    };
    best.map(|c| c.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        scheduler::wish::Strategy,
        task::{Level, fence::level::LEVELS},
    };
    use proptest::{prelude::*, sample, strategy::Strategy as _};

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

    fn fleet() -> impl proptest::strategy::Strategy<Value = Vec<Candidate>> {
        (0u8..6).prop_flat_map(|n| (0..n).map(candidate).collect::<Vec<_>>())
    }

    /// The rules one by one, on a sorted list: what `place` must equal.
    fn brute(need: &Need, fleet: &[Candidate], turn: usize) -> Option<NodeId> {
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
            let likes = need.wish.prefers.is_empty() || c.offer.labels.contains_key("fast");
            fit.push((!likes, c));
        }
        let likes = fit.iter().any(|(dislikes, _)| !dislikes);
        fit.retain(|(dislikes, _)| !likes || !dislikes);
        let n = fit.len();
        let by = |value: &dyn Fn(&Candidate) -> f64| {
            let mut order: Vec<(f64, NodeId)> = fit.iter().map(|(_, c)| (value(c), c.id)).collect();
            order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            order.first().map(|(_, id)| *id)
        };
        match need.wish.strategy {
            Strategy::LeastConnections => by(&|c| c.taken.commands.into()),
            Strategy::RoundRobin if n == 0 => None,
            Strategy::RoundRobin => {
                let mut ids: Vec<NodeId> = fit.iter().map(|(_, c)| c.id).collect();
                ids.sort();
                Some(ids[turn % n])
            }
            Strategy::Weighted => by(&|c| (f64::from(c.taken.commands) * 1000.0 / f64::from(c.cpus.max(1))).floor()),
            Strategy::ResourceBased => by(&|c| -(c.left_permille() as f64)),
            Strategy::BinPack => by(&|c| c.left_permille() as f64 * 100.0 - f64::from(c.taken.commands)),
            Strategy::RandomOfTwo => unreachable!("has its own test"),
        }
    }

    proptest! {
        #[test]
        fn the_choice_is_what_the_rules_say_one_by_one(
            fleet in fleet(), forced in prop::option::weighted(0.2, 0u8..7), preferred in prop::option::of(0u8..7),
            cpus in 0u16..4, memory_bytes in 0u64..4, gpus in 0u16..3, vram_bytes in 0u64..3, disk_bytes in 0u64..3,
            fast in any::<bool>(), likes in any::<bool>(), how in 0usize..5, turn in 0usize..9,
            sandbox in prop::option::of(sample::select(&LEVELS[..])),
        ) {
            let labels = |so: bool| so.then(|| "fast".parse().unwrap()).into_iter().collect();
            let demand = Demand { gpus, vram_bytes, disk_bytes, labels: labels(fast), sandbox, ..Demand::default() };
            let all = [Strategy::LeastConnections, Strategy::RoundRobin, Strategy::Weighted, Strategy::ResourceBased, Strategy::BinPack];
            let wish = Wish { strategy: all[how], prefers: labels(likes), apart: None };
            let need = Need { forced: forced.map(id), preferred: preferred.map(id), cpus, memory_bytes, demand, wish, preempts: false, once: false, gang: None };
            prop_assert_eq!(place(&need, &fleet, turn, Uuid::nil()), brute(&need, &fleet, turn));
        }

        /// As many fit as can be placed there one after the other; `place` and the gangs' count must not differ.
        #[test]
        fn as_many_fit_as_find_room_one_after_the_other(
            fleet in fleet(), cpus in 0u16..4, memory_bytes in 0u64..4, gpus in 0u16..3, disk_bytes in 0u64..3,
        ) {
            let demand = Demand { gpus, disk_bytes, ..Demand::default() };
            let need = Need { cpus, memory_bytes, demand, ..Need::default() };
            for mut candidate in fleet {
                let (fits, holds) = (candidate.fits(&need), candidate.holds(&need));
                prop_assert!(fits <= holds);
                for _ in 0..fits {
                    prop_assert!(candidate.has_room(&need));
                    candidate.taken.add(Taken::by(&need));
                }
                prop_assert!(!candidate.has_room(&need));
            }
        }

        /// Two are drawn, and never the fuller one of them is chosen; over many commands everyone but the fullest has a turn.
        #[test]
        fn of_two_at_random_the_one_with_fewer(busy in prop::collection::btree_set(0u32..8, 2..6)) {
            let fleet: Vec<Candidate> = busy.iter().enumerate().map(|(n, commands)| Candidate {
                id: id(n as u8), up: true, draining: false, shut: false, cpus: 4, memory_bytes: 4, free_bytes: 4,
                taken: Taken { commands: *commands, ..Taken::default() },
                offer: Arc::new(Offer { sandbox: Level::Landlock, ..Offer::default() }),
            }).collect();
            let need = Need { wish: Wish { strategy: Strategy::RandomOfTwo, ..Wish::default() }, ..Need::default() };
            let chosen = (0u64..400).map(|n| {
                let hash = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
                place(&need, &fleet, 0, Uuid::from_u64_pair(hash, hash.rotate_left(31))).unwrap()
            });
            let chosen: std::collections::BTreeSet<NodeId> = chosen.collect();
            prop_assert!(!chosen.contains(&id(fleet.len() as u8 - 1)), "the fullest never wins");
            prop_assert_eq!(chosen.len(), fleet.len() - 1);
        }
    }
}
