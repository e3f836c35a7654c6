//! AgentActor: one run at work. Translates what happens into events for [`Life`] and does what it says.
//!
//! It lives as long as its run: when that has ended, the calls under way are given up, the budget is settled, and only
//! then is the end told to the parent and to followers, so that who hears of it finds the tokens returned.

use super::{
    AgentError, Goal, Message as Agents, NAME, Run, Told,
    children::{Place, World},
    documents::Document,
    family::Family,
    life::{Action, Event, Life},
    messages, news, records,
    thinking::Thinking,
    tools::{self, Bench},
};
use crate::{
    Context,
    approval::{self, Arguments, Call, Passed},
    audit::Who,
    budget,
    defaults::GATHER_TIMEOUT,
    digest::Digest,
    event::What,
    pipeline::Turn,
    thread,
};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr};
use serde_json::Value;
use skep_runtime::{
    Error, NodeId, Stream, Tasks, Ticket, Wire,
    defaults::{ASK_TIMEOUT, NAME_CHARS_MAX},
    frames,
    member::State as Standing,
};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    io::AsyncWriteExt,
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

/// How long a run may take in all: a goal for a small model on a slow machine, with sub-agents.
pub(super) const RUN_TIME_MAX: Duration = Duration::from_secs(15 * 60);
/// How long a call that was given up may take to say what it cost.
const GIVE_UP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long starting a sub-agent may take: its budget is opened and its record written.
const START_TIMEOUT: Duration = Duration::from_secs(15);
/// How long one tool call may take, at most.
const TOOL_TIME_MAX: Duration = Duration::from_secs(5 * 60);
/// The pause before a record is offered again to a parent that didn't answer, its longest, and how often.
const REPORT_PAUSE: Duration = Duration::from_millis(250);
const REPORT_PAUSE_MAX: Duration = Duration::from_secs(10);
const REPORT_TRIES_MAX: u32 = 60;
/// The pause before the end of a run that the disk refused is written again.
const SAVE_PAUSE: Duration = Duration::from_secs(1);
/// How long a call that must not be made twice waits for the thread to know of it: a few tries of telling it.
const HEARD_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a sub-agent is told to end: its node may be away for a moment.
const STOP_TRIES: u32 = 5;
/// How long a follower may take to read one frame before it is left.
const FOLLOWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The published name of a run's actor.
pub(super) fn name(run: Uuid) -> String {
    let name = format!("{PREFIX}{run}");
    debug_assert!(name.len() <= NAME_CHARS_MAX);
    name
}

/// What all runs' names begin with.
pub(super) const PREFIX: &str = "agent/";

/// What a run's actor can be told: by this node alone, no variant has a form on the wire.
pub(super) enum Message {
    /// Something happened that its core decides about.
    Happened(Event),
    /// The sub-agent of this step may be sent: by this call, whose end is to be told.
    Allowed(u32, Box<Passed>),
    /// A record of a sub-agent came from this node; answered when it is taken.
    Moved(Box<Run>, NodeId, RpcReplyPort<Wire<()>>),
    /// End it; answered with its record when it has ended.
    Cancel(RpcReplyPort<Wire<Result<Run, AgentError>>>),
    /// Start a sub-agent of it, of these arguments in JSON; answered when it is on its way.
    Spawn(String, RpcReplyPort<Wire<Result<messages::Spawned, AgentError>>>),
    /// Follow it.
    Follow(NodeId, Ticket, RpcReplyPort<Wire<Result<(), AgentError>>>),
    /// It has ended, and its budget is settled.
    Closed,
}

impl ractor::Message for Message {}

/// What it starts with: its record, which is on disk, and its documents.
pub(super) struct Brief {
    pub(super) run: Run,
    /// What was said in its thread before.
    pub(super) history: Vec<Turn>,
    pub(super) documents: Vec<Document>,
    pub(super) folder: PathBuf,
}

/// Starts a run's actor under the AgentsActor.
pub(super) async fn start(context: &Context, agents: ActorCell, brief: Brief) -> Result<(), SpawnErr> {
    let name = name(brief.run.id);
    context.directory.spawn(&name, Agent, (context.clone(), brief), Some(agents)).await.map(drop)
}

struct Agent;

