//! Where the scheduler's cores lie, and the hands that execute their actions.
//!
//! Handlers and their tasks change the cores through [`Desk::change`] alone: under one lock that is never held
//! over an await, with a place in the journal reserved before, so that the order on disk is the order of decisions.

use super::{
    core::{Action, Core, Now, word},
    fleet::Fleet,
    journal::{ENTRIES_MAX, Entry, Write, keep},
    messages::{Message, Record, ScheduleError, Spec, Term},
    runner::Started,
    runs::Runs,
};
use crate::{Context, node, ownership::Wards, task::output::Output};
use ractor::{ActorCell, RpcReplyPort};
use skep_runtime::{Error, Handle, NodeId, Wire, tasks::Spawner};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use uuid::Uuid;

/// How often pauses and graces are looked at.
const TICK: Duration = Duration::from_secs(1);
/// How often the NodeActor is told at most how much runs and waits: it tells every other node.
const WORK_PERIOD: Duration = Duration::from_millis(100);
/// How long whoever asks for a command waits until its ending is written: a little longer than another member may take
/// to confirm it.
pub(super) const WRITTEN_TIMEOUT: Duration = Duration::from_secs(11);
/// Followers of output that one owner serves at once: each holds a stream and 64 KiB.
const FOLLOWERS_MAX: usize = 256;

/// Who waits for the end of a command.
pub(super) type Waiter = RpcReplyPort<Wire<Result<Record, ScheduleError>>>;

/// A scheduler's state, shared by its handlers and their tasks.
pub(super) struct Desk {
    pub context: Context,
    /// The SchedulerActor, which supervises the TaskActors.
    pub me: ActorCell,
    /// Starts what ends with the actor.
    pub tasks: Spawner,
    /// Places for followers.
    pub followers: Arc<Semaphore>,
    state: Mutex<State>,
    journal: mpsc::Sender<Entry>,
    /// Moves with every change of a record.
    changes: watch::Sender<u64>,
    /// How many run here, and wait here.
    work: watch::Sender<(u16, u16)>,
    start: Instant,
}

/// What the lock guards.
pub(super) struct State {
    pub core: Core,
    /// What the core was told of membership.
    fleet: Fleet,
    pub runs: Runs,
    /// What other nodes own.
    pub wards: Wards,
    /// Commands that were admitted and whose records are not on disk yet.
    pub arriving: BTreeSet<Uuid>,
    /// Runs that are not written down yet, and who is told when they are.
    pub starting: BTreeMap<Uuid, Vec<Started>>,
    /// Outputs that are kept here, of runs that are over too.
    pub outputs: BTreeMap<Uuid, Output>,
    /// The actors of running commands.
    pub actors: BTreeMap<Uuid, (ActorCell, u32)>,
    pub waiters: BTreeMap<Uuid, Vec<Waiter>>,
    unsaved: BTreeSet<Unsaved>,
    /// Commands that have ended and whose ending is not on disk: a crash now would run them again.
    ending: BTreeSet<Uuid>,
    /// Commands that others wait for and that nobody here knows, since when.
    pub missing: BTreeMap<Uuid, Duration>,
    /// Others' commands of those that never run twice at once, to be asked for.
    pub coveted: BTreeSet<Uuid>,
    /// The last that was asked for: when there are more than can be at once, those behind it are next.
    pub stood: Uuid,
    /// Others are being asked for their votes.
    pub standing: bool,
}

/// What the disk refused: it is written as it is then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Unsaved {
    /// A record of this node, of this term.
    Record(Uuid, Term),
    /// A run on this node.
    Row(Uuid),
}

/// What a change writes beside its actions, and who waits for that.
#[derive(Default)]
pub(super) struct Also {
    pub writes: Vec<Write>,
    pub reply: Option<super::journal::Reply>,
}

impl Desk {
    /// A desk for `me` with what survived on disk, and its journal and watch over the members running.
    pub(super) fn open(
        context: &Context,
        me: ActorCell,
        tasks: Spawner,
        core: Core,
        runs: Runs,
        wards: Wards,
        outputs: BTreeMap<Uuid, Output>,
    ) -> Arc<Desk> {
        let (journal, entries) = mpsc::channel(ENTRIES_MAX);
        let state = State {
            core,
            fleet: Fleet::default(),
            runs,
            wards,
            arriving: BTreeSet::new(),
            starting: BTreeMap::new(),
            outputs,
            actors: BTreeMap::new(),
            waiters: BTreeMap::new(),
            unsaved: BTreeSet::new(),
            ending: BTreeSet::new(),
            missing: BTreeMap::new(),
            coveted: BTreeSet::new(),
            stood: Uuid::nil(),
            standing: false,
        };
        let desk = Arc::new(Desk {
            context: context.clone(),
            me,
            tasks,
            followers: Arc::new(Semaphore::new(FOLLOWERS_MAX)),
            state: Mutex::new(state),
            journal,
            changes: watch::Sender::new(0),
            work: watch::Sender::new((0, 0)),
            start: Instant::now(),
        });
        desk.tasks.spawn(keep(desk.clone(), context.store.clone(), context.ledger.clone(), entries));
        desk.tasks.spawn(desk.clone().watch());
        desk.tasks.spawn(desk.clone().tell_work());
        desk.tasks.spawn(desk.clone().learn());
        desk
    }

