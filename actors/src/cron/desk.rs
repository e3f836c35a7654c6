//! Where the core lies, and the hands that do what it says: the ledger is read and written here, commands are given to this
//! node's scheduler.
//!
//! The core is changed under one lock that is never held over an await; one task writes what changed, so that the order
//! in the ledger is the order of decisions.

use super::{
    core::{Action, Core, Refusal, fresh},
    messages::{CronError, Definition, Job, NewJob, Progress},
};
use crate::{
    Context,
    digest::Digest,
    ledger::{Collection, Ledger, Write},
    ownership::Presence,
    scheduler::{self, ScheduleError, Spec},
};
use skep_runtime::{Handle, Wire, defaults::ASK_TIMEOUT, store, tasks::Spawner};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use uuid::Uuid;

/// Jobs that a swarm may have: every member holds all of them in memory, at 1 to 20 KiB each. Two members that are asked
/// at the same moment may exceed it by one each.
pub const JOBS_MAX: usize = 1000;
/// Bytes of a job's name: what a line of a table shows.
const NAME_BYTES_MAX: usize = 128;
/// Bytes of a description: a paragraph.
const DESCRIPTION_BYTES_MAX: usize = 1 << 10;
/// Bytes of an agent's id.
const AGENT_BYTES_MAX: usize = 128;
/// Bytes of a job's command with arguments and environment: every member holds it in memory. What is longer is a file.
const COMMAND_BYTES_MAX: usize = 16 << 10;
/// How long nothing is looked at while there are jobs: owners that are gone and tasks that have ended are found this soon.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// The same while there are none.
const IDLE_PERIOD: Duration = Duration::from_secs(30);
/// The least time between two looks: a moment that is due can't be due again sooner.
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// How much later than it wanted a node wakes that has slept, or whose clock was put forward: as long as others take to
/// miss it.
const SLEPT_MIN: Duration = Duration::from_secs(4);
/// Progress that is written at once, a few hundred KiB at most.
const WRITES_MAX: usize = 64;

/// Jobs as they were made, by the id's bytes.
const DEFINITIONS: Collection<Definition> = Collection::new(5, 2);
/// How far they have come, by the same.
const PROGRESS: Collection<Progress> = Collection::new(6, 1);

/// Files that jobs give to their tasks, as far as this node knows.
///
/// # Errors
/// The jobs can't be read.
pub fn needed(ledger: &Ledger) -> Result<BTreeSet<Digest>, store::Error> {
    let mut needed = BTreeSet::new();
    ledger.visit(DEFINITIONS, |definition| {
        needed.extend(definition.value.new.spec.files.inputs.iter().map(|input| input.digest));
    })?;
    Ok(needed)
}

/// The state of a CronActor, shared by its handlers and their tasks.
pub(super) struct Desk {
    context: Context,
    tasks: Spawner,
    core: Mutex<Core>,
    /// Something is to be written.
    changed: Notify,
    /// Something may be due sooner than was thought.
    woken: Notify,
    start: Instant,
}

impl Desk {
    /// Reads what there is, and starts what goes on for as long as the node runs.
    ///
    /// # Errors
    /// The ledger could not be read.
    pub(super) fn open(context: &Context, tasks: Spawner) -> Result<Arc<Desk>, skep_runtime::store::Error> {
        // From here on nothing that others write is missed: `learn` reads on where this ends.
        let _ = (context.ledger.feed(DEFINITIONS), context.ledger.feed(PROGRESS));
        let desk = Arc::new(Desk {
            context: context.clone(),
            tasks,
            core: Mutex::new(Core::new(context.directory.id())),
            changed: Notify::new(),
            woken: Notify::new(),
            start: Instant::now(),
        });
        let mut definitions = BTreeMap::new();
        context.ledger.visit(DEFINITIONS, |record| drop(definitions.insert(record.value.id, record.value)))?;
        for id in definitions.into_keys() {
            desk.heard_of(id);
        }
        desk.tasks.spawn(desk.clone().learn());
        desk.tasks.spawn(desk.clone().write());
        desk.tasks.spawn(desk.clone().watch());
        Ok(desk)
    }