struct State {
    context: Context,
    life: Life,
    thinking: Arc<Thinking>,
    folder: PathBuf,
    /// The beginning of its documents, until the model has seen how dense they are.
    sample: String,
    family: watch::Sender<Family>,
    /// Calls of models and tools: they are waited for at the end, for they have something to settle.
    calls: TaskTracker,
    stop: CancellationToken,
    /// What ends with this actor.
    tasks: Tasks,
    closing: bool,
    /// The call that sends a sub-agent, until it is known whether that was started.
    passed: Option<Box<Passed>>,
    /// The version of its family that the thread knows that it is a turn of.
    known: Option<watch::Receiver<u64>>,
    /// Whether its record is on the disk as it is.
    saved: bool,
    cancelled: Vec<RpcReplyPort<Wire<Result<Run, AgentError>>>>,
}

impl Actor for Agent {
    type Msg = Message;
    type State = State;
    type Arguments = (Context, Brief);

    async fn pre_start(
        &self,
        _: ActorRef<Message>,
        (context, brief): (Context, Brief),
    ) -> Result<State, ActorProcessingErr> {
        let Brief { run, history, documents, folder } = brief;
        // Agents that are defined are metered by their names, others by the goals that they were given.
        let agent = run.goal.seat.as_ref().map(|seat| seat.agent.clone()).filter(|name| !name.is_empty());
        let agent = agent.unwrap_or_else(|| run.given().to_string());
        let tasks = context.env.tasks();
        let thinking = Thinking::new(context.clone(), run.goal.model.clone(), run.thread, agent);
        let sample = documents.first().map(|(_, text)| text.clone()).unwrap_or_default();
        let life = Life::new(run, history, documents);
        let mut family = Family::default();
        family.put(life.run().clone());
        Ok(State {
            context,
            life,
            thinking,
            folder,
            sample,
            family: watch::Sender::new(family),
            calls: TaskTracker::new(),
            stop: CancellationToken::new(),
            tasks,
            closing: false,
            passed: None,
            known: None,
            saved: true,
            cancelled: Vec::new(),
        })
    }

    async fn post_start(&self, me: ActorRef<Message>, state: &mut State) -> Result<(), ActorProcessingErr> {
        me.send_after(RUN_TIME_MAX, || Message::Happened(Event::Overdue));
        let run = state.life.run();
        state.context.events.publish(|| What::AgentStarted(news::told(run)));
        state.context.events.publish(|| What::AgentWorking(news::told(run)));
        let whom = match (&run.goal.seat, run.goal.parent) {
            (Some(seat), _) => Some((Whom::Thread, seat.owner)),
            (None, parent) => parent.map(|parent| (Whom::Parent(parent.run), parent.node)),
        };
        if let Some((whom, node)) = whom {
            let (told, known) = watch::channel(0);
            state.known = matches!(whom, Whom::Thread).then_some(known);
            let report = report(state.context.clone(), run.id, whom, node, state.family.subscribe(), told);
            state.context.tasks.spawn(report);
        }
        // Before it says who is up: a parent's node may have died while the run was on its way here.
        let (watcher, mut changes) = (me.clone(), state.context.members.changes());
        state.tasks.spawn(Box::pin(async move {
            loop {
                changes.borrow_and_update();
                if watcher.cast(Message::Happened(Event::Picture)).is_err() || changes.changed().await.is_err() {
                    return;
                }
            }
        }));
        let (thinking, goal, sample) =
            (state.thinking.clone(), state.life.run().goal.goal.clone(), std::mem::take(&mut state.sample));
        state.tasks.spawn(Box::pin(async move {
            let room = thinking.room(&goal, &sample).await;
            // The actor that would take it owns this task.
            let _ = me.cast(Message::Happened(Event::Ready(room)));
        }));
        Ok(())
    }

