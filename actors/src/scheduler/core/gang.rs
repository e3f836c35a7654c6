//! The part of the core that keeps gangs whole: placed together, recalled together, and ended when one is lost for good.
//!
//! Fairness: a gang that finds no room lets what stands behind it pass, so small commands could keep it from ever having
//! enough. Therefore every other [`PATIENCE`] of its wait nothing of its class or below passes it, if it could have room once
//! others have ended; not for longer, since what it waits for may never end. What other nodes own passes all the same. A gang
//! doesn't have others make way for it; it makes way as a whole.

use super::{Action, Core, Now, cancelled, failed, need};
use crate::scheduler::{
    messages::{Ending, ScheduleError, Spec, State},
    placement::{Candidate, Need, Taken, place},
};
use skep_runtime::NodeId;
use std::{collections::BTreeMap, time::Duration};
use uuid::Uuid;

/// How long a gang lets others pass, then holds them back, in turn: most commands end within it.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came of the attempt to place a gang.
pub(super) enum Tried {
    Placed,
    /// Others may pass.
    Waits,
    /// Nobody behind it may.
    HoldsBack,
}

impl Core {
    /// Gives all of a gang to nodes, if there is room for all that waits of it and nothing of it is anywhere else. `first` is
    /// the first in its line.
    pub(super) fn place_gang(
        &mut self,
        gang: Uuid,
        (need, first): (&Need, Uuid),
        fleet: &mut BTreeMap<NodeId, Candidate>,
        now: Now,
        out: &mut Vec<Action>,
    ) -> Tried {
        let count = self.queue.line_length(first);
        if !self.gangs.is_ready(gang, count, now.uptime) {
            return Tried::Waits;
        }
        let group = need.wish.apart.as_ref();
        let alone = |c: &&Candidate| group.is_none_or(|group| !self.running.has_of(group, c.id));
        let room = |fits: fn(&Candidate, &Need) -> u32, fleet: &[&Candidate]| -> u64 {
            fleet.iter().map(|c| u64::from(fits(c, need))).sum()
        };
        // What they need is the same, so that whether there is room for all can be told without placing them.
        if room(Candidate::fits, &fleet.values().filter(alone).collect::<Vec<_>>()) < count as u64 {
            let working: Vec<&Candidate> = fleet.values().filter(|c| c.up && !c.draining).collect();
            let could = room(Candidate::holds, &working) >= count as u64;
            let turn = self.gangs.waits(gang, now.uptime).as_secs() / PATIENCE.as_secs();
            return if could && turn % 2 == 1 { Tried::HoldsBack } else { Tried::Waits };
        }
        let mut left: BTreeMap<NodeId, Candidate> = fleet.clone();
        let mut chosen: Vec<(Uuid, NodeId)> = Vec::new();
        for (turn, id) in self.queue.line(first).enumerate() {
            let taken = |node: NodeId| chosen.iter().any(|(_, other)| *other == node);
            let able = left.values().filter(alone).filter(|c| group.is_none() || !taken(c.id));
            let Some(node) = place(need, able, self.turn.wrapping_add(turn), id) else { return Tried::Waits };
            left.entry(node).and_modify(|c| c.taken.add(Taken::by(need)));
            chosen.push((id, node));
        }
        for (id, node) in chosen {
            self.assign(id, node, need, fleet, out);
        }
        self.gangs.placed(gang);
        Tried::Placed
    }

