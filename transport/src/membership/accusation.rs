//! Who accuses whom, as gossip tells it. foca's own word for a suspect doesn't say whose suspicion it is, and whoever
//! passes it on has not looked for itself: only an accusation with a name on it is independent evidence.
//!
//! Not here: how much time accusations take from a suspect (`suspicion`).

use serde::{Deserialize, Serialize};
use skep_runtime::NodeId;
use std::collections::{BTreeMap, BTreeSet};

/// Accusers kept for one suspect, and passed on: more than count anywhere, so that any that count are heard.
const ACCUSERS_MAX: usize = 8;

/// One member's probe of another failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Accusation {
    pub(super) suspect: NodeId,
    /// The suspect's run,
    pub(super) epoch: u64,
    /// and how often it has answered in it.
    pub(super) incarnation: u16,
    pub(super) accuser: NodeId,
}

/// Accusations that were heard: for each suspect, those of its latest life.
#[derive(Debug, Default)]
pub(super) struct Accusers(BTreeMap<NodeId, Accused>);

#[derive(Debug, Default)]
struct Accused {
    life: (u64, u16),
    by: BTreeSet<NodeId>,
}

impl Accusation {
    fn life(&self) -> (u64, u16) {
        (self.epoch, self.incarnation)
    }

    /// Whether `other` is not worth passing on beside this one.
    pub(super) fn replaces(&self, other: &Accusation) -> bool {
        self.suspect == other.suspect
            && (self.life() > other.life() || (self.life() == other.life() && self.accuser == other.accuser))
    }
}

impl Accusers {
    /// Notes an accusation; says whether it is news.
    pub(super) fn note(&mut self, accusation: &Accusation) -> bool {
        let accused = self.0.entry(accusation.suspect).or_default();
        if accusation.life() < accused.life {
            return false;
        }
        if accusation.life() > accused.life {
            *accused = Accused { life: accusation.life(), by: BTreeSet::new() };
        }
        accused.by.len() < ACCUSERS_MAX && accused.by.insert(accusation.accuser)
    }

    /// How many accuse this life of `suspect`.
    pub(super) fn count(&self, suspect: &NodeId, epoch: u64, incarnation: u16) -> usize {
        self.0.get(suspect).filter(|accused| accused.life == (epoch, incarnation)).map_or(0, |accused| accused.by.len())
    }

    /// From now on only these nodes accuse and are accused.
    pub(super) fn members(&mut self, members: &BTreeSet<NodeId>) {
        self.0.retain(|id, _| members.contains(id));
        self.0.values_mut().for_each(|accused| accused.by.retain(|id| members.contains(id)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    fn accusation(epoch: u64, incarnation: u16, accuser: u8) -> Accusation {
        Accusation { suspect: id(0), epoch, incarnation, accuser: id(accuser) }
    }

    #[test]
    fn an_accuser_counts_once() {
        let mut accusers = Accusers::default();
        assert!(accusers.note(&accusation(7, 0, 1)) && accusers.note(&accusation(7, 0, 2)));
        assert!(!accusers.note(&accusation(7, 0, 1)));
        assert_eq!(accusers.count(&id(0), 7, 0), 2);
    }

    #[test]
    fn whoever_answered_is_not_accused_of_the_past() {
        let mut accusers = Accusers::default();
        accusers.note(&accusation(7, 0, 1));
        assert!(accusers.note(&accusation(7, 1, 2)) && !accusers.note(&accusation(7, 0, 3)));
        assert_eq!((accusers.count(&id(0), 7, 0), accusers.count(&id(0), 7, 1)), (0, 1));
        assert!(accusers.note(&accusation(8, 0, 1)) && !accusers.note(&accusation(7, 9, 1)));
    }

    #[test]
    fn accusers_beyond_those_that_matter_are_neither_kept_nor_passed_on() {
        let mut accusers = Accusers::default();
        let news = (1..100).filter(|accuser| accusers.note(&accusation(7, 0, *accuser))).count();
        assert_eq!((news, accusers.count(&id(0), 7, 0)), (ACCUSERS_MAX, ACCUSERS_MAX));
    }

    #[test]
    fn who_is_no_member_has_no_say() {
        let mut accusers = Accusers::default();
        accusers.note(&accusation(7, 0, 1));
        accusers.note(&accusation(7, 0, 2));
        accusers.members(&BTreeSet::from([id(0), id(2)]));
        assert_eq!(accusers.count(&id(0), 7, 0), 1);
        accusers.members(&BTreeSet::from([id(2)]));
        assert_eq!(accusers.count(&id(0), 7, 0), 0);
    }
}