    async fn handle(
        &self,
        me: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            // Boxed, here and below: an agent that waits would keep room for all that it may ever do, several times.
            Message::Happened(event) => Box::pin(state.happened(&me, event)).await,
            Message::Allowed(step, passed) => {
                state.passed = Some(passed);
                Box::pin(state.happened(&me, Event::Allowed(step))).await;
            }
            Message::Moved(run, by, reply) => {
                if state.life.believes(by, &run) {
                    state.family.send_modify(|family| family.put((*run).clone()));
                    Box::pin(state.happened(&me, Event::Moved(run))).await;
                } else {
                    tracing::warn!(run = %run.id, %by, "a node speaks for a run that it does not host");
                }
                drop(reply.send(Wire(())));
            }
            Message::Cancel(reply) => {
                state.cancelled.push(reply);
                Box::pin(state.happened(&me, Event::Cancel)).await;
            }
            Message::Spawn(args, reply) => {
                let spawned = Box::pin(state.spawn(&me, &args)).await;
                drop(reply.send(Wire(spawned)));
            }
            Message::Follow(node, ticket, reply) => {
                let follow = follow(
                    state.context.clone(),
                    node,
                    ticket,
                    state.life.run().thread,
                    state.family.subscribe(),
                    reply,
                );
                state.context.tasks.spawn(follow);
            }
            Message::Closed => {
                let run = state.life.run().clone();
                state.family.send_modify(|family| {
                    family.put(run.clone());
                    family.over = true;
                });
                state.cancelled.drain(..).for_each(|reply| drop(reply.send(Wire(Ok(run.clone())))));
                for kind in [What::AgentUpdated, What::AgentIdle, What::AgentStopped] {
                    state.context.events.publish(|| kind(news::told(&run)));
                }
                me.stop(None);
            }
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Message>, state: &mut State) -> Result<(), ActorProcessingErr> {
        state.stop.cancel();
        Ok(())
    }
}

impl State {
    async fn happened(&mut self, me: &ActorRef<Message>, event: Event) {
        let actions = self.in_world(|life, world| life.on(event, world));
        self.after(me, actions).await;
    }

    async fn spawn(&mut self, me: &ActorRef<Message>, args: &str) -> Result<messages::Spawned, AgentError> {
        let invalid = |e: serde_json::Error| AgentError::Invalid { field: "goal".into(), reason: e.to_string() };
        let args: Value = serde_json::from_str(args).map_err(invalid)?;
        match self.in_world(|life, world| life.spawn(&args, world)) {
            Ok((actions, id, node)) => {
                self.after(me, actions).await;
                Ok(messages::Spawned { id, node })
            }
            Err(error) => {
                self.refused(tools::spawn_sub_agent::NAME, &args, error.to_string());
                Err(error)
            }
        }
    }

    /// Has it written down that a call was refused before anybody could be asked about it.
    fn refused(&self, tool: &str, args: &Value, why: String) {
        let (context, call) = (self.context.clone(), self.asked(tool, args, false));
        let note = async move { approval::refused(&context, &call, why).await };
        self.context.tasks.spawn(self.calls.track_future(note));
    }

    fn in_world<T>(&mut self, work: impl FnOnce(&mut Life, &World) -> T) -> T {
        let (env, places) = (&self.context.env, places(&self.context));
        let fresh = || env.id();
        let me = self.context.directory.id();
        work(&mut self.life, &World { now_ms: env.now_ms(), me, places: &places, fresh: &fresh })
    }

    /// Writes down what has changed, and does what is to be done.
    async fn after(&mut self, me: &ActorRef<Message>, actions: Vec<Action>) {
        if self.life.take_changed() {
            let run = self.life.run();
            let saved = records::save(&self.context.store, run).await;
            if let Err(error) = &saved {
                // The run goes on: its answer is worth more than its record, which the next step writes again.
                tracing::warn!(%error, run = %run.id, "an agent's record could not be saved");
            }
            self.saved = saved.is_ok();
            if !run.state.ended() {
                self.family.send_modify(|family| family.put(run.clone()));
                self.context.events.publish(|| What::AgentUpdated(news::told(run)));
            }
        }
        for action in actions {
            self.act(me, action);
        }
        if self.life.run().state.ended() && !self.closing {
            self.closing = true;
            self.close(me);
        }
    }