    /// Whether all machines together could ever hold all of a gang. One whose card was not pulled yet may have it all.
    pub(super) fn admit_gang(&self, spec: &Spec) -> Result<(), ScheduleError> {
        let Some(gang) = spec.course.gang else { return Ok(()) };
        let (need, now) = (need(spec), Now { wall_ms: 0, uptime: Duration::ZERO });
        let peers = self.fleet.values();
        let peers: Vec<_> = peers.filter(|peer| need.forced.is_none_or(|id| id == peer.seen.id)).collect();
        let holds = |peer: &&super::Peer| super::candidate(peer, Taken::default(), now).holds(&need);
        let rooms: Vec<u32> = peers.iter().map(holds).collect();
        let room = rooms.iter().map(|room| u64::from(*room)).sum();
        if room >= u64::from(gang.count) || peers.iter().any(|peer| peer.seen.cpus == 0) {
            return Ok(());
        }
        let lines = peers.iter().zip(rooms).map(|(peer, room)| format!("{} {room}", peer.seen.name));
        let each = super::within(lines.collect(), ", ");
        Err(ScheduleError::NeverTogether { count: gang.count, nodes: peers.len() as u32, room, each })
    }

    /// Some of its gang can't go on where they were placed: what else runs of it is ended there, without a strike, and waits
    /// with them.
    pub(super) fn recall(&mut self, id: Uuid, now: Now, out: &mut Vec<Action>) {
        let Some(gang) = self.gang_of(id) else { return };
        let mut leaving = Vec::new();
        for other in self.gangs.open(gang) {
            let Some(node) = self.running.node(&other) else { continue };
            // What is to end anyway is waited for.
            let Some(record) = self.records.get(&other).filter(|record| !record.cancelling) else { continue };
            if self.is_up(node) {
                out.push(Action::Stop(node, other, record.attempts, record.term));
                leaving.extend(record.started_ms.map(|_| (other, record.attempts)));
            } else {
                self.revoke(node, other);
            }
            self.wait_again(other, out);
        }
        self.gangs.recalled(gang, leaving, now.uptime);
    }

    /// What was submitted, read from disk or taken over may be of a gang that has lost one, or that was written down in parts.
    pub(super) fn mend(&mut self, gang: Uuid, now: Now, out: &mut Vec<Action>) {
        if let Some((id, state)) = self.gangs.broken(gang) {
            let ends = self.disband(gang, id, state, out);
            return ends.into_iter().for_each(|(id, ending)| self.end(id, ending, now, out));
        }
        let (known, count) = self.gangs.known(gang);
        if known < count {
            return;
        }
        let open = self.gangs.open(gang);
        let runs = open.iter().filter(|id| self.running.node(id).is_some()).count();
        if let Some(one) = open.first().filter(|_| 0 < runs && runs < open.len()) {
            self.recall(*one, now, out);
        }
    }

    /// One more of a gang was submitted: it must be like the others.
    pub(super) fn match_gang(&mut self, id: Uuid, now: Now, out: &mut Vec<Action>) {
        let Some(gang) = self.gang_of(id) else { return };
        let of = |id: &Uuid| self.records.get(id).map(|record| (record.spec.priority, need(&record.spec)));
        if self.gangs.another(gang, id).is_some_and(|other| of(&other) != of(&id)) {
            let why = "it needs something else than the rest of its gang, or is of another class";
            self.end(id, failed(why.into()), now, out);
        }
        self.mend(gang, now, out);
    }

    /// One of a gang is lost for good: what waits of the rest is to end, and what runs is told to.
    pub(super) fn disband(&mut self, gang: Uuid, id: Uuid, state: State, out: &mut Vec<Action>) -> Vec<(Uuid, Ending)> {
        let mut ends = Vec::new();
        for other in self.gangs.open(gang) {
            let (node, record) = (self.running.node(&other), self.records.get_mut(&other));
            match (node, record) {
                (Some(node), Some(record)) if !record.cancelling => {
                    record.cancelling = true;
                    out.push(Action::Save(Box::new(record.clone())));
                    out.push(Action::Stop(node, other, record.attempts, record.term));
                }
                (None, Some(_)) => ends.push((other, broken(id, state))),
                _ => {}
            }
        }
        ends
    }