    /// The state, to read. Changes go through [`Desk::change`].
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Both clocks.
    pub(super) fn now(&self) -> Now {
        Now { wall_ms: self.context.env.now_ms(), uptime: self.start.elapsed() }
    }

    /// Decides something and hands its actions to the journal. Waits while the disk is behind.
    pub(super) async fn change<T>(&self, decide: impl FnOnce(&mut State, Now) -> (T, Vec<Action>, Also)) -> T {
        let place = self.journal.reserve().await.expect("the journal lives as long as the desk");
        let mut state = self.state();
        if state.core.has_singles() {
            state.core.lease(self.context.ownership.held());
        }
        let (answer, actions, also) = decide(&mut state, self.now());
        let mut entry = Entry { writes: also.writes, then: Vec::new(), reply: also.reply, again: false };
        for action in actions {
            match action {
                Action::Save(record) => {
                    if record.state.ended() && !record.settled {
                        state.ending.insert(record.id);
                    }
                    entry.writes.push(Write::Record(record));
                }
                Action::Delete(id, term) => entry.writes.push(Write::NoRecord(id, term)),
                Action::Disowned(id) => {
                    // Whether it has ended is the other's to say.
                    state.ending.remove(&id);
                    entry.then.push(action);
                }
                action => entry.then.push(action),
            }
        }
        if !entry.writes.is_empty() || !entry.then.is_empty() || entry.reply.is_some() {
            place.send(entry);
            self.wake();
        }
        let work = (state.runs.running() as u16, state.core.waiting() as u16);
        self.work.send_if_modified(|told| std::mem::replace(told, work) != work);
        answer
    }

    /// The scheduler of a node.
    pub(super) fn scheduler(&self, node: NodeId) -> Handle<Message> {
        self.context.directory.at(node, super::NAME)
    }

    /// Wakes its holder when records change.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Does what is not writing.
    pub(super) fn act(self: &Arc<Self>, action: Action) {
        match action {
            Action::Run(node, run) => self.tasks.spawn(self.clone().order(node, *run)),
            Action::Stop(node, id, attempt, term) => {
                self.tasks.spawn(self.clone().order_stop(node, id, attempt, term));
            }
            Action::Forget(node, id) => {
                let scheduler = self.scheduler(node);
                self.tasks.spawn(async move {
                    // A node that doesn't hear it drops the output by its own bound.
                    let _ = scheduler.tell(Message::Forget(Wire(vec![id]))).await;
                });
            }
            Action::Ended(id) => {
                let mut state = self.state();
                let record = state.core.get(id).cloned();
                if let Some(record) = &record {
                    self.count(word(record.state));
                }
                for waiter in state.waiters.remove(&id).unwrap_or_default() {
                    let _ = waiter.send(Wire(record.clone().ok_or(ScheduleError::NoSuchTask(id))));
                }
            }
            // Written before anything is acted upon.
            Action::Save(_) | Action::Delete(..) => {}
            Action::Disowned(id) => {
                for waiter in self.state().waiters.remove(&id).unwrap_or_default() {
                    let _ = waiter.send(Wire(Err(ScheduleError::TakenOver)));
                }
            }
        }
    }

    /// A record of this node as it may be shown, once what became of it is on disk and confirmed, or can't be; and once a node
    /// that was just started knows what became of it meanwhile.
    pub(super) async fn shown(&self, id: Uuid) -> Option<Record> {
        let mut changes = self.changes();
        let unclear = || {
            let state = self.state();
            state.core.get(id).is_some() && (state.core.is_held() || state.is_being_written(id))
        };
        let clear = async { while unclear() && changes.changed().await.is_ok() {} };
        // Beyond that it is shown as it is: running, as far as anyone is told.
        let _ = timeout(WRITTEN_TIMEOUT, clear).await;
        self.state().shown(id)
    }

    /// Wakes those who wait for changes.
    pub(super) fn wake(&self) {
        self.changes.send_modify(|n| *n += 1);
    }

    /// Whether a command has ended here and that is not on disk.
    pub(super) fn is_ending(&self, id: Uuid) -> bool {
        self.state().ending.contains(&id)
    }

