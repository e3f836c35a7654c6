//! The owner's half of the desk: commands whose record is kept here, and the way to records that are kept elsewhere.

use super::{
    core::{Refusal, STRIKES_MAX},
    desk::{Also, Desk, WRITTEN_TIMEOUT, Waiter},
    follow,
    journal::{self, RECORDS, Seen, Write},
    messages::{Message, Priority, Record, Run, ScheduleError, Spec, Standing, State, Term},
    spec,
};
use crate::{
    defaults::GATHER_TIMEOUT,
    ledger,
    node::lookup,
    ownership::{self, Want, lease::Holding},
    task::{self, Level},
};
use futures::{StreamExt, stream::FuturesUnordered};
use ractor::RpcReplyPort;
use serde::{Serialize, de::DeserializeOwned};
use skep_runtime::{Error, NodeId, Ticket, Wire, defaults::ASK_TIMEOUT};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};
use uuid::Uuid;

/// How long a node may take to take a command: a commit on a slow disk.
const RUN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a node may take to end one: 3 s of grace, and the killing.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// How often a scheduler that is being started again is asked once more, and how long between.
const ABSENT_TRIES: u32 = 20;
/// The pause between two such tries.
const ABSENT_PAUSE: Duration = Duration::from_millis(100);
/// The pause before a node is told once more to end something.
const STOP_PAUSE: Duration = Duration::from_secs(1);
/// How often a node asks for the votes for a new command: others may do so at the same time.
const WIN_TRIES: usize = 3;
/// How long it leaves those to another, who gets them in that time, and has them written.
const WIN_PAUSE: Duration = Duration::from_millis(500);
/// Bytes of output that a record shows in a list.
const LISTED_OUTPUT_BYTES: usize = 1024;
/// Bytes of a list: half a message.
const LIST_BYTES_MAX: usize = 512 << 10;
/// Callers that may wait for the end of one command.
const WAITERS_MAX: usize = 64;

/// Whether an id is a task's already.
enum Taken {
    As(Box<Record>),
    /// Somebody is taking it, or has not got it confirmed.
    Perhaps,
    Nowhere,
}

impl Desk {
    /// Takes a command. Answers when its record is on disk here and on another node, if one answers.
    pub(super) async fn submit(self: &Arc<Self>, spec: Spec, reply: Waiter) {
        let spec = match self.resolve(spec) {
            Ok(spec) => spec,
            Err(e) => return drop(reply.send(Wire(Err(e)))),
        };
        match spec.idempotency_key.is_none() && spec.course.after.is_empty() && spec.files.inputs.is_empty() {
            true => self.take(self.context.env.id(), spec, None, reply).await,
            // Others are asked first, which takes its time.
            false => self.tasks.spawn(self.clone().take_if_known(spec, reply)),
        }
    }

    /// Takes a command under an id that its asker alone gives, unless there is one.
    pub(super) async fn enter(self: Arc<Self>, id: Uuid, spec: Spec, again: bool, reply: Waiter) {
        let spec = match self.resolve(spec) {
            Ok(spec) => spec,
            Err(e) => return drop(reply.send(Wire(Err(e)))),
        };
        if let Err(e) = self.context.blobs.are_known(&self.context, spec.files.inputs.iter().map(|i| i.digest)).await {
            return drop(reply.send(Wire(Err(e.into()))));
        }
        let before = self.read_arrived(id).await;
        let taken = match again {
            true => self.taken(id).await,
            false => match self.shown(id).await.or_else(|| self.told(id)) {
                Some(record) => Taken::As(Box::new(record)),
                None => Taken::Nowhere,
            },
        };
        match taken {
            Taken::As(record) => drop(reply.send(Wire(Ok(*record)))),
            Taken::Perhaps => drop(reply.send(Wire(Err(ScheduleError::NoMajority)))),
            Taken::Nowhere => match self.unknown_of(&spec.course.after).await {
                Some(unknown) => drop(reply.send(Wire(Err(no_prerequisite(unknown))))),
                None => self.take_named(id, spec, before, reply).await,
            },
        }
    }

