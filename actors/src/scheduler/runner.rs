//! The runner's half of the desk: commands that run on this node, for whichever scheduler.

use super::{
    desk::{Also, Desk},
    fleet::Fleet,
    journal::Write,
    messages::{Ending, Message, Run, ScheduleError, State, Tap, Term},
    owner::STOP_TIMEOUT,
    placement::{Candidate, Taken},
    runs::{Order, Row, lost},
    spec,
};
use crate::{
    ledger,
    ownership::lease::LEASE,
    task::{
        self, Level,
        output::{Output, Sink},
        scratch::Scratches,
    },
};
use ractor::{ActorId, RpcReplyPort};
use skep_runtime::{Error, NodeId, Stream, Wire, bulk, defaults::ASK_TIMEOUT};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

/// The pause before an ending is told again to an owner that doesn't answer; it doubles up to the next.
const TELL_PAUSE: Duration = Duration::from_secs(1);
/// The longest such pause: an owner may be asleep for days.
const TELL_PAUSE_MAX: Duration = Duration::from_secs(30);
/// How often a node asks whether what it runs counts that never may run twice at once: four of five may be lost.
const LEASH_PERIOD: Duration = Duration::from_secs(1);
/// How long a command takes at most to end once it is told to: its grace, the killing, and some room.
pub(super) const END_MAX: Duration = Duration::from_secs(9);
/// How long the actor of a command that was just taken may need to appear.
const START_PAUSE: Duration = Duration::from_millis(50);
/// How often it is looked for.
const START_TRIES: u32 = 100;

/// Orders for one attempt that wait until it is written down: an owner asks once a second, and its heir may, too.
const STARTERS_MAX: usize = 16;

/// What an owner is told that wants something to run.
pub(super) type Started = RpcReplyPort<Wire<Result<Level, ScheduleError>>>;
type Answer = RpcReplyPort<Wire<Result<(), ScheduleError>>>;

impl Desk {
    /// Takes a run if there is room, and starts it when that is written down.
    pub(super) async fn run(self: &Arc<Self>, run: Run, reply: Started) {
        // The owner checked it, and may be of another version or worse.
        if let Err(e) = spec::check(&run.spec) {
            return drop(reply.send(Wire(Err(e))));
        }
        // The owner went by this node's card. What it requires is had or refused here: never something weaker instead.
        let sandbox = match self.context.fences.found(&self.context).await.grant(run.spec.demand.sandbox) {
            Ok(sandbox) => sandbox,
            Err(why) => return drop(reply.send(Wire(Err(ScheduleError::NoFence(why))))),
        };
        // Another may own it by now of whom this node has not heard as a runner.
        let known = self.context.ledger.version_of(&super::journal::RECORDS.key(run.id.as_bytes()));
        if known.is_some_and(|known| known.term > run.term.0) {
            return drop(reply.send(Wire(Err(ScheduleError::TakenOver))));
        }
        let node = self.myself();
        self.change(|state, _| {
            let row = match state.runs.order(&run, sandbox, node) {
                Ok(Order::Start(row)) => *row,
                Ok(Order::Inherited(row)) => {
                    state.runs.put(run.id, (*row).clone());
                    let (desk, ending, sandbox) = (self.clone(), row.ending.clone(), row.sandbox);
                    let saved: super::journal::Reply = Box::new(move |saved| {
                        // Without the disk the owner asks again, and this is as it was for it.
                        let _ =
                            reply.send(Wire(saved.map(|()| sandbox).map_err(|e| ScheduleError::Store(e.to_string()))));
                        if let Some(ending) = ending {
                            desk.clone().tasks.spawn(desk.tell(run.id, run.attempt, ending));
                        }
                    });
                    let writes = vec![Write::Row(run.id, row)];
                    return ((), Vec::new(), Also { writes, reply: Some(saved) });
                }
                Ok(Order::Known(sandbox)) => {
                    match state.starting.get_mut(&run.id) {
                        // What the disk refuses was never started.
                        Some(waiting) if waiting.len() < STARTERS_MAX => waiting.push(reply),
                        Some(_) => {}
                        None => drop(reply.send(Wire(Ok(sandbox)))),
                    }
                    return ((), Vec::new(), Also::default());
                }
                Err(e) => {
                    let _ = reply.send(Wire(Err(e)));
                    return ((), Vec::new(), Also::default());
                }
            };
            state.runs.put(run.id, row.clone());
            state.starting.insert(run.id, vec![reply]);
            let desk = self.clone();
            let writes = vec![Write::Row(run.id, Box::new(row))];
            let saved: super::journal::Reply = Box::new(move |saved| {
                let waiting = {
                    let mut state = desk.state();
                    if saved.is_err() {
                        state.runs.undone(run.id);
                    }
                    state.starting.remove(&run.id).unwrap_or_default()
                };
                let answer = saved.map(|()| sandbox).map_err(|e| ScheduleError::Store(e.to_string()));
                for reply in waiting {
                    let _ = reply.send(Wire(answer.clone()));
                }
                if answer.is_ok() {
                    desk.clone().tasks.spawn(desk.launch(run, sandbox));
                }
            });
            ((), Vec::new(), Also { writes, reply: Some(saved) })
        })
        .await;
    }