    /// Notes what is on disk now.
    pub(super) fn saved(&self, writes: &[Write]) {
        let mut state = self.state();
        for write in writes {
            match write {
                Write::Record(record) if record.state.ended() => drop(state.ending.remove(&record.id)),
                Write::NoRecord(id, _) => drop(state.ending.remove(id)),
                Write::Record(_) | Write::Row(..) | Write::NoRow(_) => {}
            }
        }
        drop(state);
        for write in writes {
            if let Write::Record(record) = write {
                self.tell_listeners(record);
            }
        }
        self.wake();
    }

    /// Counts what became of commands whose records are here: `tasks_submitted`, `tasks_completed`, ...
    pub(super) fn count(&self, what: &str) {
        self.context
            .metrics
            .counter(&format!("tasks_{what}"), &format!("commands of this node that were {what}"))
            .inc();
    }

    /// Notes what the disk refused, for the next tick.
    pub(super) fn save_later(&self, writes: &[Write]) {
        let unsaved = writes.iter().map(|write| match write {
            Write::Record(record) => Unsaved::Record(record.id, record.term),
            Write::NoRecord(id, term) => Unsaved::Record(*id, *term),
            Write::Row(id, _) | Write::NoRow(id) => Unsaved::Row(*id),
        });
        self.state().unsaved.extend(unsaved);
        self.wake();
    }

    /// Tells the core what membership sees, and that time passes.
    async fn watch(self: Arc<Self>) {
        let mut members = self.context.members.changes();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.survey().await;
            loop {
                tokio::select! {
                    alive = members.changed() => match alive {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    _ = tick.tick() => {
                        self.tick().await;
                        self.inherit().await;
                        self.stand();
                        self.miss().await;
                    }
                }
            }
        }
    }

    /// Tells the core what membership sees now.
    pub(super) async fn survey(&self) {
        let look = |state: &mut State, now| {
            let (changed, gone) = state.fleet.look(&self.context.members);
            ((), state.core.fleet(changed, &gone, now), Also::default())
        };
        self.change(look).await;
    }

    async fn tick(&self) {
        self.change(|state, now| ((), state.core.tick(now), Also::default())).await;
        let place = self.journal.reserve().await.expect("the journal lives as long as the desk");
        // Under the lock, so that nothing newer is written before.
        let mut state = self.state();
        let writes = state.unsaved_again();
        if !writes.is_empty() {
            place.send(Entry { writes, again: true, ..Entry::default() });
        }
    }

    /// Tells the NodeActor how much there is to do, as it changes.
    async fn tell_work(self: Arc<Self>) {
        let node = self.context.directory.here::<node::Message>(node::NAME);
        let mut changes = self.work.subscribe();
        // It may have changed before.
        changes.mark_changed();
        while changes.changed().await.is_ok() {
            let work = *changes.borrow_and_update();
            // Without a NodeActor nobody reports load; it asks for nothing when it starts again.
            let _ = node.tell(node::Message::Work(Wire(work))).await;
            sleep(WORK_PERIOD).await;
        }
    }
}

impl State {
    /// Keeps a place for a command whose record is not written yet.
    ///
    /// # Errors
    /// [`ScheduleError`], if it may not be taken; [`Error::Busy`] if one of this id was taken just now.
    pub(super) fn claim(&mut self, id: Uuid, spec: &Spec) -> Result<(), ScheduleError> {
        self.core.admit(spec)?;
        match self.core.get(id).is_none() && self.arriving.insert(id) {
            true => Ok(()),
            false => Err(Error::Busy(super::NAME.into()).into()),
        }
    }

    /// A record as it may be shown: one whose ending could still be lost runs, as far as anyone is told.
    pub(super) fn shown(&self, id: Uuid) -> Option<Record> {
        Some(self.core.get(id)?.clone().shown(!self.ending.contains(&id)))
    }

    /// Whether an ending is on its way to the disk.
    fn is_being_written(&self, id: Uuid) -> bool {
        let refused = |unsaved: &Unsaved| matches!(unsaved, Unsaved::Record(other, _) if *other == id);
        let unclear = |record: &Record| record.state.ended() && !record.is_over();
        (self.ending.contains(&id) || self.core.get(id).is_some_and(unclear)) && !self.unsaved.iter().any(refused)
    }

    fn unsaved_again(&mut self) -> Vec<Write> {
        let mut writes = Vec::new();
        for unsaved in std::mem::take(&mut self.unsaved) {
            writes.push(match unsaved {
                Unsaved::Record(id, term) => match self.core.get(id) {
                    Some(record) => Write::Record(Box::new(record.clone())),
                    None => Write::NoRecord(id, term),
                },
                Unsaved::Row(id) => match self.runs.get(id) {
                    Some(row) => Write::Row(id, Box::new(row.clone())),
                    None => Write::NoRow(id),
                },
            });
        }
        writes
    }
}