    /// How commands stand, as far as is known here.
    pub(super) fn states(&self, ids: &[Uuid]) -> Vec<Option<Standing>> {
        let standing = |record: Record| Standing { state: record.state, error: record.error };
        let own = |id: &Uuid| self.state().shown(*id);
        ids.iter().map(|id| own(id).or_else(|| self.told(*id)).map(standing)).collect()
    }

    /// Takes a command if those that it waits for are known, and its files.
    async fn take_if_known(self: Arc<Self>, spec: Spec, reply: Waiter) {
        if let Err(e) = self.context.blobs.are_known(&self.context, spec.files.inputs.iter().map(|i| i.digest)).await {
            return drop(reply.send(Wire(Err(e.into()))));
        }
        if let Some(unknown) = self.unknown_of(&spec.course.after).await {
            return drop(reply.send(Wire(Err(no_prerequisite(unknown)))));
        }
        match spec.idempotency_key.as_deref().map(spec::named_by) {
            None => self.take(self.context.env.id(), spec, None, reply).await,
            Some(id) => self.take_once(id, spec, reply).await,
        }
    }

    /// Takes a command whose key gives it its id, unless there is a task of this id in the swarm.
    async fn take_once(self: Arc<Self>, id: Uuid, spec: Spec, reply: Waiter) {
        let before = self.read_arrived(id).await;
        match self.taken(id).await {
            Taken::Nowhere => self.take_named(id, spec, before, reply).await,
            taken => self.answer_taken(taken, spec, reply).await,
        }
    }

    /// Whether there is a task of this id in the swarm.
    async fn taken(&self, id: Uuid) -> Taken {
        if let Some(own) = self.shown(id).await {
            return Taken::As(Box::new(own));
        }
        match self.ask_for(id).await {
            None => Taken::Nowhere,
            // Its owner may be about to take it back: it was not confirmed, for all that is known here.
            Some((record, false)) if record.is_single() && record.attempts == 0 => Taken::Perhaps,
            Some((record, _)) => Taken::As(Box::new(record)),
        }
    }

    /// Answers with a command that has the key already.
    async fn answer_taken(self: Arc<Self>, taken: Taken, spec: Spec, reply: Waiter) {
        match taken {
            Taken::As(record) if record.spec == spec => self.get(record.id, reply).await,
            Taken::As(record) => drop(reply.send(Wire(Err(ScheduleError::KeyTaken(record.id))))),
            Taken::Perhaps | Taken::Nowhere => drop(reply.send(Wire(Err(ScheduleError::NoMajority)))),
        }
    }

    /// What the ledger has of a command, once none of this id is being taken here.
    async fn read_arrived(&self, id: Uuid) -> Result<Seen, ledger::Error> {
        let mut changes = self.changes();
        let arrived = async { while self.state().arriving.contains(&id) && changes.changed().await.is_ok() {} };
        // Beyond that the place is refused.
        let _ = timeout(WRITTEN_TIMEOUT, arrived).await;
        journal::read(&self.context.ledger, id)
    }

    /// Takes a command whose id another node may be given at this moment, too. `before`: what the ledger had of it before it
    /// was looked for.
    async fn take_named(self: &Arc<Self>, id: Uuid, spec: Spec, before: Result<Seen, ledger::Error>, reply: Waiter) {
        if !spec.course.once {
            return self.take(id, spec, None, reply).await;
        }
        let claimed = before.map_err(|e| ScheduleError::Store(e.to_string())).and_then(|before| {
            self.state().claim(id, &spec)?;
            Ok(before)
        });
        let before = match claimed {
            Ok(before) => before,
            Err(e) => return drop(reply.send(Wire(Err(e)))),
        };
        if let Some(holding) = self.win_new(id, before).await {
            return self.take(id, spec, Some(holding), reply).await;
        }
        self.unclaim(id);
        // Another node may have been faster.
        let taken = self.taken(id).await;
        self.clone().answer_taken(taken, spec, reply).await;
    }

