//! AgentsActor: starts runs, knows their records, and finds those of other nodes. One run's work is `run`'s.
//!
//! Questions that take another node, the disk or a budget are answered by tasks; this actor's mailbox stays free.
//! Starting a run is for any member of the swarm, as running a command is.

use super::{
    AgentError, Goal, Message, NAME, Run, RunState, Told,
    children::RESTARTED,
    documents::{DOCUMENTS_BYTES_MAX, Document},
    given,
    life::DEPTH_MAX,
    messages::Spawned,
    records, run, tools,
};
use crate::{
    Context,
    approval::{self, Arguments, Call},
    audit::Who,
    budget::{self, BudgetError, Limit},
    defaults::{GATHER_TIMEOUT, THREAD_TOKENS},
    questions::Questions,
    thread,
};
use futures::{StreamExt, stream::FuturesUnordered};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr, SupervisionEvent};
use serde::{Serialize, de::DeserializeOwned};
use skep_runtime::{Error, NodeId, Tasks, Ticket, Wire, defaults::ASK_TIMEOUT};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};
use uuid::Uuid;

/// Runs at work on one node: each waits for a model most of its time, but holds its documents.
pub const LIVE_MAX: usize = 64;
/// Those of them that are kept for runs whose answers other runs wait for, which hold their places meanwhile. Who waits for
/// one that waits has half of these to itself, and so on: the last one asked finds a place.
const LIVE_KEPT: usize = 16;
/// Questions that are worked on at once: each is a task that may hold documents.
const QUESTIONS_MAX: usize = 256;
/// Runs of one tree, its root included: what one goal may ever start.
const TREE_RUNS_MAX: usize = 64;
/// Bytes of a goal's words.
const GOAL_BYTES_MAX: usize = 32 << 10;
/// Documents of a goal.
pub(super) const DOCUMENTS_MAX: usize = 1024;
/// Bytes of all records in one answer: what fits one message.
const LIST_BYTES_MAX: usize = 768 << 10;
/// How long ending a run may take: the calls under way say what they cost, the budget is settled.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(30);

/// Starts the actor and publishes it. The budget's actor must be there first.
pub async fn start(context: &Context, supervisor: ActorCell) -> Result<ActorCell, SpawnErr> {
    let actor = context.directory.spawn(NAME, Agents, context.clone(), Some(supervisor)).await?;
    Ok(actor.get_cell())
}

struct Agents;

struct State {
    context: Context,
    tasks: Tasks,
    questions: Questions,
    /// The runs below each root that lives here.
    trees: BTreeMap<Uuid, BTreeSet<Uuid>>,
    /// Runs that the last process left unfinished.
    interrupted: Vec<Run>,
    /// Runs that had ended before, of which the last process may not have told their parents.
    untold: Vec<Run>,
}

impl Actor for Agents {
    type Msg = Message;
    type State = State;
    type Arguments = Context;

    async fn pre_start(&self, _: ActorRef<Message>, context: Context) -> Result<State, ActorProcessingErr> {
        let untold = records::untold(&context.store)?;
        let mut interrupted = records::unfinished(&context.store)?;
        for run in &mut interrupted {
            interrupt(run, RESTARTED, context.env.now_ms());
            records::save(&context.store, run).await?;
        }
        let tasks = context.env.tasks();
        let questions = Questions::new(tasks.spawner(), QUESTIONS_MAX, "agents");
        Ok(State { context, tasks, questions, trees: BTreeMap::new(), interrupted, untold })
    }

    async fn post_start(&self, _: ActorRef<Message>, state: &mut State) -> Result<(), ActorProcessingErr> {
        for run in std::mem::take(&mut state.interrupted) {
            let context = state.context.clone();
            state.tasks.spawn(async move { settle_lost(&context, &run).await });
        }
        for run in std::mem::take(&mut state.untold) {
            let context = state.context.clone();
            state.tasks.spawn(async move { run::tell_end(&context, &run).await });
        }
        Ok(())
    }

