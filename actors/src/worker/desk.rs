//! Where the core lies, and the hands that execute its actions.
//!
//! Everything changes the core through [`Desk::change`]: under one lock that is never held over an await. A job has one
//! write under way at most, so that writes of several jobs need no order.

use super::{
    core::{Action, Core, Now, Wrote},
    job::{JOBS, Job, Slip, Work},
    messages::{Message, Release, WorkerError},
    registry::WORKERS,
};
use crate::{Context, ledger, ownership::Presence};
use ractor::RpcReplyPort;
use skep_runtime::{Handle, NodeId, Wire, tasks::Spawner};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often leases, waits and owners are looked at.
const TICK: Duration = Duration::from_secs(1);

/// Who waits for a job.
pub(super) type Taker = RpcReplyPort<Wire<Result<Option<Job>, WorkerError>>>;

/// An actor's state, shared by its handlers and their tasks.
pub(super) struct Desk {
    pub context: Context,
    /// Starts what ends with the actor.
    pub tasks: Spawner,
    state: Mutex<State>,
    start: Instant,
}

/// What the lock guards.
pub(super) struct State {
    pub core: Core,
    pub takes: BTreeMap<u64, Taker>,
}

/// What is written beside a slip.
pub(super) enum Rest {
    /// What there is already.
    Same,
    /// That, and what came of it.
    Result(Option<String>),
    /// All of it: the job is new here.
    New(Work, Option<String>),
}

/// How a write has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Confirm {
    /// On another disk, too, if another member answers: somebody is told of it.
    Yes,
    /// On this disk; the others hear of it.
    No,
}

/// What came of a write.
pub(super) enum Saved {
    /// It is as it had to be.
    Well(Box<Job>),
    /// It is on this disk and not confirmed.
    Alone,
    /// A later owner has written it.
    Fenced,
    /// It is nowhere.
    Not(WorkerError),
}

impl Desk {
    /// A desk over this core, and its watches running.
    pub(super) fn open(context: &Context, tasks: Spawner, core: Core) -> Arc<Desk> {
        let state = Mutex::new(State { core, takes: BTreeMap::new() });
        let desk = Arc::new(Desk { context: context.clone(), tasks, state, start: Instant::now() });
        desk.tasks.spawn(desk.clone().watch());
        desk.tasks.spawn(desk.clone().learn());
        desk
    }

    /// This node.
    pub(super) fn me(&self) -> NodeId {
        self.context.directory.id()
    }

    /// The state, to read. Changes go through [`Desk::change`].
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Both clocks, and luck.
    pub(super) fn now(&self) -> Now {
        let draw = u64::from_le_bytes(self.context.env.bytes());
        Now { wall_ms: self.context.env.now_ms(), uptime: self.start.elapsed(), draw }
    }

    /// Decides something, and does what follows from it.
    pub(super) fn change<T>(self: &Arc<Self>, decide: impl FnOnce(&mut State, Now) -> (T, Vec<Action>)) -> T {
        let now = self.now();
        let (answer, actions) = decide(&mut self.state(), now);
        actions.into_iter().for_each(|action| self.act(action));
        answer
    }

    /// The WorkerActor of a node.
    pub(super) fn workers(&self, node: NodeId) -> Handle<Message> {
        self.context.directory.at(node, super::NAME)
    }

    /// Whether that is another node, and up.
    pub(super) fn answers(&self, node: NodeId) -> bool {
        node != self.me() && self.context.members.is_up(&node)
    }