    /// Asks for the votes for a command that nobody has, as far as is known here. Two nodes that do so at once may get none.
    async fn win_new(&self, id: Uuid, mut seen: Seen) -> Option<Holding> {
        let me = self.context.directory.id();
        let key = id.as_bytes();
        for _ in 0..WIN_TRIES {
            if seen.record.is_some() {
                return None;
            }
            let first = Term::first(self.context.env.now_ms(), me);
            // One that was deleted has no owner, but the terms before it count.
            let first = seen.version.map_or(first, |version| first.max(Term(version.term).next(me)));
            let want = Want { id: key.to_vec(), version: seen.version, held: None, first };
            if let Some(won) = self.context.ownership.win(RECORDS, vec![want]).await.remove(&key[..]) {
                return Some(won);
            }
            let everyone = [&[me], &*self.context.members.others_up()].concat();
            // The others let the first of them pass.
            if ownership::first(id, &everyone) != Some(me) {
                sleep(WIN_PAUSE).await;
            }
            seen = journal::read(&self.context.ledger, id).ok()?;
        }
        None
    }

    /// Takes a command. `won`: the place is this node's already, and others have voted for that.
    async fn take(self: &Arc<Self>, id: Uuid, spec: Spec, won: Option<Holding>, reply: Waiter) {
        self.change(|state, now| {
            let claimed = if won.is_some() { Ok(()) } else { state.claim(id, &spec) };
            if let Err(e) = claimed {
                let _ = reply.send(Wire(Err(e)));
                return ((), Vec::new(), Also::default());
            }
            let mut record = state.core.record(id, spec, now);
            record.epoch = won.map_or_else(|| self.context.ownership.epoch(), |won| won.epoch);
            record.term = won.map_or(record.term, |won| won.term);
            let writes = vec![Write::Record(Box::new(record.clone()))];
            let (desk, term, once) = (self.clone(), record.term, record.spec.course.once);
            let saved: journal::Reply = Box::new(move |saved| match saved {
                // Not from within the journal: the decision that follows needs a place in it.
                Ok(()) => desk.clone().tasks.spawn(async move {
                    let take = |state: &mut super::desk::State, now| {
                        state.arriving.remove(&id);
                        let after = record.spec.course.after.clone();
                        let actions = state.core.submit(record, now);
                        ((state.core.get(id).cloned(), after), actions, Also::default())
                    };
                    let (taken, after) = desk.change(take).await;
                    desk.wake();
                    desk.look_at(after).await;
                    desk.count("submitted");
                    let _ = reply.send(Wire(taken.ok_or(ScheduleError::NoSuchTask(id))));
                }),
                Err(e) => desk.clone().tasks.spawn(async move {
                    // Nobody shall take over what nobody was promised.
                    desk.take_back(id, term).await;
                    desk.unclaim(id);
                    match e {
                        // It is another's, who was asked for the same.
                        ledger::Error::Fenced => {
                            let taken = desk.taken(id).await;
                            desk.answer_taken(taken, record.spec, reply).await;
                        }
                        ledger::Error::Alone if once => drop(reply.send(Wire(Err(ScheduleError::NoMajority)))),
                        e => drop(reply.send(Wire(Err(ScheduleError::Store(e.to_string()))))),
                    }
                }),
            });
            ((), Vec::new(), Also { writes, reply: Some(saved) })
        })
        .await;
    }

    fn unclaim(&self, id: Uuid) {
        self.state().arriving.remove(&id);
        self.wake();
    }

    /// Deletes what could not be confirmed; when that is written, or the disk refused it.
    async fn take_back(&self, id: Uuid, term: Term) {
        let (written, wait) = oneshot::channel();
        let reply: journal::Reply = Box::new(move |_| {
            let _: Result<(), ()> = written.send(());
        });
        let also = Also { writes: vec![Write::NoRecord(id, term)], reply: Some(reply) };
        self.change(|_, _| ((), Vec::new(), also)).await;
        let _ = wait.await;
    }