    async fn handle(
        &self,
        me: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let context = state.context.clone();
        match message {
            Message::Give(Wire(goal), reply) => {
                let agents = me.get_cell();
                state.questions.answer(reply, async move { given::give(&context, agents, goal).await });
            }
            Message::Start(Wire(goal), reply) => {
                let agents = me.get_cell();
                state.questions.answer(reply, async move { start_run(&context, agents, goal).await });
            }
            Message::Get(Wire(id), reply) => state.questions.answer(reply, async move { find(&context, id).await }),
            Message::Find(Wire(id), reply) => state.questions.answer(reply, async move { own(&context, id) }),
            Message::Own(Wire(count), reply) => state.questions.answer(reply, async move { newest(&context, count) }),
            Message::List(Wire(count), reply) => {
                state.questions.answer(reply, async move { list(&context, count).await })
            }
            Message::Cancel(Wire(id), reply) => {
                state.questions.answer(reply, async move { cancel(&context, id).await })
            }
            Message::Spawn(Wire((id, args)), reply) => {
                state.questions.answer(reply, async move { spawn(&context, id, args).await });
            }
            Message::Follow(Wire((id, node, ticket)), reply) => {
                state.questions.answer(reply, async move { follow(&context, id, node, ticket).await });
            }
            Message::Moved(Wire(told), reply) => {
                state.questions.answer(reply, async move { moved(&context, told).await });
            }
            Message::Admit(Wire((thread, child)), reply) => drop(reply.send(Wire(state.admit(thread, child)))),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Message>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        // An actor that failed is a bug of ours. Its run is over, the others go on.
        if let SupervisionEvent::ActorFailed(_, why) = event {
            tracing::error!(%why, "an agent's actor failed");
            let context = state.context.clone();
            let live: BTreeSet<String> = context.directory.names().into_iter().collect();
            for mut run in
                records::unfinished(&context.store)?.into_iter().filter(|run| !live.contains(&run::name(run.id)))
            {
                interrupt(
                    &mut run,
                    "the agent failed with a bug of ours; its message is in the node's log",
                    context.env.now_ms(),
                );
                records::save(&context.store, &run).await?;
                let context = context.clone();
                state.tasks.spawn(async move { settle_lost(&context, &run).await });
            }
        }
        Ok(())
    }
}

impl State {
    fn admit(&mut self, root: Uuid, child: Uuid) -> Result<(), AgentError> {
        let live = self.context.directory.names();
        let lives = |root: &Uuid| live.contains(&run::name(*root));
        self.trees.retain(|root, _| lives(root));
        if !lives(&root) {
            return Err(AgentError::Limit("the goal that they work for has ended".into()));
        }
        let tree = self.trees.entry(root).or_default();
        if tree.len() + 1 >= TREE_RUNS_MAX && !tree.contains(&child) {
            return Err(AgentError::Limit(format!("one goal has {TREE_RUNS_MAX} at most")));
        }
        tree.insert(child);
        Ok(())
    }
}

/// Starts a run here, or on the node that its goal names.
pub(super) async fn start_run(context: &Context, agents: ActorCell, mut goal: Goal) -> Result<Run, AgentError> {
    check(&goal)?;
    if let Some(text) = goal.node.take().filter(|_| goal.parent.is_none()) {
        let node = given::named(context, &text)?;
        if node != context.directory.id() {
            let there = context.directory.at::<Message>(node, NAME);
            return there.ask(ASK_TIMEOUT * 2, |reply| Message::Start(Wire(goal), reply)).await?;
        }
    }
    let live = context.directory.names().iter().filter(|name| name.starts_with(run::PREFIX)).count();
    if live >= live_max(&goal) {
        return Err(AgentError::Full(format!("{live} agents are at work on this node")));
    }
    let seated = goal.seat.as_ref().map(|seat| seat.run);
    let id = goal.parent.map(|parent| parent.child).or(seated).unwrap_or_else(|| context.env.id());
    if let Some(run) = read(context, id)? {
        return Ok(run);
    }
    admitted(context, &goal).await?;
    if goal.parent.is_none() && goal.sandbox.is_none() {
        // Whatever is done for it elsewhere is kept in as well as it would be here.
        goal.sandbox = Some(context.fences.found(context).await.best);
    }
    if goal.budget == 0 && goal.parent.is_some() {
        // Its parent has nothing left to give.
        return Err(BudgetError::Exhausted { wanted: 1, remaining: 0, max: 0 }.into());
    }
    let documents = given::gather(context, &mut goal).await?;
    let folder = prepare(context, id, &goal, &documents).await?;
    let thread = goal.thread(id);
    if goal.budget == 0 {
        goal.budget = THREAD_TOKENS;
    }
    if let Err(error) = open_budget(context, &goal, thread).await {
        run::forget_folder(context, id, &goal).await;
        return Err(error);
    }
    // What was said before stays with the thread.
    let history = goal.seat.as_mut().map(|seat| std::mem::take(&mut seat.history)).unwrap_or_default();
    let run = Run::new(id, goal, context.directory.id(), context.env.now_ms());
    let started = async {
        let unsaved = |e: skep_runtime::store::Error| AgentError::Store(e.to_string());
        records::save(&context.store, &run).await.map_err(unsaved)?;
        records::prune(&context.store).await.map_err(unsaved)?;
        let brief = run::Brief { run: run.clone(), history, documents, folder };
        run::start(context, agents, brief).await.map_err(|e| AgentError::Store(e.to_string()))
    };
    if let Err(error) = started.await {
        run::done(context, thread, id).await;
        run::forget_folder(context, id, &run.goal).await;
        return Err(error);
    }
    context.metrics.counter("agents_started", "Runs of agents that were started on this node").inc();
    Ok(run)
}

/// How many runs may be at work here so that this one begins, too.
fn live_max(goal: &Goal) -> usize {
    let waiting = goal.seat.as_ref().map_or(0, |seat| seat.waiting).max(goal.parent.map_or(0, |parent| parent.depth));
    LIVE_MAX - LIVE_KEPT.checked_shr(waiting.into()).unwrap_or(0)
}

/// Whether a goal may be worked on.
pub(super) fn check(goal: &Goal) -> Result<(), AgentError> {
    let invalid = |field: &str, reason: String| Err(AgentError::Invalid { field: field.into(), reason });
    if goal.goal.trim().is_empty() || goal.goal.len() > GOAL_BYTES_MAX {
        return invalid("goal", format!("it has 1 to {GOAL_BYTES_MAX} bytes"));
    }
    if let Some(tool) = goal.tools.iter().find(|name| !tools::ALL.iter().any(|tool| tool.name == name.as_str())) {
        let known: Vec<&str> = tools::ALL.iter().map(|tool| tool.name).collect();
        return invalid(
            "tools",
            format!("there is no {}; there are {}", super::data::bounded(tool, 64), known.join(", ")),
        );
    }
    if goal.tools.len() > tools::ALL.len() {
        return invalid("tools", "each is named once".into());
    }
    let bytes: usize = goal.documents.iter().map(|(name, text)| name.len() + text.len()).sum();
    if bytes > DOCUMENTS_BYTES_MAX || goal.documents.len() > DOCUMENTS_MAX {
        return invalid("documents", format!("{DOCUMENTS_MAX} with {DOCUMENTS_BYTES_MAX} bytes in all are the most"));
    }
    if goal.parent.is_some_and(|parent| parent.depth > DEPTH_MAX) {
        return Err(AgentError::Limit(format!("they nest {DEPTH_MAX} deep at most")));
    }
    if goal.seat.is_some() && goal.parent.is_some() {
        return invalid("seat", "a turn of a thread has no parent".into());
    }
    Ok(())
}

/// Whether this node may host a run of this goal. That it may not host a sub-agent is written down: somebody wanted more than
/// they have.
pub(super) async fn admitted(context: &Context, goal: &Goal) -> Result<(), AgentError> {
    let Some(parent) = &goal.parent else { return Ok(()) };
    let checked = match &goal.folder {
        Some(_) => Err(AgentError::Rights("a folder".into())),
        None => goal.warrant.check(&*context.swarm, context.directory.id(), goal, parent),
    };
    if let Err(error) = &checked {
        let agent = super::data::bounded(goal.agent_name(), 64);
        let who = Who { agent, run: parent.run, turn: parent.turn, thread: parent.thread };
        let args = serde_json::json!({ "goal": goal.goal, "tools": goal.tools, "budget": goal.budget });
        let (id, tool) = (context.env.id(), tools::spawn_sub_agent::NAME.to_owned());
        let call = Call { id, who, tool, args: Arguments::of(&args), scope: parent.child, doubtful: false };
        approval::refused(context, &call, error.to_string()).await;
    }
    checked
}

/// The folder that the run's tools may read: the goal's, or one of its own with its documents in it. Made only for
/// a run that can read at all.
async fn prepare(context: &Context, id: Uuid, goal: &Goal, documents: &[Document]) -> Result<PathBuf, AgentError> {
    if let Some(folder) = &goal.folder {
        return Ok(PathBuf::from(folder));
    }
    let folder = run::own_folder(context, id);
    if goal.tools.iter().any(|tool| tool == tools::read_file::NAME) {
        let (path, documents) = (folder.clone(), documents.to_vec());
        let write = move || {
            std::fs::create_dir_all(&path)?;
            let mut taken = BTreeSet::new();
            documents.iter().try_for_each(|(name, text)| std::fs::write(path.join(free_name(name, &mut taken)), text))
        };
        let written = context.tasks.compute(write).await.map_err(|e| AgentError::Store(e.to_string()))?;
        written.map_err(|e| AgentError::Store(e.to_string()))?;
    }
    Ok(folder)
}

/// A document's name as a file's that no other document of the run has.
fn free_name(name: &str, taken: &mut BTreeSet<String>) -> String {
    let name = file_name(name);
    let numbered = (2_u32..).map(|n| format!("{name}.{n}"));
    let free = std::iter::once(name.clone()).chain(numbered).find(|name| !taken.contains(name)).unwrap_or(name);
    taken.insert(free.clone());
    free
}

/// A document's name as a file's: nothing that leads elsewhere.
fn file_name(name: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let name: String = name.chars().take(100).map(plain).collect();
    let name = name.trim_start_matches('.');
    if name.is_empty() { "document".into() } else { name.into() }
}

async fn open_budget(context: &Context, goal: &Goal, thread: Uuid) -> Result<(), AgentError> {
    let budget = context.directory.here::<budget::Message>(budget::NAME);
    if goal.parent.is_some() || goal.seat.is_some() {
        // It may have changed hands since the goal was made.
        let keeper = thread::keeper(context, thread).await;
        let owner = keeper.unwrap_or_else(|| goal.budget_owner(context.directory.id()));
        let adopt = Wire((thread, owner));
        return Ok(budget.ask(ASK_TIMEOUT, |reply| budget::Message::Adopt(adopt, reply)).await?);
    }
    let open = Wire((thread, Limit { tokens: goal.budget, cost: goal.budget_cost }));
    let opened = budget.ask(ASK_TIMEOUT, |reply| budget::Message::Open(open, reply)).await?;
    Ok(opened.map(drop)?)
}

fn read(context: &Context, id: Uuid) -> Result<Option<Run>, AgentError> {
    records::get(&context.store, id).map_err(|e| AgentError::Store(e.to_string()))
}

pub(super) fn own(context: &Context, id: Uuid) -> Result<Run, AgentError> {
    read(context, id)?.ok_or(AgentError::NoSuchRun(id))
}

fn newest(context: &Context, count: u32) -> Vec<Run> {
    records::newest(&context.store, count as usize, LIST_BYTES_MAX).unwrap_or_else(|error| {
        tracing::error!(%error, "the records of agents can't be read");
        Vec::new()
    })
}

/// Asks everyone else who is up; answers in the order in which they come.
fn others<'a, T>(
    context: &'a Context,
    make: impl Fn(RpcReplyPort<Wire<T>>) -> Message + Copy + Send + 'a,
) -> FuturesUnordered<impl Future<Output = Result<T, Error>> + Send + 'a>
where
    T: Serialize + DeserializeOwned + Send + 'static,
{
    let ask = |node| {
        let there = context.directory.at::<Message>(node, NAME);
        async move { there.ask(GATHER_TIMEOUT, make).await }
    };
    context.members.others_up().into_iter().map(ask).collect()
}

