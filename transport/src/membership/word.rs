//! What rides along in foca's packets beside foca's own news, and what becomes of it here: news is kept and passed
//! on, the rest goes no further.

use super::{
    accusation::{Accusation, Accusers},
    peer::{EPOCH_MAX, Peer},
    pulse::Pulse,
};
use serde::{Deserialize, Serialize};
use skep_runtime::{NodeId, wire};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Bytes of one word: a packet has room for ten of them beside its own business.
pub(super) const WORD_BYTES_MAX: usize = 100;
/// Accusers of this node that wait for its answer: one answer reaches everyone in the end, these hear it first.
const CHARGES_MAX: usize = 8;

/// One thing that a node has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Word {
    /// Of itself.
    Pulse(Pulse),
    /// Of another.
    Accusation(Accusation),
}

/// What foca hands over, and what it may take. Shared, as foca owns its handler and gives no way back to it.
#[derive(Debug, Clone, Default)]
pub(super) struct Inbox(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Words of others are dropped: a member could otherwise fill our memory with nodes that don't exist.
    members: BTreeSet<NodeId>,
    latest: BTreeMap<NodeId, u64>,
    fresh: Vec<Pulse>,
    accusers: Accusers,
    charges: Vec<Accusation>,
}

/// foca's side of the inbox.
pub(super) struct Words {
    pub(super) inbox: Inbox,
    pub(super) me: NodeId,
}

/// Which word replaces which. Small, as foca moves it about with every packet.
pub(super) enum Key {
    Pulse(NodeId, u64),
    Accusation(Box<Accusation>),
}

impl Inbox {
    /// From now on only these nodes have a word.
    pub(super) fn members(&self, members: BTreeSet<NodeId>) {
        let mut state = self.lock();
        state.latest.retain(|id, _| members.contains(id));
        state.accusers.members(&members);
        state.members = members;
    }

    /// The pulses that came since the last call.
    pub(super) fn take(&self) -> Vec<Pulse> {
        std::mem::take(&mut self.lock().fresh)
    }

    /// The accusations of this node that came since the last call.
    pub(super) fn take_charges(&self) -> Vec<Accusation> {
        std::mem::take(&mut self.lock().charges)
    }

    /// How many others accuse this run of a member since it last answered.
    pub(super) fn accusers(&self, suspect: Peer, incarnation: u16) -> usize {
        self.lock().accusers.count(&suspect.id, suspect.epoch, incarnation)
    }

    /// Notes a pulse that came another way; says whether it was news.
    pub(super) fn note(&self, pulse: Pulse) -> bool {
        let mut state = self.lock();
        let known = state.latest.get(&pulse.node).copied().unwrap_or(0);
        if pulse.stamp <= known || !state.members.contains(&pulse.node) {
            return false;
        }
        state.latest.insert(pulse.node, pulse.stamp);
        state.fresh.push(pulse);
        true
    }