    pub(super) fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        self.context.env.now_ms()
    }

    /// Makes a job. Acknowledged when another member has it too, if one answers.
    pub(super) async fn add(&self, new: NewJob) -> Result<Job, CronError> {
        let me = self.context.directory.id();
        let definition = Definition { id: self.context.env.id(), created_ms: self.now_ms(), new };
        check(&definition)?;
        if self.core().count_jobs() >= JOBS_MAX {
            return Err(CronError::Full(JOBS_MAX));
        }
        let (id, progress) = (definition.id, fresh(me, &definition));
        let made = vec![
            PROGRESS.write(id.as_bytes(), progress.term.0, Some(&progress)),
            DEFINITIONS.write(id.as_bytes(), 0, Some(&definition)),
        ];
        if let Err(error) = self.context.ledger.put(made).await {
            // Nobody was promised it, so nobody shall find it.
            self.forget(id).await;
            return Err(error.into());
        }
        self.heard_of(id);
        self.woken.notify_one();
        self.context.metrics.counter("cron_jobs_made", "cron jobs that were made on this node").inc();
        self.core().job(id).ok_or_else(|| CronError::NoSuchJob(id.to_string()))
    }

    /// Removes a job for good, whoever owns it: its owner's next word comes in an earlier term.
    pub(super) async fn remove(&self, id: Uuid) -> Result<(), CronError> {
        if self.core().job(id).is_none() {
            return Err(CronError::NoSuchJob(id.to_string()));
        }
        let done = self.context.ledger.put(removal(id)).await;
        self.heard_of(id);
        Ok(done?)
    }

    async fn forget(&self, id: Uuid) {
        match self.context.ledger.note(removal(id)).await {
            Ok(written) => self.context.ledger.tell(written.entries),
            Err(error) => tracing::warn!(job = %id, %error, "a cron job that nobody was promised could not be removed"),
        }
        self.heard_of(id);
    }

    /// Follows what others do. Before it acts on anything of its own, it waits until it knows what they did while it was
    /// away.
    async fn learn(self: Arc<Self>) {
        let ledger = &self.context.ledger;
        let feeds = (ledger.feed(DEFINITIONS), ledger.feed(PROGRESS));
        ledger.caught_up().await;
        for id in [feeds.0.take(), feeds.1.take()].iter().flatten().filter_map(|id| Uuid::from_slice(id).ok()) {
            self.heard_of(id);
        }
        self.core().release();
        self.woken.notify_one();
        loop {
            let ids = tokio::select! {
                biased;
                ids = feeds.0.next() => ids,
                ids = feeds.1.next() => ids,
            };
            for id in ids.iter().filter_map(|id| Uuid::from_slice(id).ok()) {
                self.heard_of(id);
            }
            self.woken.notify_one();
        }
    }

    /// Lets the core know what the ledger says of a job.
    fn heard_of(&self, id: Uuid) {
        let definition = self.read(DEFINITIONS, id);
        let progress = self.read(PROGRESS, id);
        self.core().learn(id, definition, progress);
    }

    fn read<V: serde::Serialize + serde::de::DeserializeOwned>(&self, from: Collection<V>, id: Uuid) -> Option<V> {
        match self.context.ledger.get(from, id.as_bytes()) {
            Ok(found) => found.map(|found| found.value),
            Err(error) => {
                tracing::warn!(job = %id, %error, "a record of a cron job can't be read; other members have it");
                None
            }
        }
    }

    /// Looks again and again at what is due and at what has ended.
    async fn watch(self: Arc<Self>) {
        loop {
            self.look();
            let pause = {
                let (core, now_ms) = (self.core(), self.now_ms());
                let most = if core.count_jobs() == 0 { IDLE_PERIOD } else { LOOK_PERIOD };
                let due = core.wake_ms().map(|at| Duration::from_millis(at.saturating_sub(now_ms)));
                due.map_or(most, |due| due.clamp(PAUSE_MIN, most))
            };
            let before_ms = self.now_ms();
            tokio::select! {
                biased;
                () = self.woken.notified() => {}
                () = sleep(pause) => {}
            }
            let now_ms = self.now_ms();
            if Duration::from_millis(now_ms.saturating_sub(before_ms)) > pause + SLEPT_MIN {
                tracing::info!("this machine has slept: cron jobs wait until it has heard from others");
                self.core().slept(now_ms);
            }
        }
    }

    fn look(self: &Arc<Self>) {
        let now_ms = self.now_ms();
        let open = self.core().open();
        for (id, at_ms, task) in open {
            let record = scheduler::told(&self.context.ledger, task);
            self.core().looked(id, at_ms, record.as_ref(), now_ms);
        }
        let picture = self.context.members.now();
        let peers = picture.values().map(|member| Presence::from(&**member));
        let actions = self.core().tick(now_ms, peers, self.start.elapsed());
        self.changed.notify_one();
        for action in actions {
            match action {
                Action::Submit(id, at_ms, spec) => self.tasks.spawn(self.clone().submit(id, at_ms, *spec)),
                Action::Remove(id) => {
                    let desk = self.clone();
                    self.tasks.spawn(async move { desk.forget(id).await });
                }
            }
        }
    }

    async fn submit(self: Arc<Self>, id: Uuid, at_ms: u64, spec: Spec) {
        let scheduler: Handle<scheduler::Message> = self.context.directory.here(scheduler::NAME);
        let answer = scheduler.ask(ASK_TIMEOUT, |reply| scheduler::Message::Submit(Wire(spec), reply)).await;
        let answer = match answer {
            Ok(Ok(record)) => Ok(record.id),
            // A node has another name than when it was taken first.
            Ok(Err(ScheduleError::KeyTaken(task))) => Ok(task),
            Ok(Err(error)) => Err(refusal(&error)),
            Err(error) => Err(Refusal::NotNow(error.to_string())),
        };
        match &answer {
            Ok(task) => {
                tracing::debug!(job = %id, at_ms, %task, "a cron job was fired");
                self.context.metrics.counter("cron_fired", "runs of cron jobs that this node started").inc();
            }
            Err(refusal) => tracing::debug!(job = %id, at_ms, ?refusal, "a cron job could not be fired"),
        }
        let refused = answer.is_err();
        self.core().submitted(id, at_ms, answer, self.now_ms());
        self.changed.notify_one();
        if !refused {
            self.woken.notify_one();
        }
    }

    /// Writes what changes. Nobody waits for other members to have it: whoever takes over from an earlier word does the same
    /// once more, under the same keys.
    async fn write(self: Arc<Self>) {
        loop {
            self.changed.notified().await;
            let unsaved = self.core().unsaved();
            for part in unsaved.chunks(WRITES_MAX) {
                let write = |(id, next): &(Uuid, Progress)| PROGRESS.write(id.as_bytes(), next.term.0, Some(next));
                let writes = part.iter().map(write);
                match self.context.ledger.note(writes.collect()).await {
                    Ok(written) => {
                        let fenced: Vec<Uuid> =
                            written.fenced.iter().filter_map(|key| Uuid::from_slice(&key.id).ok()).collect();
                        self.context.ledger.tell(written.entries);
                        for id in fenced {
                            self.core().fenced(id);
                            self.heard_of(id);
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "what cron jobs came to could not be saved; it is tried again");
                        // With the next look.
                        self.core().save_again(part.iter().map(|(id, _)| *id));
                    }
                }
            }
        }
    }
}

