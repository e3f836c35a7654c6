//! The sub-agents of one run: which errand waits, which is out where, what is done when one is lost.
//!
//! A node that stops answering takes its sub-agents with it: each is started again elsewhere under a fresh id, and
//! what the lost one still says is ignored. No clock, no I/O.

use super::{
    Run, RunState,
    strategy::{Errand, Failure, Outcome},
};
use skep_runtime::{Load, NodeId};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Sub-agents of one run at work at once.
const AT_ONCE_MAX: usize = 8;
/// How often an errand is started before it counts as failed.
const ATTEMPTS_MAX: u32 = 3;
/// How long an errand waits that no node had a place for. It is looked at as often as the members' loads are told.
const FULL_PAUSE_MS: u64 = 1000;
/// What the record of a run says that ended because its node started anew. Its parent takes that as lost.
pub(super) const RESTARTED: &str = "the node restarted";

/// A node that a sub-agent could be sent to: one that is up.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) id: NodeId,
    pub(super) name: String,
    pub(super) load: Load,
}

/// What a run sees of the world when something happens to it.
pub(super) struct World<'a> {
    pub(super) now_ms: u64,
    pub(super) me: NodeId,
    /// Everyone who is up, this node included.
    pub(super) places: &'a [Place],
    /// A new id.
    pub(super) fresh: &'a dyn Fn() -> Uuid,
}

impl World<'_> {
    /// Whether a node is up.
    pub(super) fn up(&self, node: NodeId) -> bool {
        node == self.me || self.places.iter().any(|place| place.id == node)
    }
}

/// The node of this key, name that only one has, or unique prefix of the key (of 4 or more: a model says it).
pub(super) fn find_place(places: &[Place], text: &str) -> Option<NodeId> {
    let only = |fits: &dyn Fn(&Place) -> bool| {
        let mut fit = places.iter().filter(|p| fits(p));
        let first = fit.next()?;
        fit.next().is_none().then_some(first.id)
    };
    let named = |p: &Place| p.name == text;
    if places.iter().any(named) {
        return only(&named);
    }
    only(&|p| p.id.to_string() == text || (text.len() >= 4 && p.id.to_string().starts_with(text)))
}

/// Where an errand stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    Waiting,
    Out { id: Uuid, node: NodeId },
    Ended,
}

#[derive(Debug)]
struct Slot {
    errand: Errand,
    name: String,
    attempts: u32,
    tried: Vec<NodeId>,
    /// It found no place, and is not tried again before.
    not_before_ms: u64,
    /// The id that it had then.
    kept: Option<Uuid>,
    stand: Stand,
}

/// A sub-agent to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) number: usize,
    pub(super) id: Uuid,
    pub(super) node: NodeId,
    pub(super) errand: Errand,
    /// What the errand is called among its parent's: each attempt at it has the same name.
    pub(super) name: String,
}

/// What became of a sub-agent that is no longer out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Gone {
    /// It has ended; its errand with it.
    Ended(usize, Outcome),
    /// It is lost and its errand waits again.
    Again,
}

/// All errands of one run.
#[derive(Debug, Default)]
pub(super) struct Children {
    slots: Vec<Slot>,
    /// How many were sent where: the next goes where fewest are.
    sent: BTreeMap<NodeId, u32>,
}

impl Children {
    /// Takes errands; answers the number of the first.
    pub(super) fn send(&mut self, errands: Vec<Errand>) -> usize {
        let first = self.slots.len();
        for errand in errands {
            let name = format!("{} {}", errand.purpose, self.slots.len());
            self.send_as(errand, name);
        }
        first
    }

    /// Takes an errand of this name; answers its number.
    pub(super) fn send_as(&mut self, errand: Errand, name: String) -> usize {
        self.slots.push(Slot {
            errand,
            name,
            attempts: 0,
            tried: Vec::new(),
            not_before_ms: 0,
            kept: None,
            stand: Stand::Waiting,
        });
        self.slots.len() - 1
    }

    /// What can be started now. All of it counts as out from here on.
    pub(super) fn due(&mut self, world: &World) -> Vec<Start> {
        let mut starts = Vec::new();
        for number in 0..self.slots.len() {
            if !self.has_room() {
                break;
            }
            let slot = &self.slots[number];
            if slot.stand != Stand::Waiting || slot.not_before_ms > world.now_ms {
                continue;
            }
            let node = self.place(&self.slots[number], world);
            let id = self.slots[number].kept.take().unwrap_or_else(world.fresh);
            *self.sent.entry(node).or_default() += 1;
            let slot = &mut self.slots[number];
            slot.attempts += 1;
            slot.tried.push(node);
            slot.stand = Stand::Out { id, node };
            starts.push(Start { number, id, node, errand: slot.errand.clone(), name: slot.name.clone() });
        }
        starts
    }