    fn accused(&self, accusation: Accusation, me: NodeId) -> bool {
        let mut state = self.lock();
        let Accusation { suspect, accuser, epoch, .. } = accusation;
        // Nobody is a witness against itself.
        let sane = accuser != suspect && epoch <= EPOCH_MAX;
        let members = state.members.contains(&suspect) && state.members.contains(&accuser);
        let news = sane && members && state.accusers.note(&accusation);
        if news && suspect == me && state.charges.len() < CHARGES_MAX {
            state.charges.push(accusation);
        }
        news
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl foca::BroadcastHandler<Peer> for Words {
    type Key = Key;
    type Error = wire::Error;

    fn receive_item(&mut self, data: &[u8], sender: Option<&Peer>) -> Result<Option<Key>, wire::Error> {
        let word: Word = wire::decode(data, WORD_BYTES_MAX)?;
        let speaker = match word {
            Word::Pulse(pulse) => pulse.node,
            Word::Accusation(accusation) => accusation.accuser,
        };
        let news = match word {
            // What others say in this node's name is old news or forged.
            _ if speaker == self.me => sender.is_none(),
            Word::Pulse(pulse) => self.inbox.note(pulse),
            Word::Accusation(accusation) => self.inbox.accused(accusation, self.me),
        };
        Ok(news.then(|| match word {
            Word::Pulse(pulse) => Key::Pulse(pulse.node, pulse.stamp),
            Word::Accusation(accusation) => Key::Accusation(Box::new(accusation)),
        }))
    }
}

impl foca::Invalidates for Key {
    fn invalidates(&self, other: &Key) -> bool {
        match (self, other) {
            (Key::Pulse(node, new), Key::Pulse(other, old)) => node == other && new >= old,
            (Key::Accusation(new), Key::Accusation(old)) => new.replaces(old),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foca::BroadcastHandler;
    use skep_runtime::Load;

    fn id(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    fn pulse(node: u8, stamp: u64) -> Pulse {
        let load =
            Load { cpu_permille: 1000, memory_permille: 1000, running: u16::MAX, queued: u16::MAX, draining: true };
        Pulse { node: id(node), stamp, card: u64::MAX, roster: u64::MAX, load, left: true }
    }

    fn accusation(suspect: u8, accuser: u8) -> Accusation {
        Accusation { suspect: id(suspect), epoch: EPOCH_MAX, incarnation: u16::MAX, accuser: id(accuser) }
    }

    /// Node 0's ears, in a swarm of three.
    fn ears() -> (Inbox, impl FnMut(Word) -> bool) {
        let inbox = Inbox::default();
        inbox.members((0..3).map(id).collect());
        let mut words = Words { inbox: inbox.clone(), me: id(0) };
        let sender = Peer { id: id(1), epoch: 1 };
        (inbox, move |word| words.receive_item(&wire::encode(&word), Some(&sender)).unwrap().is_some())
    }

    #[test]
    fn the_largest_words_keep_to_their_bytes() {
        assert!(wire::encode(&Word::Pulse(pulse(255, u64::MAX))).len() <= WORD_BYTES_MAX);
        assert!(wire::encode(&Word::Accusation(accusation(255, 254))).len() <= WORD_BYTES_MAX);
    }

    #[test]
    fn old_news_and_strangers_news_and_forged_news_of_ourselves_go_no_further() {
        let (inbox, mut hear) = ears();
        assert!(hear(Word::Pulse(pulse(1, 5))) && hear(Word::Pulse(pulse(1, 6))));
        for old in [pulse(1, 6), pulse(1, 4), pulse(9, 9), pulse(0, 9)] {
            assert!(!hear(Word::Pulse(old)));
        }
        assert_eq!(inbox.take(), [pulse(1, 5), pulse(1, 6)]);
    }

    #[test]
    fn an_accusation_is_passed_on_once_and_counts_once() {
        let (inbox, mut hear) = ears();
        assert!(hear(Word::Accusation(accusation(2, 1))) && !hear(Word::Accusation(accusation(2, 1))));
        assert_eq!(inbox.accusers(Peer { id: id(2), epoch: EPOCH_MAX }, u16::MAX), 1);
    }

    #[test]
    fn accusations_by_strangers_or_of_strangers_or_in_our_name_or_of_oneself_are_dropped() {
        let (_, mut hear) = ears();
        for (suspect, accuser) in [(9, 1), (1, 9), (1, 0), (1, 1)] {
            assert!(!hear(Word::Accusation(accusation(suspect, accuser))));
        }
    }

    #[test]
    fn whoever_accuses_this_node_gets_an_answer_to_it() {
        let (inbox, mut hear) = ears();
        assert!(hear(Word::Accusation(accusation(0, 2))));
        assert_eq!(inbox.take_charges(), [accusation(0, 2)]);
        assert_eq!(inbox.take_charges(), []);
    }
}