fn refusal(error: &ScheduleError) -> Refusal {
    let why = error.to_string();
    match error {
        ScheduleError::Invalid { .. } => Refusal::Never(why),
        ScheduleError::Named { .. }
        | ScheduleError::NodeDown(_)
        | ScheduleError::Impossible(_)
        | ScheduleError::NeverTogether { .. }
        | ScheduleError::QueueFull(_) => Refusal::Unfit(why),
        _ => Refusal::NotNow(why),
    }
}

/// In the last of all terms: no owner that has not heard of it can bring the job back.
fn removal(id: Uuid) -> Vec<Write> {
    vec![DEFINITIONS.write(id.as_bytes(), u64::MAX, None), PROGRESS.write(id.as_bytes(), u64::MAX, None)]
}

/// Whether a job makes sense and keeps to the bounds.
fn check(definition: &Definition) -> Result<(), CronError> {
    let Definition { created_ms, new, .. } = definition;
    let invalid = |field: &str, reason: String| Err(CronError::Invalid { field: field.into(), reason });
    let printable = |text: &str| !text.chars().any(char::is_control);
    if new.name.trim().is_empty() || new.name.len() > NAME_BYTES_MAX || !printable(&new.name) {
        return invalid("name", format!("must be one line of 1 to {NAME_BYTES_MAX} bytes"));
    }
    let over = |text: &Option<String>, max| text.as_ref().is_some_and(|text| text.len() > max);
    if over(&new.description, DESCRIPTION_BYTES_MAX) {
        return invalid("description", format!("may have {DESCRIPTION_BYTES_MAX} bytes"));
    }
    if over(&new.agent_id, AGENT_BYTES_MAX) {
        return invalid("agent_id", format!("may have {AGENT_BYTES_MAX} bytes"));
    }
    let spec = &new.spec;
    let words = spec.args.iter().map(String::len).chain(spec.env.iter().map(|(name, value)| name.len() + value.len()));
    let bytes = spec.command.len() + words.sum::<usize>();
    if bytes > COMMAND_BYTES_MAX {
        return invalid(
            "command",
            format!("has {bytes} bytes with arguments and environment; a job may have {COMMAND_BYTES_MAX}"),
        );
    }
    if spec.idempotency_key.is_some() {
        return invalid("idempotency_key", "is a job's own: each of its runs has one".into());
    }
    scheduler::spec::check(spec)?;
    let schedule = match super::schedule::Schedule::parse(new.kind, &new.expr, &new.tz, *created_ms) {
        Ok(schedule) => schedule,
        Err((field, reason)) => return invalid(field, reason),
    };
    match schedule.next(*created_ms) {
        Some(_) => Ok(()),
        None => invalid("schedule_expr", "never comes: it is in the past, or no date".into()),
    }
}
