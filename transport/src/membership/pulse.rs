//! What each node says of itself in gossip: small enough to ride along with a probe.

use super::peer::Peer;
use serde::{Deserialize, Serialize};
use skep_runtime::{Load, NodeId, wire};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Bytes of one pulse: a packet has room for ten of them beside its own business.
pub(super) const PULSE_BYTES_MAX: usize = 100;

/// A node's latest word on itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulse {
    /// Whose.
    pub node: NodeId,
    /// Grows with every pulse, across restarts as well.
    pub stamp: u64,
    /// The version of its card.
    pub card: u64,
    /// The start of its roster's digest: another than ours is a reason to compare.
    pub roster: u64,
    /// How busy it is.
    pub load: Load,
    /// It says goodbye.
    pub left: bool,
}

/// What foca hands over, and what it may take. Shared, as foca owns its handler and gives no way back to it.
#[derive(Debug, Clone, Default)]
pub(super) struct Inbox(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Pulses of others are dropped: a member could otherwise fill our memory with nodes that don't exist.
    members: BTreeSet<NodeId>,
    latest: BTreeMap<NodeId, u64>,
    fresh: Vec<Pulse>,
}

/// foca's side of the inbox.
pub(super) struct Pulses {
    pub(super) inbox: Inbox,
    pub(super) me: NodeId,
}

/// Which pulse replaces which.
pub(super) struct Key(NodeId, u64);

impl Inbox {
    /// From now on only these nodes have a pulse.
    pub(super) fn members(&self, members: BTreeSet<NodeId>) {
        let mut state = self.lock();
        state.latest.retain(|id, _| members.contains(id));
        state.members = members;
    }

    /// The pulses that came since the last call.
    pub(super) fn take(&self) -> Vec<Pulse> {
        std::mem::take(&mut self.lock().fresh)
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

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl foca::BroadcastHandler<Peer> for Pulses {
    type Key = Key;
    type Error = wire::Error;

    fn receive_item(&mut self, data: &[u8], sender: Option<&Peer>) -> Result<Option<Key>, wire::Error> {
        let pulse: Pulse = wire::decode(data, PULSE_BYTES_MAX)?;
        // What others say of this node is old news or forged.
        let news = if pulse.node == self.me { sender.is_none() } else { self.inbox.note(pulse) };
        Ok(news.then_some(Key(pulse.node, pulse.stamp)))
    }
}

impl foca::Invalidates for Key {
    fn invalidates(&self, other: &Key) -> bool {
        self.0 == other.0 && self.1 >= other.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foca::BroadcastHandler;

    fn pulse(node: u8, stamp: u64) -> Pulse {
        let load =
            Load { cpu_permille: 1000, memory_permille: 1000, running: u16::MAX, queued: u16::MAX, draining: true };
        Pulse { node: NodeId::from_bytes([node; 32]), stamp, card: u64::MAX, roster: u64::MAX, load, left: true }
    }

    #[test]
    fn the_largest_pulse_keeps_to_its_bytes() {
        assert!(wire::encode(&pulse(255, u64::MAX)).len() <= PULSE_BYTES_MAX);
    }

    #[test]
    fn old_news_and_strangers_news_and_forged_news_of_ourselves_go_no_further() {
        let inbox = Inbox::default();
        let (me, other) = (NodeId::from_bytes([0; 32]), NodeId::from_bytes([1; 32]));
        inbox.members(BTreeSet::from([me, other]));
        let mut pulses = Pulses { inbox: inbox.clone(), me };
        let sender = Peer { id: other, epoch: 1 };
        let mut hear = |p: Pulse| pulses.receive_item(&wire::encode(&p), Some(&sender)).unwrap().is_some();
        assert!(hear(pulse(1, 5)) && hear(pulse(1, 6)));
        assert!(!hear(pulse(1, 6)) && !hear(pulse(1, 4)) && !hear(pulse(2, 9)) && !hear(pulse(0, 9)));
        assert_eq!(inbox.take(), [pulse(1, 5), pulse(1, 6)]);
    }
}
