//! Records that other nodes own, and when this node takes them over: when their owner is gone and this is the first node
//! in their order that isn't.
//!
//! No majority is asked, so that a swarm of two goes on when one dies: two halves of a swarm may both take a record
//! over, and what it stands for may run twice. Terms decide whose word counts then ([`super::Term`]).

use sha2::{Digest, Sha256};
use skep_runtime::{
    NodeId,
    member::{Member, State},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use uuid::Uuid;

/// How long an owner is down before its records are taken over: longer than a restart of the program takes to be seen.
const GONE: Duration = Duration::from_secs(2);
/// The same for one that was not seen since this node started: it may be starting, too.
const NEVER_SEEN: Duration = Duration::from_secs(15);

/// A member, as far as heirs look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presence {
    /// Its key.
    pub id: NodeId,
    /// It answers.
    pub up: bool,
    /// It answered since this node started.
    pub ever_up: bool,
}

impl From<&Member> for Presence {
    fn from(member: &Member) -> Presence {
        Presence { id: member.id, up: member.state == State::Up, ever_up: member.seen_ms > 0 }
    }
}

/// The records of others, as far as they may have to be taken over. At about 100 bytes each.
#[derive(Debug, Default)]
pub struct Wards {
    /// Those that have not ended, by owner.
    open: BTreeMap<NodeId, BTreeSet<Uuid>>,
    /// Those that have: somebody has to forget them in time.
    ended: BTreeMap<NodeId, BTreeSet<Uuid>>,
    owners: BTreeMap<Uuid, NodeId>,
    /// Of those that have their heir in common with others: whose order they follow.
    groups: BTreeMap<Uuid, Uuid>,
    /// Since when an owner doesn't answer.
    gone: BTreeMap<NodeId, Duration>,
}

impl Wards {
    /// What is known of a record now: its owner, and whether what it stands for has ended. `None`: it is this node's
    /// own, or nobody's any more.
    pub fn note(&mut self, id: Uuid, theirs: Option<(NodeId, bool)>) {
        self.take_out(id);
        match theirs {
            Some((owner, ended)) => {
                let wards = if ended { &mut self.ended } else { &mut self.open };
                wards.entry(owner).or_default().insert(id);
                self.owners.insert(id, owner);
            }
            None => drop(self.groups.remove(&id)),
        }
    }

    /// The same of one that is taken over together with others, by one heir: those of a group that have ended are as long
    /// as one of it has not.
    pub fn note_in(&mut self, group: Option<Uuid>, id: Uuid, theirs: Option<(NodeId, bool)>) {
        self.note(id, theirs);
        if let Some(group) = group.filter(|_| theirs.is_some()) {
            self.groups.insert(id, group);
        }
    }

    fn take_out(&mut self, id: Uuid) {
        if let Some(owner) = self.owners.remove(&id) {
            for wards in [&mut self.open, &mut self.ended] {
                if wards.get_mut(&owner).is_some_and(|ids| ids.remove(&id) && ids.is_empty()) {
                    wards.remove(&owner);
                }
            }
        }
    }

    /// The records of a node, the ended ones too.
    pub fn of(&self, owner: NodeId) -> impl Iterator<Item = Uuid> + '_ {
        let both = [&self.open, &self.ended];
        both.into_iter().filter_map(move |wards| wards.get(&owner)).flatten().copied()
    }

    /// Whose records there are.
    pub fn owners(&self) -> BTreeSet<NodeId> {
        self.open.keys().chain(self.ended.keys()).copied().collect()
    }

    /// Those that this node takes over now, and whose they were. Each is told once, unless it is noted again.
    pub fn due(&mut self, me: NodeId, fleet: impl Iterator<Item = Presence>, uptime: Duration) -> Vec<(Uuid, NodeId)> {
        if self.owners.is_empty() {
            return Vec::new();
        }
        let (mut up, mut members) = (Vec::new(), BTreeMap::new());
        for seen in fleet {
            members.insert(seen.id, seen.ever_up);
            up.extend((seen.up || seen.id == me).then_some(seen.id));
        }
        // Before anything is known of the swarm, everyone seems to be gone.
        if members.is_empty() {
            return Vec::new();
        }
        self.gone.retain(|id, _| !up.contains(id));
        let mut due = Vec::new();
        for owner in self.owners().into_iter().filter(|owner| !up.contains(owner)) {
            let since = *self.gone.entry(owner).or_insert(uptime);
            let patience = if members.get(&owner) == Some(&false) { NEVER_SEEN } else { GONE };
            if uptime.saturating_sub(since) < patience {
                continue;
            }
            // A member that is away comes back to what has ended; one that was thrown out doesn't.
            let left = if members.contains_key(&owner) { None } else { self.ended.get(&owner) };
            let ids = self.open.get(&owner).into_iter().chain(left).flatten();
            let order = |id: &Uuid| self.groups.get(id).copied().unwrap_or(*id);
            let mine: Vec<Uuid> = ids.filter(|id| first(order(id), &up) == Some(me)).copied().collect();
            let groups: BTreeSet<Uuid> = mine.iter().filter_map(|id| self.groups.get(id)).copied().collect();
            if !groups.is_empty() && left.is_none() {
                let ended = self.ended.get(&owner).into_iter().flatten();
                due.extend(ended.filter(|id| groups.contains(&order(id))).map(|id| (*id, owner)));
            }
            due.extend(mine.into_iter().map(|id| (id, owner)));
        }
        // Their groups are remembered: one that can't be read now is noted again.
        due.iter().for_each(|(id, _)| self.take_out(*id));
        due
    }
}