    fn act(&mut self, me: &ActorRef<Message>, action: Action) {
        let me = me.clone();
        match action {
            Action::Think(prompt, share) => {
                let (thinking, stop) = (self.thinking.clone(), self.stop.clone());
                let think = async move {
                    let thought = thinking.think(prompt, share, &stop).await;
                    let _ = me.cast(Message::Happened(Event::Thought(thought)));
                };
                self.context.tasks.spawn(self.calls.track_future(think));
            }
            Action::Call(step, tool, args, doubtful) => {
                let (run, asked, owed) = (self.life.run(), self.asked(&tool, &args, doubtful), self.owed(&tool));
                let bench = Bench {
                    context: self.context.clone(),
                    seat: run.goal.seat.clone(),
                    key: key(run, step, &asked),
                    sandbox: run.goal.fence(),
                    folder: self.folder.clone(),
                    patience: TOOL_TIME_MAX,
                    stop: self.stop.clone(),
                };
                let call = async move {
                    let passed = match heard(owed, &bench.stop).await {
                        Ok(()) => approval::pass(&bench.context, asked, &bench.stop).await,
                        Err(why) => Err(why),
                    };
                    let result = match passed {
                        Ok(passed) => {
                            let result = tools::call(bench, &tool, &args).await;
                            passed.ended(&result).await;
                            result
                        }
                        Err(why) => Err(why),
                    };
                    let _ = me.cast(Message::Happened(Event::Observed(step, result)));
                };
                self.context.tasks.spawn(self.calls.track_future(call));
            }
            Action::Ask(step, tool, args, doubtful) => {
                let (context, stop, owed) = (self.context.clone(), self.stop.clone(), self.owed(&tool));
                let asked = self.asked(&tool, &args, doubtful);
                let ask = async move {
                    let passed = match heard(owed, &stop).await {
                        Ok(()) => approval::pass(&context, asked, &stop).await,
                        Err(why) => Err(why),
                    };
                    let _ = me.cast(match passed {
                        Ok(passed) => Message::Allowed(step, Box::new(passed)),
                        Err(why) => Message::Happened(Event::Observed(step, Err(why))),
                    });
                };
                self.context.tasks.spawn(self.calls.track_future(ask));
            }
            Action::Refused(tool, args, why) => self.refused(&tool, &args, why),
            Action::Sent(result) => {
                if let Some(passed) = self.passed.take() {
                    let note = async move { passed.ended(&result).await };
                    self.context.tasks.spawn(self.calls.track_future(note));
                }
            }
            Action::Start(node, mut goal) => {
                let context = self.context.clone();
                if let Some(parent) = goal.parent {
                    let own = &self.life.run().goal.warrant;
                    goal.warrant = own.extended(&*context.swarm, node, &goal, &parent);
                }
                self.tasks.spawn(async move {
                    let child = goal.parent.map(|parent| parent.child).unwrap_or_default();
                    let started = start_child(&context, node, *goal).await;
                    let _ = me.cast(Message::Happened(Event::Started(child, started)));
                });
            }
            Action::Stop(child, node) => {
                let context = self.context.clone();
                self.context.tasks.spawn(async move { stop_child(&context, node, child).await });
            }
        }
    }

    /// A call of a tool, as the policy is asked about it: exactly what the tool is given.
    fn asked(&self, tool: &str, args: &Value, doubtful: bool) -> Call {
        let run = self.life.run();
        let agent = run.goal.agent_name().to_owned();
        let turn = run.goal.turn(run.id);
        let scope = if run.goal.parent.is_some() { run.id } else { turn };
        let who = Who { agent, run: run.id, turn, thread: run.thread };
        Call { id: self.context.env.id(), who, tool: tool.to_owned(), args: Arguments::of(args), scope, doubtful }
    }

    /// What whom this run works for has to have heard before this tool is called: of one that must not be called twice, that
    /// it is about to be.
    fn owed(&self, tool: &str) -> Option<(watch::Receiver<u64>, u64)> {
        let known = self.known.clone().filter(|_| tools::is_once(tool))?;
        Some((known, self.family.borrow().version()))
    }

    /// Gives up what is under way and settles the budget.
    fn close(&self, me: &ActorRef<Message>) {
        let (me, calls, stop) = (me.clone(), self.calls.clone(), self.stop.clone());
        let (context, run, mut saved) = (self.context.clone(), self.life.run().clone(), self.saved);
        self.context.tasks.spawn(async move {
            stop.cancel();
            calls.close();
            if timeout(GIVE_UP_TIMEOUT, calls.wait()).await.is_err() {
                tracing::warn!("a call of an ended agent did not end in time: what it reserved is charged");
            }
            if !run.goal.tools.is_empty() {
                approval::withdraw(&context, run.id).await;
            }
            done(&context, run.thread, run.id).await;
            forget_folder(&context, run.id, &run.goal).await;
            // Nobody is told of an end that a restart would undo. A disk that is full has room again some day.
            while !saved {
                sleep(SAVE_PAUSE).await;
                saved = records::save(&context.store, &run).await.is_ok();
            }
            let _ = me.cast(Message::Closed);
        });
    }
}

/// What a call is known by: the same in each attempt at what the run does, if it is the same call.
pub(super) fn key(run: &Run, step: u32, call: &Call) -> String {
    let exact = format!("{} {}", run.goal.errand(run.id), call.args.text());
    format!("agent {} {step} {}", run.goal.turn(run.id), Digest::of(exact.as_bytes()))
}