    /// One record from wherever it is, with its output so far.
    pub(super) async fn get(self: Arc<Self>, id: Uuid, reply: Waiter) {
        let own = self.shown(id).await;
        let found = match own {
            Some(record) => Some(self.look(record).await),
            None => self.find(id).await,
        };
        let _ = reply.send(Wire(found.ok_or(ScheduleError::NoSuchTask(id))));
    }

    /// The record of this node, with its output so far.
    pub(super) async fn get_own(self: Arc<Self>, id: Uuid, reply: RpcReplyPort<Wire<Option<Record>>>) {
        let own = self.shown(id).await;
        let found = match own {
            Some(record) => Some(self.look(record).await),
            None => None,
        };
        let _ = reply.send(Wire(found));
    }

    /// The newest records of this node, within the bytes of a message.
    pub(super) fn own(&self, max: u32) -> Vec<Record> {
        let state = self.state();
        let newest = state.core.newest().into_iter().take(max as usize);
        within(newest.filter_map(|record| state.shown(record.id)).map(listed))
    }

    /// The newest records of the swarm.
    pub(super) async fn list(self: Arc<Self>, max: u32, reply: RpcReplyPort<Wire<Vec<Record>>>) {
        let mut all = self.own(max);
        let ask = |node| {
            let scheduler = self.scheduler(node);
            async move { scheduler.ask(GATHER_TIMEOUT, |reply| Message::Own(Wire(max), reply)).await }
        };
        let mut asked: FuturesUnordered<_> = self.context.members.others_up().into_iter().map(ask).collect();
        while let Some(answer) = asked.next().await {
            all.extend(answer.unwrap_or_default());
        }
        all.extend(self.orphans(max).into_iter().map(listed));
        all.sort_by_key(|r| (std::cmp::Reverse(r.submitted_ms), r.id));
        let _ = reply.send(Wire(within(all.into_iter().take(max as usize))));
    }

    /// Ends a command; `reply` is answered at its end.
    pub(super) async fn cancel(self: Arc<Self>, id: Uuid, reply: Waiter) {
        let own = self.state().core.get(id).is_some();
        if own {
            return self
                .change(|state, now| {
                    let waiting = state.waiters.entry(id).or_default();
                    if waiting.len() >= WAITERS_MAX {
                        let _ = reply.send(Wire(Err(ScheduleError::Link(Error::Busy(super::NAME.into())))));
                        return ((), Vec::new(), Also::default());
                    }
                    match state.core.cancel(id, now) {
                        Ok(actions) => {
                            waiting.push(reply);
                            ((), actions, Also::default())
                        }
                        Err(e) => {
                            let _ = reply.send(Wire(Err(e)));
                            ((), Vec::new(), Also::default())
                        }
                    }
                })
                .await;
        }
        let answer = self.ask_owner(id, STOP_TIMEOUT, |reply| Message::Cancel(Wire(id), reply)).await;
        let _ = reply.send(Wire(answer));
    }

    /// Cancels what waits in a class.
    pub(super) async fn clear(&self, class: Priority, reply: RpcReplyPort<Wire<u32>>) {
        let cleared = self.change(|state, now| {
            let (cleared, actions) = state.core.clear(class, now);
            (cleared, actions, Also::default())
        });
        let _ = reply.send(Wire(cleared.await));
    }

    /// Streams a command's output to whoever expects it, or lets its owner do that.
    pub(super) async fn follow(
        self: Arc<Self>,
        id: Uuid,
        to: NodeId,
        ticket: Ticket,
        reply: RpcReplyPort<Wire<Result<(), ScheduleError>>>,
    ) {
        let own = self.state().core.get(id).is_some();
        if !own {
            let follow = |reply| Message::Follow(Wire((id, to, ticket)), reply);
            return drop(reply.send(Wire(self.ask_owner(id, ASK_TIMEOUT, follow).await)));
        }
        let Ok(place) = self.followers.clone().try_acquire_owned() else {
            let why = ScheduleError::NoOutput("too many are following on this node; try again later".into());
            return drop(reply.send(Wire(Err(why))));
        };
        let _ = reply.send(Wire(Ok(())));
        if let Err(e) = follow::serve(&self, id, to, ticket).await {
            tracing::debug!(task = %id, error = %e, "a follower went");
        }
        drop(place);
    }