    /// An errand that waits.
    pub(super) fn waiting(&self, number: usize) -> Option<&Errand> {
        self.slots.get(number).filter(|slot| slot.stand == Stand::Waiting).map(|slot| &slot.errand)
    }

    /// What came of an errand that waits is known.
    pub(super) fn settle(&mut self, number: usize) {
        if let Some(slot) = self.slots.get_mut(number) {
            slot.stand = Stand::Ended;
        }
    }

    /// Where the sub-agent of an errand is, if it is out.
    pub(super) fn place_of(&self, number: usize) -> Option<(Uuid, NodeId)> {
        match self.slots.get(number)?.stand {
            Stand::Out { id, node } => Some((id, node)),
            _ => None,
        }
    }

    /// Whether one more can be out.
    pub(super) fn has_room(&self) -> bool {
        self.out().count() < AT_ONCE_MAX
    }

    /// Those that are out: id and node.
    pub(super) fn out(&self) -> impl Iterator<Item = (Uuid, NodeId)> {
        self.slots.iter().filter_map(|slot| match slot.stand {
            Stand::Out { id, node } => Some((id, node)),
            _ => None,
        })
    }

    /// Those that are out on nodes which are not up any more.
    pub(super) fn stranded(&self, world: &World) -> Vec<(Uuid, NodeId)> {
        self.out().filter(|(_, node)| !world.up(*node)).collect()
    }

    /// A sub-agent is lost: its node died, or could not start it.
    pub(super) fn lost(&mut self, id: Uuid, why: &str) -> Option<Gone> {
        let number = self.number(id)?;
        let slot = &mut self.slots[number];
        if slot.attempts < ATTEMPTS_MAX {
            slot.stand = Stand::Waiting;
            // A node that was asked for by name may be the one that died: any other will do then.
            slot.errand.node = None;
            return Some(Gone::Again);
        }
        slot.stand = Stand::Ended;
        let failure = Failure::new(format!("the sub-agent was lost {ATTEMPTS_MAX} times, last: {why}"));
        Some(Gone::Ended(number, Outcome { output: None, failure: Some(failure) }))
    }

    /// A sub-agent found no place: it waits for one. That was no attempt, and it keeps its id. `false`: it isn't out.
    pub(super) fn full(&mut self, id: Uuid, now_ms: u64) -> bool {
        let Some(number) = self.number(id) else { return false };
        let slot = &mut self.slots[number];
        slot.attempts = slot.attempts.saturating_sub(1);
        (slot.stand, slot.kept) = (Stand::Waiting, Some(id));
        slot.not_before_ms = now_ms + FULL_PAUSE_MS;
        true
    }

    /// A sub-agent can't be: trying again would end the same.
    pub(super) fn refused(&mut self, id: Uuid, failure: Failure) -> Option<Gone> {
        let number = self.number(id)?;
        self.slots[number].stand = Stand::Ended;
        Some(Gone::Ended(number, Outcome { output: None, failure: Some(failure) }))
    }

    /// A sub-agent's record came. `None` while it goes on, or if it isn't one that is out.
    pub(super) fn moved(&mut self, run: &Run) -> Option<Gone> {
        let number = self.number(run.id)?;
        let Stand::Out { node, .. } = self.slots[number].stand else { return None };
        if node != run.node || !run.state.ended() {
            return None;
        }
        if run.state == RunState::Lost || run.error.as_deref() == Some(RESTARTED) {
            return self.lost(run.id, RESTARTED);
        }
        self.slots[number].stand = Stand::Ended;
        let reason = || run.error.clone().unwrap_or_else(|| "it was cancelled".into());
        let failure =
            (run.state != RunState::Completed).then(|| Failure { reason: reason(), exhausted: run.exhausted });
        Some(Gone::Ended(number, Outcome { output: run.output.clone(), failure }))
    }

