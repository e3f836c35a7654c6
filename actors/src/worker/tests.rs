//! One core against a simple model of what was promised: random orders of submissions, takes, silences, ends and disks
//! that refuse.

use super::{
    core::{Action, Core, Now, Wrote},
    job::{Needs, Slip, State},
    messages::{Claim, Finish, WorkerError},
    registry::{NewWorker, Worker},
};
use crate::{ownership::Presence, scheduler::messages::Priority};
use proptest::prelude::*;
use skep_runtime::NodeId;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use uuid::Uuid;

const WORKERS: [&str; 3] = ["plain", "able", "other"];
const CLASSES: [Priority; 3] = [Priority::Low, Priority::High, Priority::Urgent];

#[derive(Debug, Clone)]
enum Step {
    Submit {
        class: usize,
        able: bool,
    },
    Take(usize),
    /// The oldest write comes to its end, well or not.
    Disk(bool),
    Finish {
        worker: usize,
        job: usize,
    },
    Beat(usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3_usize, any::<bool>()).prop_map(|(class, able)| Step::Submit { class, able }),
        3 => (0..3_usize).prop_map(Step::Take),
        8 => prop::bool::weighted(0.9).prop_map(Step::Disk),
        3 => (0..3_usize, 0..64_usize).prop_map(|(worker, job)| Step::Finish { worker, job }),
        2 => (0..3_usize).prop_map(Step::Beat),
        3 => (0..40_u64).prop_map(Step::Pass),
    ]
}

/// A write under way, and what waits for it.
struct Write {
    slip: Slip,
    claim: Option<(u64, Uuid)>,
    new: bool,
}

/// A core, a disk, and what was promised.
struct Stage {
    core: Core,
    now: Now,
    writes: Vec<Write>,
    /// Acknowledged submissions.
    taken: BTreeSet<Uuid>,
    /// Who ended what, as it was acknowledged.
    ended: BTreeMap<Uuid, String>,
    /// Jobs that the disk refused to give away, for a while.
    refused: BTreeMap<Uuid, Duration>,
    count: u128,
}

fn me() -> NodeId {
    NodeId::from_bytes([1; 32])
}