/// How a run or a goal stands. That of a goal is known here; of a run any node may have to be asked.
pub(super) async fn find(context: &Context, id: Uuid) -> Result<Run, AgentError> {
    if let Some(run) = read(context, id)? {
        return Ok(run);
    }
    match given::now(context, id).await {
        Ok(run) => Ok(run),
        Err(_) => known(context, id).await,
    }
}

/// The record of a run, wherever it is.
pub(super) async fn known(context: &Context, id: Uuid) -> Result<Run, AgentError> {
    if let Some(run) = read(context, id)? {
        return Ok(run);
    }
    let mut answers = others(context, move |reply| Message::Find(Wire(id), reply));
    while let Some(answer) = answers.next().await {
        if let Ok(Ok(run)) = answer {
            return Ok(run);
        }
    }
    Err(AgentError::NoSuchRun(id))
}

async fn list(context: &Context, count: u32) -> Vec<Run> {
    let mut runs = newest(context, count);
    let answers = others(context, move |reply| Message::Own(Wire(count), reply));
    runs.extend(
        answers.filter_map(|answer| std::future::ready(answer.ok())).collect::<Vec<_>>().await.into_iter().flatten(),
    );
    // Goals are told of by their threads, whatever became of an attempt.
    runs.retain(|run| run.given() == run.id);
    runs.extend(given::newest(context, count).await);
    runs.sort_by_key(|run| (std::cmp::Reverse(run.created_ms), run.id));
    runs.truncate(count as usize);
    runs
}

