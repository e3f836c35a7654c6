//! Doubt of this node's own membership: whom to ask, and when, whether it was taken off the roster while it was away.
//!
//! A member that only doesn't answer says nothing. One that does and refuses this node's key has a reason, and is
//! asked for it ([`visit::why_not`]). Nothing here decides what counts: the roster does.

use super::{ground::Ground, visit};
use crate::mesh;
use skep_runtime::{NodeId, swarm::Error};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time::Instant;

/// Between two rounds of doubt.
const ROUND_PERIOD: Duration = Duration::from_secs(2);
/// Members that are asked in one round. Some of them may be dead, which takes a dial's time to find out.
const ROUND_MAX: usize = 3;
/// Before a silent member is asked again: as often as membership greets it.
const SILENT_PAUSE: Duration = Duration::from_secs(5);
/// The same for one that refused and showed no eviction: it may have gone over to another swarm for good.
const UNEXPLAINED_PAUSE: Duration = Duration::from_secs(60);

/// Whom this node doubts.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    round_at: Option<Instant>,
    /// Before these times these are not asked again.
    pauses: BTreeMap<NodeId, Instant>,
    /// These closed a standing connection because this node were no member.
    refused: BTreeSet<NodeId>,
}

impl Doubts {
    /// Those to ask now, of all that are `silent`.
    pub(super) fn due(&mut self, silent: impl Iterator<Item = NodeId>, now: Instant) -> Vec<NodeId> {
        if self.round_at.is_some_and(|at| at > now) {
            return Vec::new();
        }
        self.pauses.retain(|_, until| *until > now);
        let ready = std::mem::take(&mut self.refused).into_iter().chain(silent);
        let ready: BTreeSet<NodeId> = ready.filter(|id| !self.pauses.contains_key(id)).collect();
        let due: Vec<NodeId> = ready.into_iter().take(ROUND_MAX).collect();
        if !due.is_empty() {
            self.round_at = Some(now + ROUND_PERIOD);
            self.pauses.extend(due.iter().map(|id| (*id, now + SILENT_PAUSE)));
        }
        due
    }

    /// A member took back its connection: it is asked in the next round, silent or not.
    pub(super) fn refused(&mut self, id: NodeId) {
        self.pauses.remove(&id);
        self.refused.insert(id);
    }

    /// A member refuses this node and showed no eviction that holds.
    pub(super) fn unexplained(&mut self, id: NodeId, now: Instant) {
        self.pauses.insert(id, now + UNEXPLAINED_PAUSE);
    }
}

/// Dials `peer` and, if it refuses this node, learns why. Fails if it refuses without a reason that holds.
pub(super) async fn resolve(ground: &Ground, peer: NodeId) -> Result<(), Error> {
    let mesh = ground.mesh()?;
    match mesh.connect(peer).await {
        Err(mesh::Error::NotMember(_)) => visit::why_not(ground, peer, &mesh.addresses(&peer)).await,
        // It answers, or it doesn't: membership's business.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(range: std::ops::Range<u8>) -> impl Iterator<Item = NodeId> {
        range.map(|n| NodeId::from_bytes([n; 32]))
    }

    #[tokio::test(start_paused = true)]
    async fn the_silent_are_asked_in_turn_and_never_all_at_once() {
        let (mut doubts, start) = (Doubts::default(), Instant::now());
        let first = doubts.due(ids(0..5), start);
        assert_eq!(first, ids(0..3).collect::<Vec<_>>());
        assert!(doubts.due(ids(0..5), start).is_empty());
        assert_eq!(doubts.due(ids(0..5), start + ROUND_PERIOD), ids(3..5).collect::<Vec<_>>());
        assert_eq!(doubts.due(ids(0..5), start + SILENT_PAUSE), first);
    }

    #[tokio::test(start_paused = true)]
    async fn who_took_its_connection_back_is_asked_although_it_seems_up() {
        let (mut doubts, now) = (Doubts::default(), Instant::now());
        ids(7..8).for_each(|id| doubts.refused(id));
        assert_eq!(doubts.due(ids(0..0), now), ids(7..8).collect::<Vec<_>>());
        assert!(doubts.due(ids(0..0), now + ROUND_PERIOD).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_no_good_reason_is_left_alone_for_a_while() {
        let (mut doubts, now) = (Doubts::default(), Instant::now());
        ids(0..1).for_each(|id| doubts.unexplained(id, now));
        assert!(doubts.due(ids(0..1), now + SILENT_PAUSE).is_empty());
        assert_eq!(doubts.due(ids(0..1), now + UNEXPLAINED_PAUSE).len(), 1);
    }
}