/// The first of these nodes in a record's order, which all nodes agree on (rendezvous hashing, Thaler and Ravishankar
/// 1998): each node is first for an equal part, and one that goes leaves the others' parts alone.
pub fn first(id: Uuid, nodes: &[NodeId]) -> Option<NodeId> {
    let rank =
        |node: &NodeId| -> [u8; 32] { Sha256::new().chain_update(id).chain_update(node.as_bytes()).finalize().into() };
    nodes.iter().copied().max_by_key(rank)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    fn seen(n: u8, up: bool, ever_up: bool) -> Presence {
        Presence { id: node(n), up, ever_up }
    }

    fn wards() -> Wards {
        let mut wards = Wards::default();
        (0..90).for_each(|n| wards.note(Uuid::from_u128(n), Some((node(9), false))));
        wards.note(Uuid::from_u128(100), Some((node(9), true)));
        wards
    }

    fn at(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn what_a_dead_node_owned_is_divided_among_those_who_are_left_and_nothing_is_left_over() {
        let fleet = [seen(1, true, true), seen(2, true, true), seen(3, true, true), seen(9, false, true)];
        let mut all = Vec::new();
        for me in 1..4 {
            let mut wards = wards();
            assert!(wards.due(node(me), fleet.into_iter(), at(10)).is_empty(), "it may be back in a moment");
            let due = wards.due(node(me), fleet.into_iter(), at(12));
            assert!(due.len() > 10, "{} has {}", me, due.len());
            assert!(wards.due(node(me), fleet.into_iter(), at(13)).is_empty(), "each is told once");
            all.extend(due.into_iter().map(|(id, _)| id));
        }
        all.sort();
        assert_eq!(all, (0..90).map(Uuid::from_u128).collect::<Vec<_>>());
    }

    #[test]
    fn a_group_has_one_heir_who_takes_what_has_ended_of_it_too() {
        let fleet = [seen(1, true, true), seen(2, true, true), seen(3, true, true), seen(9, false, true)];
        for group in (0..20).map(|n| Uuid::from_u128(1000 + n)) {
            let heirs = (1..4).filter_map(|me| {
                let mut wards = Wards::default();
                (0..9).for_each(|n| wards.note_in(Some(group), Uuid::from_u128(n), Some((node(9), n < 3))));
                wards.note_in(Some(Uuid::nil()), Uuid::from_u128(9), Some((node(9), true)));
                wards.due(node(me), fleet.into_iter(), at(10));
                let due = wards.due(node(me), fleet.into_iter(), at(12));
                (!due.is_empty()).then(|| due.into_iter().map(|(id, _)| id).collect::<BTreeSet<_>>())
            });
            let all: BTreeSet<Uuid> = (0..9).map(Uuid::from_u128).collect();
            assert_eq!(heirs.collect::<Vec<_>>(), [all]);
        }
    }

    #[test]
    fn an_owner_that_is_back_in_time_keeps_what_it_owned() {
        let (mut wards, there) = (wards(), [seen(1, true, true), seen(9, true, true)]);
        let gone = [seen(1, true, true), seen(9, false, true)];
        assert!(wards.due(node(1), gone.into_iter(), at(10)).is_empty());
        assert!(wards.due(node(1), there.into_iter(), at(11)).is_empty());
        assert!(wards.due(node(1), gone.into_iter(), at(12)).is_empty(), "counted anew");
        assert_eq!(wards.due(node(1), gone.into_iter(), at(14)).len(), 90);
    }

    #[test]
    fn one_that_was_never_seen_is_waited_for_longer_and_one_that_was_thrown_out_leaves_everything() {
        let mut wards = wards();
        let unseen = [seen(1, true, true), seen(9, false, false)];
        assert!(wards.due(node(1), unseen.into_iter(), at(0)).is_empty());
        assert!(wards.due(node(1), unseen.into_iter(), at(14)).is_empty());
        let out = [seen(1, true, true)];
        assert_eq!(wards.due(node(1), out.into_iter(), at(15)).len(), 91);
        assert!(Wards::default().due(node(1), [].into_iter(), at(99)).is_empty());
    }
}