/// Waits until the thread has heard so much. Else, should this node die, whoever takes the turn over would not know that the
/// call may have been made, and make it once more without asking. A thread that is not to be reached may have another owner
/// by now, who does that already: so the call is not made.
async fn heard(owed: Option<(watch::Receiver<u64>, u64)>, stop: &CancellationToken) -> Result<(), String> {
    let Some((mut known, version)) = owed else { return Ok(()) };
    let heard = async { known.wait_for(|known| *known >= version).await.is_ok() };
    tokio::select! {
        heard = timeout(HEARD_TIMEOUT, heard) => match heard {
            Ok(true) => Ok(()),
            _ => Err("not done: the node that keeps the thread does not answer, and it could not be undone".into()),
        },
        () = stop.cancelled() => Err("the run has ended".into()),
    }
}

/// Tells the budget that this run's work is over.
pub(super) async fn done(context: &Context, thread: Uuid, run: Uuid) {
    let budget = context.directory.here::<budget::Message>(budget::NAME);
    // An owner that doesn't answer is told again later by the budget's own actor.
    let done = budget.ask(ASK_TIMEOUT * 2, |reply| budget::Message::Done(Wire((thread, run)), reply)).await;
    tracing::debug!(?done, %thread, "an agent's budget is settled");
}

/// The folder that a run's tools may read if its goal names none.
pub(super) fn own_folder(context: &Context, run: Uuid) -> PathBuf {
    context.home.join("runs").join(run.to_string())
}

/// Deletes a run's own folder: its documents were copies.
pub(super) async fn forget_folder(context: &Context, run: Uuid, goal: &Goal) {
    if goal.folder.is_none() {
        let folder = own_folder(context, run);
        let removed = context.tasks.compute(move || std::fs::remove_dir_all(folder)).await;
        // Most runs have none.
        tracing::trace!(?removed, %run, "an agent's folder is gone");
    }
}

async fn start_child(context: &Context, node: NodeId, goal: Goal) -> Result<(), AgentError> {
    if let Some(parent) = goal.parent {
        let root = context.directory.at::<Agents>(parent.root_node, NAME);
        let asked = Wire((parent.root, parent.child));
        root.ask(ASK_TIMEOUT, |reply| Agents::Admit(asked, reply)).await??;
    }
    let agents = context.directory.at::<Agents>(node, NAME);
    agents.ask(START_TIMEOUT, |reply| Agents::Start(Wire(goal), reply)).await?.map(drop)
}

/// Tells a sub-agent to end. One whose node is down ends by itself, or with its node.
pub(super) async fn stop_child(context: &Context, node: NodeId, child: Uuid) {
    let agents = context.directory.at::<Agents>(node, NAME);
    for _ in 0..STOP_TRIES {
        let gone = context.members.get(&node).is_none_or(|m| m.state != Standing::Up);
        if gone || agents.ask(START_TIMEOUT, |reply| Agents::Cancel(Wire(child), reply)).await.is_ok() {
            return;
        }
        sleep(REPORT_PAUSE).await;
    }
}

/// Who is told how a run goes.
#[derive(Debug, Clone, Copy)]
enum Whom {
    /// The run that it works for: also of the runs below it.
    Parent(Uuid),
    /// The thread that it is a turn of.
    Thread,
}

/// Tells whom it is for of each change of the run, the end last, until it was answered or that node is gone.
async fn report(
    context: Context,
    run: Uuid,
    whom: Whom,
    node: NodeId,
    mut family: watch::Receiver<Family>,
    heard: watch::Sender<u64>,
) {
    let mut version = 0;
    loop {
        let (runs, now, over) = {
            let family = family.borrow_and_update();
            let (runs, now) = family.since(version);
            (runs, now, family.over)
        };
        let meant = |changed: &Run| matches!(whom, Whom::Parent(_)) || changed.id == run;
        for changed in runs.iter().filter(|changed| meant(changed)) {
            if !told(&context, whom, node, changed).await {
                return;
            }
        }
        version = now;
        heard.send_replace(version);
        if over {
            // Of the others it is not noted that they were not heard.
            if matches!(whom, Whom::Parent(_)) {
                records::heard(&context.store, run).await;
            }
            return;
        }
        if family.changed().await.is_err() {
            return;
        }
    }
}

/// Tells a sub-agent's parent that it has ended. Who is gone has ended its sub-agents, or lost them already.
pub(super) async fn tell_end(context: &Context, run: &Run) {
    if let Some(parent) = run.goal.parent {
        told(context, Whom::Parent(parent.run), parent.node, run).await;
        records::heard(&context.store, run.id).await;
    }
}