    /// Ends an attempt here; answers when nothing of it is left.
    pub(super) async fn stop(self: Arc<Self>, id: Uuid, attempt: u32, term: Term, reply: Answer) {
        let actor = self.context.directory.here::<task::Message>(task::name(id));
        let runs = || {
            let state = self.state();
            state.runs.get(id).filter(|row| row.attempt == attempt && row.ending.is_none()).map(|row| row.term)
        };
        let mut answer = Ok(());
        for _ in 0..START_TRIES {
            answer = match runs() {
                None => Ok(()),
                Some(heard) if heard > term => Err(ScheduleError::TakenOver),
                Some(_) => match actor.ask(STOP_TIMEOUT, task::Message::Stop).await {
                    Err(Error::NoSuchActor(_)) => {
                        sleep(START_PAUSE).await;
                        continue;
                    }
                    stopped => stopped.map_err(Into::into),
                },
            };
            break;
        }
        let _ = reply.send(Wire(answer));
    }

    /// An attempt ended on this node. Answers when that is on disk.
    pub(super) async fn ended(self: &Arc<Self>, id: Uuid, attempt: u32, ending: Ending, reply: RpcReplyPort<Wire<()>>) {
        let (desk, ending) = (self.clone(), ending.bounded());
        let me = self.context.directory.id();
        let gone = self.change(|state, now| {
            let Some(row) = state.runs.ended(id, attempt, ending, now.wall_ms) else {
                // Known, or of no interest any more.
                let _ = reply.send(Wire(()));
                return (Vec::new(), Vec::new(), Also::default());
            };
            state.actors.remove(&id);
            let (term, told) = (row.term, row.ending.clone());
            let mut writes = vec![Write::Row(id, Box::new(row.clone()))];
            let ours = row.owner == me && state.core.is_current(id, attempt, term) && !state.core.is_single(id);
            let (mut actions, mut gone) = (Vec::new(), Vec::new());
            if let Some(ending) = told.clone().filter(|_| ours) {
                // Its owner is here: there is one write, and nobody to tell.
                state.core.begin(id, row.sandbox, now);
                gone = state.heard(id, attempt, term, &mut writes);
                actions = state.core.moved(id, attempt, term, ending, now);
            }
            let saved: super::journal::Reply = Box::new(move |saved| {
                // Without the disk no answer: it is told again.
                if matches!(saved, Ok(()) | Err(ledger::Error::Alone)) {
                    let _ = reply.send(Wire(()));
                }
                if let Some(ending) = told.filter(|_| !ours) {
                    desk.clone().tasks.spawn(desk.tell(id, attempt, ending));
                }
            });
            (gone, actions, Also { writes, reply: Some(saved) })
        });
        let gone = gone.await;
        self.remove(gone).await;
    }