async fn cancel(context: &Context, id: Uuid) -> Result<Run, AgentError> {
    let here = context.directory.here::<run::Message>(run::name(id));
    match here.ask(CANCEL_TIMEOUT, run::Message::Cancel).await {
        // It ended before it could take the message: its record says how.
        Err(Error::NoSuchActor(_) | Error::NoReply) => {}
        answer => return answer?,
    }
    let run = find(context, id).await?;
    if run.state.ended() {
        return Ok(run);
    }
    if given::end(context, id).await? {
        // What it has so far is told by its run, if that is there.
        if run.id != id {
            let there = context.directory.at::<Message>(run.node, NAME);
            let ended = there.ask(CANCEL_TIMEOUT, |reply| Message::Cancel(Wire(run.id), reply)).await;
            tracing::debug!(ok = ended.is_ok(), goal = %id, "the run of a goal that was ended");
        }
        return find(context, id).await;
    }
    if run.node == context.directory.id() && run.id == id {
        return Ok(run);
    }
    let there = context.directory.at::<Message>(run.node, NAME);
    there.ask(CANCEL_TIMEOUT, |reply| Message::Cancel(Wire(run.id), reply)).await?
}

/// Starts a sub-agent of a run, wherever that lives.
async fn spawn(context: &Context, id: Uuid, args: String) -> Result<Spawned, AgentError> {
    if args.len() > GOAL_BYTES_MAX {
        return Err(AgentError::Invalid {
            field: "goal".into(),
            reason: format!("it has 1 to {GOAL_BYTES_MAX} bytes"),
        });
    }
    let here = context.directory.here::<run::Message>(run::name(id));
    match here.ask(ASK_TIMEOUT, |reply| run::Message::Spawn(args.clone(), reply)).await {
        Err(Error::NoSuchActor(_) | Error::NoReply) => {}
        answer => return answer?,
    }
    let run = find(context, id).await?;
    if run.state == RunState::Pending {
        return Err(AgentError::Full("it has not begun".into()));
    }
    if (run.node == context.directory.id() && run.id == id) || run.state.ended() {
        return Err(AgentError::Limit("the run has ended".into()));
    }
    let there = context.directory.at::<Message>(run.node, NAME);
    there.ask(ASK_TIMEOUT, |reply| Message::Spawn(Wire((run.id, args)), reply)).await?
}