/// Offers a record to whom it is for until that one has it. `false`: its node is gone, or doesn't answer for long.
async fn told(context: &Context, whom: Whom, node: NodeId, run: &Run) -> bool {
    let mut pause = REPORT_PAUSE;
    for _ in 0..REPORT_TRIES_MAX {
        let record = run.clone();
        let told = match whom {
            Whom::Parent(parent) => {
                let (told, agents) = (Told::new(context, parent, record), context.directory.at::<Agents>(node, NAME));
                agents.ask(ASK_TIMEOUT, |reply| Agents::Moved(Wire(told), reply)).await.is_ok()
            }
            Whom::Thread => {
                let keeper = thread::keeper(context, run.thread).await.unwrap_or(node);
                let threads = context.directory.at::<thread::Message>(keeper, thread::NAME);
                let told = threads.ask(ASK_TIMEOUT, |reply| thread::Message::Moved(Wire(record), reply)).await;
                matches!(told, Ok(Ok(())))
            }
        };
        if told {
            return true;
        }
        let up = node == context.directory.id() || context.members.get(&node).is_some_and(|m| m.state == Standing::Up);
        // A thread is kept by another node once its own is missed.
        if !up && matches!(whom, Whom::Parent(_)) {
            return false;
        }
        sleep(pause).await;
        pause = (pause * 2).min(REPORT_PAUSE_MAX);
    }
    tracing::warn!(run = %run.id, "whom an agent works for does not answer");
    false
}

/// Writes the family and the thread's budget to a follower until the run is over or nobody reads any more.
async fn follow(
    context: Context,
    node: NodeId,
    ticket: Ticket,
    thread: Uuid,
    mut family: watch::Receiver<Family>,
    reply: RpcReplyPort<Wire<Result<(), AgentError>>>,
) {
    let mut stream = match context.directory.open(node, ticket).await {
        Ok(stream) => stream,
        Err(error) => return drop(reply.send(Wire(Err(error.into())))),
    };
    drop(reply.send(Wire(Ok(()))));
    let (mut version, mut warned) = (0, None);
    loop {
        let (runs, now, over) = {
            let family = family.borrow_and_update();
            let (runs, now) = family.since(version);
            (runs, now, family.over)
        };
        version = now;
        for run in runs {
            if write(&mut stream, &messages::Event::Run(Box::new((*run).clone()))).await.is_err() {
                return;
            }
        }
        for event in budget_events(&context, thread, &mut warned).await {
            if write(&mut stream, &event).await.is_err() {
                return;
            }
        }
        // An actor that failed leaves its picture as it was; the end is the end.
        if over || family.changed().await.is_err() {
            break;
        }
    }
    if write(&mut stream, &messages::Event::End).await.is_ok() {
        let _ = stream.writer.shutdown().await;
    }
}

/// What there is to tell of a run that is not at work.
pub(super) async fn last_words(
    context: &Context,
    run: Run,
    warned: &mut Option<budget::Severity>,
) -> Vec<messages::Event> {
    let budget = budget_events(context, run.thread, warned).await;
    std::iter::once(messages::Event::Run(Box::new(run))).chain(budget).chain([messages::Event::End]).collect()
}

/// Where the thread's budget stands, and the thresholds that it has passed since it was last looked at.
async fn budget_events(context: &Context, thread: Uuid, warned: &mut Option<budget::Severity>) -> Vec<messages::Event> {
    let budget = context.directory.here::<budget::Message>(budget::NAME);
    let known = budget.ask(GATHER_TIMEOUT, |reply| budget::Message::Get(Wire(thread), reply)).await;
    let Ok(Ok(known)) = known else { return Vec::new() };
    let stands = messages::Event::Budget { spent: known.spent(), held: known.reserved + known.leased, max: known.max };
    let warnings = budget::Warning::since(*warned, &known).into_iter().map(messages::Event::Warning);
    *warned = known.warned.max(*warned);
    std::iter::once(stands).chain(warnings).collect()
}

pub(super) async fn write(stream: &mut Stream, event: &messages::Event) -> Result<(), Error> {
    timeout(FOLLOWER_TIMEOUT, frames::write(&mut stream.writer, event)).await.unwrap_or(Err(Error::Timeout))
}

/// Everyone who is up.
pub(super) fn places(context: &Context) -> Vec<Place> {
    let up = context.members.up();
    up.into_iter().map(|m| Place { id: m.id, name: m.name.clone(), load: m.load }).collect()
}