    /// An attempt ended on a node that ran it for us. Answers when that is on disk.
    pub(super) async fn moved(
        self: &Arc<Self>,
        (id, attempt, term, ending): (Uuid, u32, Term, Ending),
        reply: RpcReplyPort<Wire<()>>,
    ) {
        let desk = self.clone();
        if self.state().core.has_singles() {
            // What this node may not decide about now it hasn't heard.
            let heard = self.change(|state, _| (state.core.may_decide(id), Vec::new(), Also::default())).await;
            if !heard {
                return;
            }
        }
        let saved: super::journal::Reply = Box::new(move |saved| {
            // Without the disk no answer: it is told again, also if only an earlier telling could not be written. That
            // no other member has confirmed it is no reason to tell it again.
            if matches!(saved, Ok(()) | Err(ledger::Error::Alone)) && !desk.is_ending(id) {
                let _ = reply.send(Wire(()));
            }
        });
        let also = Also { writes: Vec::new(), reply: Some(saved) };
        self.change(|state, now| ((), state.core.moved(id, attempt, term, ending.bounded(), now), also)).await;
    }

    /// An actor of a command ended. If it did not say how its command did, that is lost.
    pub(super) async fn gone(self: Arc<Self>, actor: ActorId, why: String) {
        let found = self
            .state()
            .actors
            .iter()
            .find(|(_, (cell, _))| cell.get_id() == actor)
            .map(|(id, (_, attempt))| (*id, *attempt));
        if let Some((id, attempt)) = found {
            self.end(id, attempt, lost(&format!("its actor failed: {why}"))).await;
        }
    }

    /// Streams the output of a run that is or was here.
    pub(super) async fn tap(self: Arc<Self>, tap: Tap, reply: Answer) {
        let output = {
            let state = self.state();
            let known = state.runs.get(tap.id).is_some_and(|row| row.attempt == tap.attempt);
            state.outputs.get(&tap.id).filter(|_| known).cloned()
        };
        let Some(output) = output else {
            return drop(reply.send(Wire(Err(ScheduleError::NoOutput("it is no longer kept".into())))));
        };
        let _ = reply.send(Wire(Ok(())));
        let streamed = async {
            let Stream { mut reader, mut writer } = self.context.directory.open(tap.to, tap.ticket).await?;
            tokio::select! {
                biased;
                streamed = output.stream(tap.from, &mut writer) => streamed,
                () = bulk::left(&mut reader) => Err(Error::NoReply),
            }
        };
        if let Err(e) = streamed.await {
            tracing::debug!(task = %tap.id, error = %e, "the reader of an output went");
        }
    }

    /// Records went: their output goes too.
    pub(super) async fn forget(&self, ids: Vec<Uuid>) {
        let gone = self.change(|state, _| {
            let gone: Vec<Uuid> = ids.into_iter().filter(|id| state.runs.forget(*id)).collect();
            gone.iter().for_each(|id| drop(state.outputs.remove(id)));
            let writes = gone.iter().map(|id| Write::NoRow(*id)).collect();
            (gone, Vec::new(), Also { writes, reply: None })
        });
        let gone = gone.await;
        self.remove(gone).await;
    }

    /// Tells an owner how a run ended, until it has heard.
    pub(super) async fn tell(self: Arc<Self>, id: Uuid, attempt: u32, ending: Ending) {
        let owner = || self.state().runs.get(id).filter(|row| row.attempt == attempt).map(|row| (row.owner, row.term));
        let Some((mut to, mut term)) = owner() else { return };
        let mut pause = TELL_PAUSE;
        while self.context.members.get(&to).is_some() {
            let message = Wire((id, attempt, term, ending.clone()));
            let told = self.scheduler(to).ask(ASK_TIMEOUT, |reply| Message::Moved(message, reply)).await;
            if told.is_ok() {
                break;
            }
            sleep(pause).await;
            pause = (pause * 2).min(TELL_PAUSE_MAX);
            // Another may have taken its place.
            match owner() {
                Some(now) => (to, term) = now,
                None => return,
            }
        }
        let gone = self.change(|state, _| {
            let mut writes = Vec::new();
            let gone = state.heard(id, attempt, term, &mut writes);
            (gone, Vec::new(), Also { writes, reply: None })
        });
        let gone = gone.await;
        self.remove(gone).await;
    }