    /// How one ends that was cancelled because its gang had lost another: as that one did.
    pub(super) fn as_its_gang(&self, id: Uuid, ending: Ending) -> Ending {
        let cancelling = self.records.get(&id).is_some_and(|record| record.cancelling && !record.overdue);
        let first = self.gang_of(id).filter(|_| cancelling).and_then(|gang| self.gangs.broken(gang));
        match first.filter(|_| ending.state == State::Cancelled) {
            Some((first, state)) => {
                let Ending { state, error, .. } = broken(first, state);
                Ending { state, error, ..ending }
            }
            None => ending,
        }
    }

    /// Gangs that will never be known in full here: a part was never given, or another node decides about it. What waits of
    /// them ends, and the rest with it.
    pub(super) fn incomplete_gangs(&mut self, now: Now, out: &mut Vec<Action>) {
        for gang in self.gangs.missing(now.uptime) {
            let Some(waiting) = self.gangs.open(gang).into_iter().find(|id| self.queue.has(*id)) else { continue };
            let (known, count) = self.gangs.known(gang);
            let why = format!(
                "{known} of the {count} tasks of its gang are known to node {}, which decides about it: the others were \
                 never given, or another node decides about them",
                self.name(self.me)
            );
            self.end(waiting, failed(why), now, out);
        }
    }

    /// A node runs one of a gang: once all of it does, it rests no longer than at first when it is recalled.
    pub(super) fn gang_runs(&mut self, id: Uuid) {
        let Some(gang) = self.gang_of(id).filter(|gang| self.gangs.was_recalled(*gang)) else { return };
        let runs = |id: &Uuid| self.records.get(id).is_some_and(|record| record.started_ms.is_some());
        if self.gangs.open(gang).iter().all(runs) {
            self.gangs.runs(gang);
        }
    }

    /// The gang of a command.
    pub(super) fn gang_of(&self, id: Uuid) -> Option<Uuid> {
        self.records.get(&id)?.gang()
    }
}