    /// Takes back the errands that wait; answers their numbers.
    pub(super) fn recall(&mut self) -> Vec<usize> {
        let waiting = self.slots.iter_mut().enumerate().filter(|(_, slot)| slot.stand == Stand::Waiting);
        waiting
            .map(|(number, slot)| {
                slot.stand = Stand::Ended;
                number
            })
            .collect()
    }

    fn number(&self, id: Uuid) -> Option<usize> {
        self.slots.iter().position(|slot| matches!(slot.stand, Stand::Out { id: out, .. } if out == id))
    }

    /// The named node, or the other node with the fewest of ours, then the least to do; this one if it is alone.
    fn place(&self, slot: &Slot, world: &World) -> NodeId {
        if let Some(node) = slot.errand.node.as_deref().and_then(|text| find_place(world.places, text)) {
            return node;
        }
        let others = || world.places.iter().filter(|p| p.id != world.me && !p.load.draining);
        let rank = |p: &&Place| {
            let work = u32::from(p.load.running) + u32::from(p.load.queued);
            (self.sent.get(&p.id).copied().unwrap_or(0), work, p.load.cpu_permille, p.id)
        };
        let untried = others().filter(|p| !slot.tried.contains(&p.id)).min_by_key(rank);
        untried.or_else(|| others().min_by_key(rank)).map_or(world.me, |place| place.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::Strategy;
    use std::cell::Cell;

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    fn places(nodes: &[(u8, u16)]) -> Vec<Place> {
        let place = |(n, running): &(u8, u16)| Place {
            id: node(*n),
            name: format!("n{n}"),
            load: Load { running: *running, ..Load::default() },
        };
        nodes.iter().map(place).collect()
    }

    fn with<T>(places: &[Place], work: impl FnOnce(&World) -> T) -> T {
        let count = Cell::new(0);
        let fresh = || {
            count.set(count.get() + 1);
            Uuid::from_u128(count.get() * 1000 + u128::from(places.len() as u32))
        };
        work(&World { now_ms: 0, me: node(1), places, fresh: &fresh })
    }

    fn errands(n: usize, at: Option<&str>) -> Vec<Errand> {
        let errand = Errand {
            purpose: "map",
            goal: "g".into(),
            strategy: Strategy::Answer,
            tools: Vec::new(),
            node: at.map(str::to_owned),
            documents: Vec::new(),
        };
        vec![errand; n]
    }

    #[test]
    fn errands_spread_over_the_other_nodes_and_only_so_many_are_out() {
        let mut children = Children::default();
        children.send(errands(20, None));
        let starts = with(&places(&[(1, 0), (2, 9), (3, 0)]), |world| children.due(world));
        assert_eq!(starts.len(), AT_ONCE_MAX);
        assert_eq!(starts[0].node, node(3), "the idle one first");
        assert_eq!(starts.iter().filter(|s| s.node == node(2)).count(), AT_ONCE_MAX / 2);
    }

    #[test]
    fn a_lost_errand_goes_to_a_node_that_was_not_tried_and_its_old_run_is_ignored() {
        let mut children = Children::default();
        children.send(errands(1, Some("n2")));
        let first = with(&places(&[(1, 0), (2, 0), (3, 5)]), |world| children.due(world)).remove(0);
        assert_eq!(first.node, node(2));
        assert_eq!(with(&places(&[(1, 0), (3, 5)]), |world| children.stranded(world)), [(first.id, node(2))]);
        assert_eq!(children.lost(first.id, "down"), Some(Gone::Again));
        let second = with(&places(&[(1, 0), (3, 5)]), |world| children.due(world)).remove(0);
        assert_eq!((second.node, children.lost(first.id, "late")), (node(3), None));
    }

    #[test]
    fn the_third_loss_is_the_last() {
        let mut children = Children::default();
        children.send(errands(1, None));
        for attempt in 1..=ATTEMPTS_MAX {
            let start =
                with(&places(&[(1, 0), (2, 0)][..1 + attempt as usize % 2]), |world| children.due(world)).remove(0);
            let gone = children.lost(start.id, "down").unwrap();
            assert_eq!(matches!(gone, Gone::Ended(0, _)), attempt == ATTEMPTS_MAX);
        }
    }

    #[test]
    fn a_swarm_of_one_works_alone_and_a_draining_node_is_left_in_peace() {
        let mut children = Children::default();
        children.send(errands(1, None));
        let mut all = places(&[(1, 0), (2, 0)]);
        all[1].load.draining = true;
        assert_eq!(with(&all, |world| children.due(world))[0].node, node(1));
    }
}