async fn follow(context: &Context, id: Uuid, node: NodeId, ticket: Ticket) -> Result<(), AgentError> {
    let here = context.directory.here::<run::Message>(run::name(id));
    match here.ask(ASK_TIMEOUT * 2, |reply| run::Message::Follow(node, ticket, reply)).await {
        Err(Error::NoSuchActor(_) | Error::NoReply) => {}
        answer => return answer?,
    }
    given::follow(context, id, node, ticket).await
}

/// Hands a sub-agent's record to its parent. One whose parent is no longer at work is ended.
async fn moved(context: &Context, told: Told) {
    if !told.holds(&*context.swarm) {
        return tracing::warn!(run = %told.run.id, by = %told.by, "a record of a sub-agent is not by who it says");
    }
    let Told { parent, run, by, .. } = told;
    let (id, node, ended) = (run.id, run.node, run.state.ended());
    let here = context.directory.here::<run::Message>(run::name(parent));
    let taken = here.ask(ASK_TIMEOUT, |reply| run::Message::Moved(Box::new(run), by, reply)).await;
    if taken.is_err() && !ended {
        let context = context.clone();
        context.clone().tasks.spawn(async move { run::stop_child(&context, node, id).await });
    }
}

/// Marks a run whose actor is gone.
fn interrupt(run: &mut Run, why: &str, now_ms: u64) {
    run.state = RunState::Failed;
    run.error = Some(why.into());
    run.completed_ms = Some(now_ms);
    run.steps.iter_mut().filter(|step| !step.state.ended()).for_each(|step| step.state = RunState::Failed);
}

/// Settles the budget of a run whose actor is gone, ends its sub-agents, and tells its parent.
async fn settle_lost(context: &Context, run: &Run) {
    run::done(context, run.thread, run.id).await;
    run::forget_folder(context, run.id, &run.goal).await;
    for (child, node) in &run.children {
        run::stop_child(context, *node, *child).await;
    }
    run::tell_end(context, run).await;
}