    /// Whether an attempt counts that never may twice at once.
    pub(super) async fn counts(&self, (id, attempt, term, node): (Uuid, u32, Term, NodeId)) -> bool {
        self.change(|state, now| (state.core.counts(id, attempt, term, node, now), Vec::new(), Also::default())).await
    }

    /// Asks a node to run something, and tells the core what came of it. An order that has not gone out when its attempt
    /// counts no more is taken back: a node that comes up seconds later must not run what another one has done.
    pub(super) async fn order(self: Arc<Self>, node: NodeId, run: Run) {
        let (id, attempt, term) = (run.id, run.attempt, run.term);
        let mut changes = self.changes();
        let counts_no_more =
            async { while self.state().core.is_current(id, attempt, term) && changes.changed().await.is_ok() {} };
        let answer = tokio::select! {
            biased;
            answer = self.ask_to_run(node, run) => answer,
            () = counts_no_more => {
                tracing::debug!(task = %id, ?node, attempt, "the attempt counts no more: its order is taken back");
                return;
            }
        };
        let outcome = match answer {
            Ok(Ok(sandbox)) => Ok(sandbox),
            Ok(Err(ScheduleError::NoRoom)) => Err(Refusal::NoRoom),
            Ok(Err(ScheduleError::TakenOver)) => Err(Refusal::TakenOver),
            Ok(Err(ScheduleError::Further(attempt))) => Err(Refusal::Further(attempt)),
            Ok(Err(e @ (ScheduleError::Invalid { .. } | ScheduleError::NoFence(_)))) => {
                Err(Refusal::Never(e.to_string()))
            }
            Ok(Err(e)) => Err(Refusal::Silent(e.to_string())),
            Err(e) => Err(Refusal::Silent(e.to_string())),
        };
        if let Err(refusal) = &outcome {
            tracing::debug!(task = %id, ?node, attempt, of = STRIKES_MAX, ?refusal, "a node did not take a command");
        }
        self.change(|state, now| ((), state.core.ran(node, id, (attempt, term), outcome, now), Also::default())).await;
    }

    /// A node's answer. A scheduler that is being started again is asked once more.
    async fn ask_to_run(&self, node: NodeId, run: Run) -> Result<Result<Level, ScheduleError>, Error> {
        let mut answer = Err(Error::Timeout);
        for _ in 0..ABSENT_TRIES {
            let run = run.clone();
            answer = self.scheduler(node).ask(RUN_TIMEOUT, |reply| Message::Run(Wire(run), reply)).await;
            if !matches!(answer, Err(Error::NoSuchActor(_))) {
                break;
            }
            sleep(ABSENT_PAUSE).await;
        }
        answer
    }

    /// Tells a node to end an attempt, until it has, or the attempt counts no more.
    pub(super) async fn order_stop(self: Arc<Self>, node: NodeId, id: Uuid, attempt: u32, term: Term) {
        loop {
            let stop = Wire((id, attempt, term));
            let stopped = self.scheduler(node).ask(STOP_TIMEOUT, |reply| Message::Stop(stop, reply)).await;
            if matches!(stopped, Ok(Ok(()) | Err(ScheduleError::TakenOver)))
                || !self.state().core.is_current(id, attempt, term)
            {
                return;
            }
            sleep(STOP_PAUSE).await;
        }
    }

    /// Checks a spec and replaces nodes' names and prefixes by their keys.
    fn resolve(&self, mut spec: Spec) -> Result<Spec, ScheduleError> {
        spec::check(&spec)?;
        let picture = self.context.members.now();
        for (field, named) in [("node", &mut spec.node), ("preferred_node", &mut spec.preferred_node)] {
            let Some(text) = named else { continue };
            let unknown = |error| ScheduleError::Named { field: field.into(), error };
            *named = Some(lookup::find(&picture, text).map_err(unknown)?.id.to_string());
        }
        Ok(spec)
    }

