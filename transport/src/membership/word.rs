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

/// Members up to which everyone passes every word on: fourteen each, to a few, is little.
const CHATTER_MAX: usize = 16;
/// Of more, one in so many passes on what a node only repeats. Gossip of `k` tellings by each that tells misses a
/// member with a probability of about exp(-k): with a third of some fourteen that is one in a hundred, who hears the
/// next one. What is new is passed on by all.
const REPEATERS: u64 = 3;

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
    latest: BTreeMap<NodeId, Pulse>,
    fresh: Vec<Pulse>,
    accusers: Accusers,
    charges: Vec<Accusation>,
}

/// What a pulse says beside the one before it.
enum Standing {
    /// It has another card, or takes or leaves work now, or goes.
    New,
    /// How busy it is, and that its roster is as it is: it will say so again.
    Repeated,
}

impl State {
    /// Keeps a member's newest pulse; `None` if it is not newer.
    fn note(&mut self, pulse: Pulse) -> Option<Standing> {
        let known = self.latest.get(&pulse.node);
        if known.is_some_and(|known| pulse.stamp <= known.stamp) || !self.members.contains(&pulse.node) {
            return None;
        }
        let what = |pulse: &Pulse| (pulse.card, pulse.left, pulse.load.draining);
        let repeated = known.is_some_and(|known| what(known) == what(&pulse));
        self.latest.insert(pulse.node, pulse);
        self.fresh.push(pulse);
        Some(if repeated { Standing::Repeated } else { Standing::New })
    }
}

/// Whether `me` is among those who repeat this pulse: others each time.
fn repeats(pulse: &Pulse, me: NodeId) -> bool {
    pulse.stamp.wrapping_add(me.as_bytes()[0].into()).is_multiple_of(REPEATERS)
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

    /// Notes a pulse that came another way.
    pub(super) fn note(&self, pulse: Pulse) {
        self.lock().note(pulse);
    }

    /// Notes a pulse that came by gossip; says whether `me` passes it on.
    fn heard(&self, pulse: Pulse, me: NodeId) -> bool {
        let mut state = self.lock();
        let crowd = state.members.len() > CHATTER_MAX;
        match state.note(pulse) {
            Some(Standing::Repeated) if crowd => repeats(&pulse, me),
            standing => standing.is_some(),
        }
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
            Word::Pulse(pulse) => self.inbox.heard(pulse, self.me),
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
    fn in_a_crowd_one_in_three_passes_on_what_is_only_repeated_and_everyone_what_is_new() {
        let crowd: BTreeSet<NodeId> = (0..=CHATTER_MAX).map(|n| id(u8::try_from(n).unwrap())).collect();
        let passed_on = |stamps: std::ops::Range<u64>, change: fn(&mut Pulse)| {
            let passed = |me: &NodeId| {
                let inbox = Inbox::default();
                inbox.members(crowd.clone());
                let said = stamps.clone().filter(|stamp| {
                    let mut pulse = Pulse { left: false, card: 7, ..pulse(1, *stamp) };
                    change(&mut pulse);
                    inbox.heard(pulse, *me)
                });
                said.count()
            };
            crowd.iter().map(passed).collect::<Vec<_>>()
        };
        // The first is new; of the others each passes on its share, and not all the same ones.
        assert!(passed_on(1..31, |_| {}).iter().all(|count| *count == 10 || *count == 11));
        assert!(passed_on(1..31, |pulse| pulse.card = pulse.stamp).iter().all(|count| *count == 30));
        assert!(passed_on(1..31, |pulse| pulse.left = pulse.stamp % 2 == 0).iter().all(|count| *count == 30));
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