    /// Ends all that runs here as lost, so that its owners run it elsewhere. Answers when nothing of it is left.
    pub(super) async fn empty(self: Arc<Self>, reply: RpcReplyPort<Wire<u32>>) {
        let why = format!("node {} was drained", self.context.name);
        let sent = self.state().runs.send_away(&why);
        let stop = |(id, attempt, term)| {
            let (answer, stopped) = tokio::sync::oneshot::channel();
            let stopping = self.clone().stop(id, attempt, term, answer.into());
            async move {
                stopping.await;
                stopped.await
            }
        };
        let stopped = futures::future::join_all(sent.iter().copied().map(stop)).await;
        let _ = reply.send(Wire(stopped.iter().filter(|answer| matches!(answer, Ok(Wire(Ok(()))))).count() as u32));
    }

    /// Ends all that runs here, at most [`STOP_TIMEOUT`].
    pub(super) async fn stop_all(&self) {
        let running: Vec<Uuid> = self.state().actors.keys().copied().collect();
        let stop = |id| {
            let actor = self.context.directory.here::<task::Message>(task::name(id));
            async move { actor.ask(STOP_TIMEOUT, task::Message::Stop).await }
        };
        futures::future::join_all(running.into_iter().map(stop)).await;
    }

    /// Starts the actor of a run that was written down.
    async fn launch(self: Arc<Self>, run: Run, sandbox: Level) {
        let (id, attempt) = (run.id, run.attempt);
        let dir = folder(&self.context.home, id);
        let disk = !self.context.env.simulated();
        let once = run.spec.course.once;
        let mut until = Duration::MAX;
        if once {
            match self.leash(id, attempt).await {
                Some(good) => until = good,
                None => return self.end(id, attempt, lost("its owner did not say that it counts")).await,
            }
        }
        let started = async {
            if self.context.env.elapsed() >= until {
                return Err("its owner was too slow to say that it counts".to_owned());
            }
            if disk && dir.exists() {
                self.remove(vec![id]).await;
            }
            let leash = once.then_some(until);
            let sink = Sink::new(disk.then(|| dir.join("output")));
            self.state().outputs.insert(id, sink.output());
            let actor = task::actor::start(&self.context, run, (sandbox, leash), sink, self.me.clone()).await;
            actor.map_err(|e| e.to_string())
        };
        match started.await {
            Ok(actor) => {
                let over = {
                    let mut state = self.state();
                    let over = state.runs.get(id).is_none_or(|row| row.ending.is_some());
                    if !over {
                        state.actors.insert(id, (actor, attempt));
                    }
                    over
                };
                tracing::debug!(task = %id, attempt, over, "a command runs");
                if once && !over {
                    self.tasks.spawn(self.clone().hold(id, attempt, until));
                }
            }
            Err(e) => {
                let ending = Ending { lost: once, ..lost(&format!("this node could not start it: {e}")) };
                self.end(id, attempt, ending).await;
            }
        }
    }

    /// Asks the owner of an attempt whether it counts. Until when that is good.
    async fn leash(&self, id: Uuid, attempt: u32) -> Option<Duration> {
        let (owner, term) = {
            let state = self.state();
            let row = state.runs.get(id).filter(|row| row.attempt == attempt && row.ending.is_none())?;
            (row.owner, row.term)
        };
        let asked = self.context.env.elapsed();
        let run = Wire((id, attempt, term, self.context.directory.id()));
        let answer = self.scheduler(owner).ask(LEASE, |reply| Message::Counts(run, reply)).await;
        (answer == Ok(true)).then(|| asked + LEASE)
    }

    /// Ends an attempt that never may run twice at once when nobody says any more that it counts.
    async fn hold(self: Arc<Self>, id: Uuid, attempt: u32, mut until: Duration) {
        loop {
            let left = until.saturating_sub(self.context.env.elapsed());
            if left.is_zero() {
                if cfg!(feature = "mutant-unleashed") {
                    return;
                }
                break;
            }
            sleep(left.min(LEASH_PERIOD)).await;
            let runs = {
                let state = self.state();
                state.runs.get(id).is_some_and(|row| row.attempt == attempt && row.ending.is_none())
            };
            if !runs {
                return;
            }
            // An answer that comes too late is none.
            let left = until.saturating_sub(self.context.env.elapsed());
            if let Ok(Some(good)) = timeout(left, self.leash(id, attempt)).await {
                until = until.max(good);
                let actor = self.context.directory.here::<task::Message>(task::name(id));
                // If it is gone, its command is over, as the next look finds.
                let _ = actor.tell(task::Message::Good(Wire(until.as_millis() as u64))).await;
            }
        }
        tracing::info!(task = %id, attempt, "a command ends here: nobody says any more that it counts");
        let why = format!("node {} lost touch with its owner", self.context.name);
        let sent = self.state().runs.send_one_away(id, attempt, &why);
        if let Some(term) = sent {
            let (answer, _) = tokio::sync::oneshot::channel();
            self.stop(id, attempt, term, answer.into()).await;
        }
    }