impl Stage {
    fn new() -> Stage {
        let mut core = Core::new(me(), Vec::new());
        for id in WORKERS {
            let capabilities = if id == "plain" { BTreeSet::new() } else { ["gpu".to_owned()].into() };
            let said =
                NewWorker { id: id.into(), kind: "worker".into(), capabilities, weight: 1, ..NewWorker::default() };
            core.registry.note(id, Some(Worker { said, home: me(), registered_ms: 0 }));
        }
        let now = Now { wall_ms: 1, uptime: Duration::ZERO, draw: 7 };
        core.fleet([Presence { id: me(), up: true, ever_up: true }].into_iter(), now);
        core.release(now);
        let (writes, taken, ended) = (Vec::new(), BTreeSet::new(), BTreeMap::new());
        Stage { core, now, writes, taken, ended, refused: BTreeMap::new(), count: 0 }
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Save(slip) => self.writes.push(Write { slip: *slip, claim: None, new: false }),
                Action::Claim(ticket, owner, claim) => {
                    assert_eq!(owner, me());
                    self.no_better_one_waits(&claim);
                    match self.core.assign(&claim, self.now) {
                        Ok(slip) => self.writes.push(Write { slip, claim: Some((ticket, claim.job)), new: false }),
                        Err(_) => self.claimed(ticket, claim.job, None),
                    }
                }
                Action::Delete(..)
                | Action::Nothing(_)
                | Action::Renew(..)
                | Action::Release(..)
                | Action::Adopt(_)
                | Action::Forget(_) => {}
            }
        }
    }

    fn claimed(&mut self, ticket: u64, job: Uuid, slip: Option<Slip>) {
        if slip.is_none() {
            self.refused.insert(job, self.now.uptime + Duration::from_secs(2));
        }
        let (_, actions) = self.core.claimed(ticket, job, slip, self.now);
        self.act(actions);
    }

    /// Nobody is given a job while a more urgent one waits that it could do.
    fn no_better_one_waits(&self, claim: &Claim) {
        let given = self.core.get(claim.job).expect("it is known").clone();
        let worker = self.core.registry.get(&claim.worker).expect("it is registered");
        let could = |slip: &&Slip| {
            slip.state == State::Queued
                && slip.needs.are_met_by(&worker.said.kind, &worker.said.capabilities)
                && !self.core.is_writing(slip.id)
        };
        let better = self.taken.iter().filter_map(|id| self.core.get(*id)).filter(could);
        let better: Vec<_> = better.filter(|slip| slip.priority > given.priority).collect();
        // Where the disk has just refused one, its taker asks for the next while others' are on their way.
        if self.refused.is_empty() {
            assert!(better.is_empty(), "{given:?} was given, and {better:?} waited");
        }
    }

    fn play(&mut self, step: Step) {
        match step {
            Step::Submit { class, able } => {
                self.count += 1;
                let capabilities = if able { ["gpu".to_owned()].into() } else { BTreeSet::new() };
                let (id, needs) = (Uuid::from_u128(self.count), Needs { capabilities, kind: None });
                let slip = self.core.submit(id, 10, CLASSES[class], needs, self.now).expect("there is room");
                self.writes.push(Write { slip, claim: None, new: true });
            }
            Step::Take(worker) => {
                let mut actions = self.core.hear(WORKERS[worker], None, self.now);
                self.core.wait(WORKERS[worker], Duration::from_secs(10), 15, self.now).expect("there is room");
                actions.extend(self.core.pump(self.now));
                self.act(actions);
            }
            Step::Disk(well) if !self.writes.is_empty() => {
                let Write { slip, claim, new } = self.writes.remove(0);
                let id = slip.id;
                if new && !well {
                    return self.core.withdrawn(id);
                }
                let given = (claim.is_some() && well).then(|| slip.clone());
                let ended = (well && slip.state.ended() && slip.assigned_ms.is_some()).then(|| slip.worker.clone());
                let actions = self.core.written(slip, if well { Wrote::Yes } else { Wrote::No }, self.now);
                if new {
                    self.taken.insert(id);
                }
                if let Some(worker) = ended.flatten() {
                    let first = self.ended.entry(id).or_insert(worker.clone());
                    assert_eq!(*first, worker, "a job was ended by two workers");
                }
                self.act(actions);
                if let Some((ticket, job)) = claim {
                    self.claimed(ticket, job, given);
                }
            }
            Step::Disk(_) => {}
            Step::Finish { worker, job } => {
                let Some(id) = self.taken.iter().nth(job % self.taken.len().max(1)).copied() else { return };
                let before = self.core.get(id).cloned().expect("what was acknowledged is known");
                let finish = Finish {
                    worker: WORKERS[worker].into(),
                    job: id,
                    attempt: None,
                    ok: true,
                    result: None,
                    error: None,
                };
                match self.core.finish(&finish, self.now) {
                    Ok(slip) => {
                        assert_eq!(before.worker.as_deref(), Some(WORKERS[worker]), "it was never this worker's");
                        self.writes.push(Write { slip, claim: None, new: false });
                    }
                    Err(WorkerError::Lost(_)) => assert!(
                        before.worker.as_deref() != Some(WORKERS[worker]) || before.state.ended(),
                        "{before:?} was refused to its own worker"
                    ),
                    Err(error) => assert_eq!(error, WorkerError::Busy),
                }
            }
            Step::Beat(worker) => {
                let actions = self.core.hear(WORKERS[worker], None, self.now);
                self.core.renew(WORKERS[worker], self.now);
                self.act(actions);
            }
            Step::Pass(seconds) => {
                for _ in 0..seconds {
                    self.now.uptime += Duration::from_secs(1);
                    self.now.wall_ms += 1000;
                    self.refused.retain(|_, until| *until >= self.now.uptime);
                    let actions = self.core.tick(self.now);
                    self.act(actions);
                }
            }
        }
        for id in &self.taken {
            let slip = self.core.get(*id).expect("what was acknowledged is known");
            assert!(slip.attempts <= super::core::ATTEMPTS_MAX, "{slip:?}");
            assert!(slip.state != State::Failed || slip.error.is_some(), "it failed without a reason: {slip:?}");
        }
    }

    /// Everything works from now on: all that was acknowledged ends.
    fn calm(&mut self) {
        for _ in 0..2000 {
            while !self.writes.is_empty() {
                self.play(Step::Disk(true));
            }
            if self.taken.iter().all(|id| self.core.get(*id).is_some_and(|slip| slip.state.ended())) {
                return;
            }
            for job in 0..self.taken.len() {
                self.play(Step::Finish { worker: 1, job });
            }
            self.play(Step::Take(1));
            self.play(Step::Pass(1));
        }
        panic!("some never end: {:?}", self.core.queued());
    }
}

proptest! {
    #[test]
    fn what_is_acknowledged_ends_once_whatever_disks_and_workers_do(steps in prop::collection::vec(step(), 1..120)) {
        let mut stage = Stage::new();
        for step in steps {
            stage.play(step);
        }
        stage.calm();
        let open = stage.taken.iter().filter(|id| stage.core.get(**id).is_none_or(|slip| !slip.state.ended())).count();
        prop_assert_eq!(open, 0);
    }
}