    /// The record of another node's command: from its owner, who knows best, or as it is known here.
    pub(super) async fn find(&self, id: Uuid) -> Option<Record> {
        self.ask_for(id).await.map(|(record, _)| record)
    }

    /// The same, and whether its owner says so.
    async fn ask_for(&self, id: Uuid) -> Option<(Record, bool)> {
        let Some(known) = self.told(id) else { return Some((self.ask_around(id).await?, true)) };
        if self.answers(known.owner) {
            let owner = self.scheduler(known.owner);
            let asked = owner.ask(GATHER_TIMEOUT, |reply| Message::Find(Wire(id), reply)).await;
            if let Ok(Some(record)) = asked {
                return Some((record, true));
            }
        }
        Some((known, false))
    }

    /// Asks the scheduler that decides about another node's command.
    async fn ask_owner<T>(
        &self,
        id: Uuid,
        timeout: Duration,
        make: impl FnOnce(RpcReplyPort<Wire<Result<T, ScheduleError>>>) -> Message + Send,
    ) -> Result<T, ScheduleError>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        let record = self.find(id).await.ok_or(ScheduleError::NoSuchTask(id))?;
        if self.answers(record.owner) {
            return self.scheduler(record.owner).ask(timeout, make).await.unwrap_or_else(|e| Err(e.into()));
        }
        let name = self.context.members.get(&record.owner).map_or_else(|| record.owner.short(), |m| m.name.clone());
        Err(ScheduleError::OwnerAway(name))
    }

    /// Whether that is another node, and up.
    fn answers(&self, node: NodeId) -> bool {
        node != self.context.directory.id() && self.context.members.is_up(&node)
    }

    /// Commands of nodes that don't answer, at most this many.
    fn orphans(&self, max: u32) -> Vec<Record> {
        let ids: Vec<Uuid> = {
            let state = self.state();
            let away = state.wards.owners().into_iter().filter(|owner| !self.answers(*owner));
            away.flat_map(|owner| state.wards.of(owner).collect::<Vec<_>>()).take(max as usize).collect()
        };
        ids.into_iter().filter_map(|id| self.told(id)).collect()
    }

    /// A record that has not come here yet.
    async fn ask_around(&self, id: Uuid) -> Option<Record> {
        let ask = |node| {
            let scheduler = self.scheduler(node);
            async move { scheduler.ask(GATHER_TIMEOUT, |reply| Message::Find(Wire(id), reply)).await }
        };
        let mut asked: FuturesUnordered<_> = self.context.members.others_up().into_iter().map(ask).collect();
        while let Some(answer) = asked.next().await {
            if let Ok(Some(record)) = answer {
                return Some(record);
            }
        }
        None
    }

    /// Adds the output so far to the record of a running command. Without an answer it stays as it is.
    async fn look(&self, mut record: Record) -> Record {
        if let (State::Running, Some(node), Some(_)) = (record.state, record.assigned, record.started_ms) {
            let actor = self.context.directory.at::<task::Message>(node, task::name(record.id));
            if let Ok(look) = actor.ask(GATHER_TIMEOUT / 2, task::Message::Look).await {
                (record.output, record.output_bytes) = (look.output, look.output_bytes);
            }
        }
        record
    }
}

fn no_prerequisite(id: Uuid) -> ScheduleError {
    let reason = format!("no task {id} is known: give the ids of tasks that were taken");
    ScheduleError::Invalid { field: "after".into(), reason }
}

fn listed(mut record: Record) -> Record {
    let mut cut = record.output.len().saturating_sub(LISTED_OUTPUT_BYTES);
    while !record.output.is_char_boundary(cut) {
        cut += 1;
    }
    record.output.drain(..cut);
    record
}

/// As many as fit into a message.
fn within(records: impl Iterator<Item = Record>) -> Vec<Record> {
    let mut bytes = 0;
    let fits = |record: &Record| {
        bytes += skep_runtime::wire::encode(record).len();
        bytes <= LIST_BYTES_MAX
    };
    records.take_while(fits).collect()
}