    async fn end(self: &Arc<Self>, id: Uuid, attempt: u32, ending: Ending) {
        let (reply, _) = tokio::sync::oneshot::channel();
        self.ended(id, attempt, ending, reply.into()).await;
    }

    /// This node, as placement sees it, with nothing promised yet.
    fn myself(&self) -> Candidate {
        let me = self.context.directory.id();
        let seen = self.context.members.get(&me).map(|member| Fleet::default().seen(&member));
        Candidate {
            id: me,
            up: true,
            draining: seen.as_ref().is_some_and(|s| s.draining),
            shut: false,
            cpus: seen.as_ref().map_or(0, |s| s.cpus),
            memory_bytes: seen.as_ref().map_or(0, |s| s.memory_bytes),
            free_bytes: seen.as_ref().map_or(0, |s| s.free_bytes),
            taken: Taken::default(),
            offer: seen.map(|s| s.offer).unwrap_or_default(),
        }
    }

    async fn remove(&self, ids: Vec<Uuid>) {
        if self.context.env.simulated() {
            return;
        }
        // Most commands say so little that they have none.
        let folders: Vec<PathBuf> =
            ids.into_iter().map(|id| folder(&self.context.home, id)).filter(|folder| folder.exists()).collect();
        if folders.is_empty() {
            return;
        }
        let removed = self.context.tasks.compute(move || folders.iter().for_each(|folder| remove(folder)));
        let _ = removed.await;
    }
}

impl super::desk::State {
    /// The owner knows how an attempt ended. Whose output goes; what is to be written is added.
    fn heard(&mut self, id: Uuid, attempt: u32, term: Term, writes: &mut Vec<Write>) -> Vec<Uuid> {
        let heard = self.runs.heard(id, attempt, term);
        heard.outputs.iter().for_each(|id| drop(self.outputs.remove(id)));
        writes.extend(heard.forgotten.iter().map(|id| Write::NoRow(*id)));
        writes.extend(heard.written.into_iter().map(|(id, row)| Write::Row(id, Box::new(row))));
        heard.outputs
    }
}

/// What a node's folder holds of its tasks after a restart: outputs of runs that are known, nothing else. Kills what
/// the earlier process left running. Blocks.
pub(super) fn sweep(node: NodeId, (home, scratches): (&Path, &Scratches), rows: &[(Uuid, Row)]) -> Vec<(Uuid, Output)> {
    // Of what was heard nothing was left: it was looked for before.
    let unclear = |row: &Row| !row.heard && row.ending.as_ref().is_none_or(|e| e.lost);
    for (task, row) in rows.iter().filter(|(_, row)| unclear(row)) {
        task::sweep(task::Mark { node, task: *task, attempt: row.attempt });
    }
    scratches.sweep();
    let known = |name: &str| Uuid::parse_str(name).is_ok_and(|id| rows.iter().any(|(known, _)| *known == id));
    for entry in std::fs::read_dir(home.join("tasks")).into_iter().flatten().flatten() {
        if !entry.file_name().to_str().is_some_and(known) {
            remove(&entry.path());
        }
    }
    let kept =
        rows.iter().filter_map(|(id, row)| Some((*id, row.ending.as_ref().filter(|e| e.state != State::Pending)?)));
    kept.map(|(id, ending)| (id, Output::ended(folder(home, id).join("output"), ending))).collect()
}

fn remove(dir: &Path) {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(dir = %dir.display(), error = %e, "the folder of a task can't be removed");
        }
        _ => {}
    }
}

/// Where the output of a task is on this node.
fn folder(home: &Path, id: Uuid) -> PathBuf {
    home.join("tasks").join(id.to_string())
}