/// How those end whose gang has lost one for good.
fn broken(id: Uuid, state: State) -> Ending {
    match state {
        State::Cancelled => cancelled(Some(format!("task {id} of its gang was cancelled"))),
        _ => failed(format!("task {id} of its gang failed")),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};
    use crate::{
        scheduler::{
            core::{Refusal, Seen, spec},
            course::{Course, Gang},
            gangs::MISSING_MAX,
            messages::{Priority, Record, Term},
            wish::Wish,
        },
        task::Level,
    };
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    /// One of a gang of so many, each of which needs a core.
    fn member(gang: u128, count: u32) -> Spec {
        let course = Course { gang: Some(Gang { id: id(gang), count }), ..Course::default() };
        Spec { cpus: 1, course, ..spec("sleep 60") }
    }

    fn one() -> Spec {
        Spec { cpus: 1, ..spec("sleep 60") }
    }

    /// Two nodes of two cores, and a gang that takes three of them, all of which its nodes took.
    fn running() -> Core {
        let mut core = core(&[true, true]);
        (1..=3).for_each(|n| drop(submit(&mut core, n, member(100, 3))));
        (1..=3).for_each(|n| drop(answer(&mut core, n, Ok(Level::Landlock), 1)));
        core
    }

    fn answer(core: &mut Core, n: u128, outcome: Result<Level, Refusal>, s: u64) -> Vec<Action> {
        let record = core.get(id(n)).unwrap().clone();
        core.ran(record.assigned.unwrap(), id(n), (record.attempts, record.term), outcome, at(s))
    }

    fn ends(core: &mut Core, n: u128, attempt: u32, ending: Ending, s: u64) -> Vec<Action> {
        core.moved(id(n), attempt, core.get(id(n)).map_or(term(), |record| record.term), ending, at(s))
    }

    fn states(core: &Core, ids: impl IntoIterator<Item = u128>) -> Vec<State> {
        ids.into_iter().map(|n| state(core, n).0).collect()
    }

    fn stopped(actions: &[Action]) -> BTreeSet<(Uuid, u32)> {
        let stop = |action: &Action| if let Action::Stop(_, id, n, _) = action { Some((*id, *n)) } else { None };
        actions.iter().filter_map(stop).collect()
    }

    #[test]
    fn all_of_a_gang_are_placed_by_one_decision() {
        let mut core = core(&[true, true]);
        for n in 1..=2 {
            assert_eq!(placed_on(&submit(&mut core, n, member(100, 3))), [], "not all are known");
        }
        let placed = placed_on(&submit(&mut core, 3, member(100, 3)));
        assert_eq!((placed.len(), placed.iter().collect::<BTreeSet<_>>().len()), (3, 2));
        // A group that keeps apart does so within a gang, too.
        let wish = Wish { apart: Some("g".into()), ..Wish::default() };
        let apart = || Spec { wish: wish.clone(), cpus: 0, ..member(101, 2) };
        submit(&mut core, 4, apart());
        let placed = placed_on(&submit(&mut core, 5, apart()));
        assert_eq!(placed.iter().collect::<BTreeSet<_>>().len(), 2);
    }

    #[test]
    fn a_gang_without_room_holds_nothing_and_lets_others_pass_but_not_for_ever() {
        let mut core = core(&[true, true]);
        submit(&mut core, 1, one());
        (2..=5).for_each(|n| assert_eq!(placed_on(&submit(&mut core, n, member(100, 4))), []));
        assert_eq!(placed_on(&submit(&mut core, 6, one())).len(), 1);
        // For a while it holds back whoever came later, but for a higher class.
        assert_eq!(placed_on(&core.tick(at(1 + PATIENCE.as_secs()))), []);
        let mut submit_late = |n, spec, s| {
            let record = core.record(id(n), spec, at(s));
            placed_on(&core.submit(record, at(s))).len()
        };
        assert_eq!(submit_late(7, one(), 61), 0);
        assert_eq!(submit_late(8, Spec { priority: Priority::High, ..one() }, 61), 1);
        // What it waits for may never end.
        assert_eq!(placed_on(&core.tick(at(121))).len(), 1);
        assert_eq!(states(&core, 2..=5), [State::Pending; 4]);
        for n in [1, 6, 8] {
            assert_eq!(placed_on(&ends(&mut core, n, 1, done(), 122)), []);
        }
        assert_eq!(placed_on(&ends(&mut core, 7, 1, done(), 122)).len(), 4);
    }

    #[test]
    fn a_gang_that_could_have_no_room_even_without_others_holds_nobody_back() {
        let mut core = core(&[true, true]);
        core.fleet(vec![seen(1, false)], &[], at(1));
        (2..=5).for_each(|n| drop(submit(&mut core, n, member(100, 4))));
        core.tick(at(1 + PATIENCE.as_secs()));
        let record = core.record(id(6), one(), at(62));
        assert_eq!(placed_on(&core.submit(record, at(62))).len(), 1);
    }

    #[test]
    fn one_that_is_refused_recalls_the_others_and_all_start_together_when_those_have_ended() {
        let mut core = core(&[true, true]);
        (1..=3).for_each(|n| drop(submit(&mut core, n, member(100, 3))));
        answer(&mut core, 1, Ok(Level::Landlock), 1);
        let out = answer(&mut core, 2, Err(Refusal::NoRoom), 1);
        assert_eq!(states(&core, 1..=3), [State::Pending; 3]);
        assert_eq!(stopped(&out), [(id(1), 1), (id(3), 1)].into());
        assert_eq!(core.get(id(1)).unwrap().strikes, 0);
        assert_eq!(placed_on(&core.tick(at(4))), [], "the first still runs");
        let out = ends(&mut core, 1, 1, failed("told to end".into()), 4);
        assert_eq!(placed_on(&out).len(), 3);
        let attempts: Vec<u32> = (1..=3).map(|n| core.get(id(n)).unwrap().attempts).collect();
        assert_eq!(attempts, [2, 1, 2], "one that was refused is none");
        // A node that is silent is like one that refuses; the more often, the longer the rest.
        answer(&mut core, 2, Err(Refusal::Silent("lost".into())), 5);
        assert_eq!(states(&core, 1..=3), [State::Pending; 3]);
        assert_eq!(core.get(id(2)).unwrap().strikes, 1);
        assert_eq!(placed_on(&core.tick(at(6))), []);
        assert_eq!(placed_on(&core.tick(at(7))).len(), 3);
        // Who is never heard of again must have ended it.
        (1..=3).for_each(|n| drop(answer(&mut core, n, Ok(Level::Landlock), 7)));
        answer(&mut core, 2, Err(Refusal::NoRoom), 8);
        assert_eq!(placed_on(&core.tick(at(16))), []);
        assert_eq!(placed_on(&core.tick(at(17))).len(), 3);
    }

    #[test]
    fn a_node_that_dies_recalls_the_others_and_one_that_has_completed_stays_so() {
        let mut core = running();
        core.fleet(vec![seen(2, true)], &[], at(2));
        ends(&mut core, 1, 1, done(), 2);
        let dead = core.get(id(2)).unwrap().assigned.unwrap();
        let (n, other) = if dead == node(0) { (0, 1) } else { (1, 0) };
        let out = core.fleet(vec![seen(n, false), seen(other, true)], &[], at(3));
        assert_eq!(states(&core, 1..=3), [State::Completed, State::Pending, State::Pending]);
        assert!(stopped(&out).len() <= 1);
        let strikes: u32 = (2..=3).map(|n| core.get(id(n)).unwrap().strikes).sum();
        assert_eq!(strikes, 1, "one node died");
        let out = core.tick(at(20));
        assert_eq!(placed_on(&out).len(), 2);
        assert!(!placed_on(&out).contains(&dead));
        // What it may still run is ended when it is back.
        assert!(stopped(&core.fleet(vec![seen(n, true)], &[], at(21))).contains(&(id(2), 1)));
    }

    #[test]
    fn one_that_fails_and_may_be_tried_again_takes_the_others_along() {
        let mut core = core(&[true, true]);
        let again = || {
            let spec = member(100, 3);
            Spec { course: Course { retries: 1, ..spec.course }, ..spec }
        };
        (1..=3).for_each(|n| drop(submit(&mut core, n, again())));
        let out = ends(&mut core, 1, 1, failed("status 1".into()), 10);
        assert_eq!((states(&core, 1..=3), stopped(&out).len()), (vec![State::Pending; 3], 2));
        assert_eq!(placed_on(&core.tick(at(10))), []);
        assert_eq!(placed_on(&core.tick(at(11))).len(), 3);
        // Then it has failed for good.
        let out = ends(&mut core, 1, 2, failed("status 1".into()), 12);
        assert_eq!(stopped(&out), [(id(2), 2), (id(3), 2)].into());
        ends(&mut core, 2, 2, cancelled(None), 13);
        ends(&mut core, 3, 2, done(), 13);
        let why = format!("task {} of its gang failed", id(1));
        assert_eq!(state(&core, 2), (State::Failed, Some(why.as_str())));
        assert_eq!(state(&core, 3), (State::Completed, None), "it was faster");
    }

    #[test]
    fn one_that_is_cancelled_takes_the_others_along_whether_they_wait_or_run() {
        let why = format!("task {} of its gang was cancelled", id(2));
        let mut waits = core(&[true]);
        submit(&mut waits, 9, one());
        (1..=2).for_each(|n| drop(submit(&mut waits, n, member(100, 2))));
        waits.cancel(id(2), at(2)).unwrap();
        assert_eq!(state(&waits, 1), (State::Cancelled, Some(why.as_str())));
        let mut runs = running();
        runs.cancel(id(2), at(2)).unwrap();
        assert_eq!(states(&runs, 1..=3), [State::Running; 3]);
        let out = ends(&mut runs, 2, 1, cancelled(None), 3);
        assert_eq!(stopped(&out), [(id(1), 1), (id(3), 1)].into());
        // Neither is it placed again when its node dies now.
        runs.fleet(vec![seen(0, false), seen(1, false)], &[], at(4));
        assert_eq!(state(&runs, 1), (State::Cancelled, Some(why.as_str())));
        assert_eq!(state(&runs, 3), (State::Cancelled, Some(why.as_str())));
    }

    #[test]
    fn who_comes_later_than_the_end_of_its_gang_ends_with_it_and_so_does_who_is_not_like_it() {
        let mut core = core(&[true]);
        submit(&mut core, 1, member(100, 2));
        core.cancel(id(1), at(1)).unwrap();
        submit(&mut core, 2, member(100, 2));
        assert_eq!(state(&core, 2).0, State::Cancelled);
        submit(&mut core, 3, member(101, 2));
        submit(&mut core, 4, Spec { cpus: 2, ..member(101, 2) });
        assert!(state(&core, 4).1.unwrap().contains("something else"));
        assert_eq!(states(&core, 3..=4), [State::Failed; 2]);
    }

    #[test]
    fn a_gang_makes_way_as_a_whole_but_not_before_others() {
        let mut core = running();
        submit(&mut core, 4, one());
        let urgent = |cpus| Spec {
            priority: Priority::Urgent,
            course: Course { preempts: true, ..Course::default() },
            ..Spec { cpus, ..one() }
        };
        submit(&mut core, 5, urgent(1));
        assert_eq!(states(&core, 1..=5), [[State::Running; 3].as_slice(), &[State::Pending, State::Running]].concat());
        let out = submit(&mut core, 6, urgent(2));
        assert_eq!(states(&core, 1..=3), [State::Pending; 3]);
        assert_eq!(stopped(&out).len(), 3);
        assert_eq!((state(&core, 4).0, state(&core, 6).0), (State::Running, State::Running));
    }

    #[test]
    fn more_than_all_machines_could_hold_at_once_are_refused() {
        let core = core(&[true, false]);
        assert_eq!(core.admit(&member(100, 4)), Ok(()));
        let refused = core.admit(&member(100, 5)).unwrap_err().to_string();
        let said = "these 5 can never run at once: all 2 nodes together have room for 4 (n0 2, n1 2)";
        assert_eq!(refused, said);
        let wish = Wish { apart: Some("g".into()), ..Wish::default() };
        assert!(core.admit(&Spec { wish, ..member(100, 3) }).unwrap_err().to_string().ends_with("2 (n0 1, n1 1)"));
        let there = Spec { node: Some(node(0).to_string()), ..member(100, 3) };
        assert!(core.admit(&there).unwrap_err().to_string().contains("all 1 nodes together have room for 2 (n0 2)"));
    }

    #[test]
    fn a_gang_of_which_a_part_never_comes_ends_with_that_reason() {
        let mut core = core(&[true, true]);
        submit(&mut core, 1, member(100, 3));
        core.tick(at(2));
        submit(&mut core, 2, member(100, 3));
        core.tick(at(3));
        core.tick(at(2 + MISSING_MAX.as_secs()));
        assert_eq!(states(&core, 1..=2), [State::Pending; 2]);
        core.tick(at(3 + MISSING_MAX.as_secs()));
        assert_eq!(states(&core, 1..=2), [State::Failed; 2]);
        let why = state(&core, 1).1.unwrap_or_default().to_owned() + state(&core, 2).1.unwrap_or_default();
        assert!(why.contains("2 of the 3 tasks of its gang are known to node n0"), "{why}");
    }

    #[test]
    fn what_was_written_down_or_taken_over_in_parts_is_made_whole() {
        let half = || {
            let mut records: Vec<Record> = running().records.into_values().collect();
            (records[0].state, records[0].assigned, records[0].attempts) = (State::Pending, None, 0);
            records
        };
        let mut again = Core::new(node(0), half());
        again.fleet(vec![seen(0, true), seen(1, true)], &[], at(0));
        let out = again.release(at(0));
        assert_eq!((states(&again, 1..=3), placed_on(&out)), (vec![State::Pending; 3], vec![]));
        assert_eq!(placed_on(&again.tick(at(9))).len(), 3);

        let mut heir = core(&[true, true]);
        for record in half() {
            assert_eq!(states(&heir, heir.records.keys().map(|id| id.as_u128())).len(), heir.records.len());
            let term = record.term.next(node(0));
            heir.adopt(Record { term, ..record }, at(1));
        }
        assert_eq!(states(&heir, 1..=3), [State::Pending; 3]);
        assert_eq!(placed_on(&heir.tick(at(10))).len(), 3);
    }

    #[derive(Debug, Clone)]
    enum Event {
        /// A gang of so many that need so many cores, whether they keep apart, with so many retries.
        Gang(u32, u16, bool, u8),
        /// Alone; whether others make way.
        Alone(u16, bool),
        Members(Vec<bool>),
        Ran(u8, u8),
        Moved(u8, u8),
        Cancel(u8),
        Disown(u8),
        Restart,
        Pass(u8),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            3 => (1u32..6, 0u16..3, any::<bool>(), 0u8..2).prop_map(|(n, c, a, r)| Event::Gang(n, c, a, r)),
            2 => (0u16..3, any::<bool>()).prop_map(|(cpus, preempts)| Event::Alone(cpus, preempts)),
            2 => prop::collection::vec(prop::bool::weighted(0.8), 3).prop_map(Event::Members),
            4 => (any::<u8>(), 0u8..8).prop_map(|(i, outcome)| Event::Ran(i, outcome)),
            4 => (any::<u8>(), 0u8..6).prop_map(|(i, how)| Event::Moved(i, how)),
            1 => any::<u8>().prop_map(Event::Cancel),
            1 => any::<u8>().prop_map(Event::Disown),
            1 => Just(Event::Restart),
            3 => (1u8..20).prop_map(Event::Pass),
        ]
    }

    fn fleet(cpus: &[u16], up: &[bool]) -> Vec<Seen> {
        let one = |(n, (cpus, up)): (usize, (&u16, &bool))| Seen { cpus: *cpus, ..seen(n as u8, *up) };
        cpus.iter().zip(up).enumerate().map(one).collect()
    }

    /// Of each gang that is known in full and has lost none: all that have not ended and are not to, are placed, or none is.
    fn half_placed(core: &Core) -> Option<Uuid> {
        let mut gangs: BTreeMap<Uuid, (u32, BTreeSet<bool>)> = BTreeMap::new();
        for record in core.records.values() {
            let Some(gang) = record.spec.course.gang else { continue };
            let (known, placed) = gangs.entry(gang.id).or_insert((0, BTreeSet::new()));
            *known += 1;
            if !record.state.ended() && !record.cancelling {
                placed.insert(core.running.node(&record.id).is_some());
            }
        }
        let counts = |gang: &Uuid| core.records.values().find_map(|r| r.spec.course.gang.filter(|g| g.id == *gang));
        let half = |(gang, (known, placed)): (Uuid, (u32, BTreeSet<bool>))| {
            let whole = counts(&gang).is_some_and(|gang| known == gang.count);
            (whole && placed.len() > 1).then_some(gang)
        };
        gangs.into_iter().find_map(half)
    }

    proptest! {
        /// Whatever is submitted, refused, lost, cancelled or restarted: no decision leaves a gang half placed, nothing is
        /// given to a node without room, and when the trouble is over everything ends.
        #[test]
        fn no_decision_leaves_a_gang_half_placed(
            cpus in prop::collection::vec(1u16..4, 3), events in prop::collection::vec(event(), 1..60),
        ) {
            let mut core = core(&[]);
            core.fleet(fleet(&cpus, &[true; 3]), &[], at(0));
            let (mut up, mut s, mut n) = (vec![true; 3], 1, 0u128);
            for event in events {
                let ids: Vec<Uuid> = core.records.keys().copied().collect();
                let pick = |i: u8| ids.get(i as usize % ids.len().max(1)).copied().unwrap_or_default();
                let of = |core: &Core, id| core.get(id).map_or((0, Term::default()), |r| (r.attempts, r.term));
                match event {
                    Event::Gang(count, cpus, apart, retries) => {
                        let wish = Wish { apart: apart.then(|| "g".into()), ..Wish::default() };
                        let spec = Spec { cpus, wish, ..member(1000 + n, count) };
                        let spec = Spec { course: Course { retries, ..spec.course }, ..spec };
                        if core.admit(&spec).is_ok() {
                            for _ in 0..count {
                                n += 1;
                                let record = core.record(id(n), spec.clone(), at(s));
                                core.submit(record, at(s));
                                prop_assert_eq!(half_placed(&core), None);
                            }
                        }
                    }
                    Event::Alone(cpus, preempts) => {
                        n += 1;
                        let priority = if preempts { Priority::High } else { Priority::Normal };
                        let spec = Spec { cpus, priority, course: Course { preempts, ..Course::default() }, ..one() };
                        if core.admit(&spec).is_ok() {
                            let record = core.record(id(n), spec, at(s));
                            core.submit(record, at(s));
                        }
                    }
                    Event::Members(now) => {
                        up = now;
                        core.fleet(fleet(&cpus, &up), &[], at(s));
                    }
                    Event::Ran(i, outcome) => {
                        let id = pick(i);
                        let outcome = match outcome {
                            0 => Err(Refusal::NoRoom),
                            1 => Err(Refusal::Silent("s".into())),
                            2 => Err(Refusal::Never("n".into())),
                            3 => Err(Refusal::Further(of(&core, id).0 + 1)),
                            _ => Ok(Level::Landlock),
                        };
                        if let Some(node) = core.running.node(&id) {
                            core.ran(node, id, of(&core, id), outcome, at(s));
                        }
                    }
                    Event::Moved(i, how) => {
                        let id = pick(i);
                        let ending = match how {
                            0 => failed("it said so".into()),
                            1 => Ending { lost: true, ..done() },
                            2 => cancelled(None),
                            _ => done(),
                        };
                        let (attempt, term) = of(&core, id);
                        core.moved(id, attempt, term, ending, at(s));
                    }
                    Event::Cancel(i) => drop(core.cancel(pick(i), at(s))),
                    Event::Disown(i) => drop(core.disown(pick(i))),
                    Event::Restart => {
                        core = Core::new(node(0), core.records.into_values().collect());
                        core.fleet(fleet(&cpus, &up), &[], at(s));
                        core.release(at(s));
                    }
                    Event::Pass(seconds) => {
                        s += u64::from(seconds);
                        core.tick(at(s));
                    }
                }
                prop_assert_eq!(half_placed(&core), None);
                for (candidate, cpus) in core.candidates(at(s)).values().zip(&cpus) {
                    prop_assert!(candidate.taken.cpus <= u32::from(*cpus));
                }
            }
            core.fleet(fleet(&cpus, &[true; 3]), &[], at(s));
            for _ in 0..400 {
                s += 1;
                core.tick(at(s));
                prop_assert_eq!(half_placed(&core), None);
                for id in core.records.keys().copied().collect::<Vec<_>>() {
                    let record = core.get(id).unwrap().clone();
                    if core.running.node(&id).is_some() {
                        core.moved(id, record.attempts, record.term, done(), at(s));
                    }
                }
            }
            let open: Vec<&Record> = core.records.values().filter(|record| !record.state.ended()).collect();
            prop_assert!(open.is_empty(), "these never end: {:?}", open);
        }
    }
}