    fn act(self: &Arc<Self>, action: Action) {
        let desk = self.clone();
        match action {
            Action::Save(slip) => self.tasks.spawn(async move {
                // Tried again when it falls due again.
                let _ = desk.write(*slip, Rest::Same, Confirm::No).await;
            }),
            Action::Delete(id, term) => {
                let write = JOBS.write(id.as_bytes(), term.0, None);
                self.tasks.spawn(async move { desk.delete(write).await });
            }
            Action::Claim(ticket, owner, claim) => self.tasks.spawn(desk.ask_for(ticket, owner, claim)),
            Action::Nothing(ticket) => {
                let taker = self.state().takes.remove(&ticket);
                if let Some(taker) = taker {
                    let _ = taker.send(Wire(Ok(None)));
                }
            }
            Action::Renew(owners, worker) => {
                for owner in owners {
                    let (desk, worker) = (self.clone(), worker.clone());
                    match owner == self.me() {
                        true => self.change(|state, now| (state.core.renew(&worker, now), Vec::new())),
                        false => self.tasks.spawn(async move {
                            // Told again with the next word of the worker.
                            let _ = desk.workers(owner).tell(Message::Renew(Wire(worker))).await;
                        }),
                    }
                }
            }
            Action::Release(owner, release) => self.tasks.spawn(desk.return_to(owner, release)),
            Action::Adopt(ids) => self.tasks.spawn(desk.adopt(ids)),
            Action::Forget(worker) => {
                tracing::info!(%worker, "a worker was silent for long and is forgotten");
                self.state().core.forget(&worker);
                let write = WORKERS.write(worker.as_bytes(), 0, None);
                self.tasks.spawn(async move { desk.delete(write).await });
            }
        }
    }

    /// Tells a job's owner that its worker does not have it.
    pub(super) async fn return_to(self: Arc<Self>, owner: NodeId, release: Release) {
        match owner == self.me() {
            true => self.give_back(release).await,
            // A stray is told again with the next word of its worker, and so is what a worker doesn't name.
            false => drop(self.workers(owner).tell(Message::Release(Wire(release))).await),
        }
    }

    /// Writes the next slip of an own job, and lets it count.
    pub(super) async fn write(self: &Arc<Self>, next: Slip, rest: Rest, confirm: Confirm) -> Saved {
        let saved = self.save(next.clone(), rest, confirm).await;
        let wrote = match &saved {
            Saved::Well(_) | Saved::Alone => Wrote::Yes,
            Saved::Fenced => Wrote::Fenced,
            Saved::Not(why) => {
                tracing::warn!(job = %next.id, %why, "a job could not be saved");
                Wrote::No
            }
        };
        self.change(|state, now| ((), state.core.written(next, wrote, now)));
        saved
    }

    /// Writes a slip with the rest of its record.
    pub(super) async fn save(&self, slip: Slip, rest: Rest, confirm: Confirm) -> Saved {
        let known = |slip: Slip| match self.context.ledger.get(JOBS, slip.id.as_bytes()) {
            Ok(Some(found)) => Ok(Job { slip, ..found.value }),
            Ok(None) => Err(WorkerError::NoSuchJob(slip.id)),
            Err(error) => Err(error.into()),
        };
        let job = match rest {
            Rest::New(work, result) => Ok(Job { slip, work, result }),
            Rest::Same => known(slip),
            Rest::Result(result) => known(slip).map(|job| Job { result, ..job }),
        };
        let job = match job {
            Ok(job) => job,
            Err(why) => return Saved::Not(why),
        };
        let write = JOBS.write(job.slip.id.as_bytes(), job.slip.term.0, Some(&job));
        let written = match self.context.ledger.note(vec![write]).await {
            Ok(written) => written,
            Err(error) => return Saved::Not(error.into()),
        };
        if !written.fenced.is_empty() {
            return Saved::Fenced;
        }
        if confirm == Confirm::No {
            self.context.ledger.tell(written.entries);
            return Saved::Well(Box::new(job));
        }
        match self.context.ledger.confirmed(written.entries).await {
            Ok(()) => Saved::Well(Box::new(job)),
            Err(_) => Saved::Alone,
        }
    }

    /// Deletes a record. If the disk doesn't take it, it is there again after a restart, and falls due again.
    pub(super) async fn delete(&self, write: ledger::Write) {
        match self.context.ledger.note(vec![write]).await {
            Ok(written) => self.context.ledger.tell(written.entries),
            Err(error) => tracing::warn!(%error, "a record of a job or a worker could not be deleted"),
        }
    }

    /// Tells the core what membership sees, and that time passes.
    async fn watch(self: Arc<Self>) {
        let mut members = self.context.members.changes();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let picture = members.borrow_and_update().clone();
            let presence = picture.values().map(|member| Presence::from(&**member));
            self.change(|state, now| ((), state.core.fleet(presence, now)));
            loop {
                tokio::select! {
                    alive = members.changed() => match alive {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    _ = tick.tick() => self.change(|state, now| ((), state.core.tick(now))),
                }
            }
        }
    }
}
