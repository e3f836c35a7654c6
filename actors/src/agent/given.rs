//! Goals that people and clients give: checked, put on record with their documents, and found again whichever run works on
//! them.
//!
//! A goal outlives the node that works on it (`thread::work`), so it is not a run: how it stands is told by its thread and by
//! the run of the last attempt. Only a goal whose tools read a folder stays where that folder is, and ends with its node.

use super::{
    AgentError, Event, Goal, Message, NAME, Run, RunState, actor,
    documents::{self, DOCUMENTS_BYTES_MAX, Document},
    run, tools,
};
use crate::{
    Context,
    defaults::GATHER_TIMEOUT,
    digest::Digest,
    ledger::Ledger,
    node::{NodeError, lookup},
    thread::{self, Order, State, Turn, Wanted},
};
use skep_runtime::{
    Handle, NodeId, Stream, Ticket, Wire, defaults::ASK_TIMEOUT, frames, member::State as Standing, wire,
};
use std::{collections::BTreeSet, path::Path, time::Duration};
use tokio::{
    io::AsyncWriteExt,
    time::{sleep, timeout},
};
use uuid::Uuid;

/// How long putting a goal on record may take: on this disk and on another member's, with its budget.
const GIVE_TIMEOUT: Duration = Duration::from_secs(25);

/// How long a goal is followed: as long as all of its attempts may take.
const FOLLOW_TIME_MAX: Duration = Duration::from_secs(50 * 60);
/// The pause before it is looked again how a goal stands that nobody works on.
const FOLLOW_PAUSE: Duration = Duration::from_millis(250);

/// Of so many looks at such a goal one is told.
const LOOKS_TOLD: u32 = 20;

/// Takes a goal. Says how it stands: it waits for a place.
pub(super) async fn give(context: &Context, agents: ractor::ActorCell, mut goal: Goal) -> Result<Run, AgentError> {
    actor::check(&goal)?;
    if goal.parent.is_some() || goal.seat.is_some() {
        return Err(AgentError::Invalid { field: "parent".into(), reason: "a goal that is given has none".into() });
    }
    goal.kept = None;
    let me = context.directory.id();
    if let Some(text) = goal.node.take() {
        let node = named(context, &text)?;
        if goal.folder.is_some() && node != me {
            // The folder lies there.
            let there = context.directory.at::<Message>(node, NAME);
            return there.ask(GIVE_TIMEOUT, |reply| Message::Give(Wire(goal), reply)).await?;
        }
        goal.node = Some(node.to_string());
    }
    if goal.folder.is_some() && goal.tools.iter().any(|tool| tool == tools::read_file::NAME) {
        return actor::start_run(context, agents, Goal { node: None, ..goal }).await;
    }
    let documents = gather(context, &mut goal).await?;
    goal.folder = None;
    if !documents.is_empty() {
        goal.kept = Some(keep(context, &documents).await?);
        // Each attempt finds their names with them.
        goal.documents = Vec::new();
    }
    let (id, created_ms) = (context.env.id(), context.env.now_ms());
    let threads = threads(context);
    let work = Wire((id, goal.clone()));
    threads.ask(GIVE_TIMEOUT, |reply| thread::Message::Work(work, reply)).await??;
    Ok(Run { state: RunState::Pending, ..Run::new(id, goal, me, created_ms) })
}

fn threads(context: &Context) -> Handle<thread::Message> {
    context.directory.here(thread::NAME)
}

/// The node of this name, if it is up.
pub(super) fn named(context: &Context, text: &str) -> Result<NodeId, AgentError> {
    let said = super::data::bounded(text, 64);
    match lookup::find(&context.members.now(), text) {
        Ok(member) if member.state == Standing::Up => Ok(member.id),
        Err(NodeError::Ambiguous(_)) => Err(AgentError::Ambiguous(said)),
        _ => Err(AgentError::NoSuchNode(said)),
    }
}

/// The goal's documents, wherever it says that they are. In the goal only their names remain.
pub(super) async fn gather(context: &Context, goal: &mut Goal) -> Result<Vec<Document>, AgentError> {
    let mut all = std::mem::take(&mut goal.documents);
    if let Some(digest) = goal.kept {
        all = fetch(context, digest).await?;
    }
    if let Some(folder) = goal.folder.clone() {
        let home = context.home.clone();
        let read = move || {
            let folder = documents::apart(Path::new(&folder), &home)?;
            let documents = documents::of_folder(Path::new(&folder))?;
            Ok::<_, String>((folder, documents))
        };
        let read = context.tasks.compute(read).await;
        let invalid = |reason| AgentError::Invalid { field: "folder".into(), reason };
        let (folder, documents) = read.map_err(|e| invalid(e.to_string()))?.map_err(invalid)?;
        // As it was checked: a link on the way may lead elsewhere later.
        goal.folder = Some(folder);
        all.extend(documents);
    }
    goal.documents = all
        .iter()
        .take(actor::DOCUMENTS_MAX)
        .map(|(name, _)| (super::data::bounded(name, 200), String::new()))
        .collect();
    Ok(all)
}

/// Keeps documents as one of the swarm's files, here and on another member, if one answers.
async fn keep(context: &Context, documents: &Vec<Document>) -> Result<Digest, AgentError> {
    let unkept = |e: crate::blob::BlobError| AgentError::Store(e.to_string());
    let blob = context.blobs.keep_bytes(context, wire::encode(documents)).await.map_err(unkept)?;
    context.blobs.copy_out(context, blob.digest, None).await.map_err(unkept)?;
    Ok(blob.digest)
}

async fn fetch(context: &Context, digest: Digest) -> Result<Vec<Document>, AgentError> {
    let unread = |why: String| AgentError::Store(format!("its documents can't be read: {why}"));
    // Their names, and what tells how long each is, are a fraction of what they are.
    let bytes_max = DOCUMENTS_BYTES_MAX * 2;
    let bytes = context.blobs.bytes(context, digest, bytes_max).await.map_err(|e| unread(e.to_string()))?;
    wire::decode(&bytes, bytes_max).map_err(|e| unread(e.to_string()))
}

/// Files that goals which have not ended need.
///
/// # Errors
/// Their records can't be read.
pub(crate) fn needed(ledger: &Ledger) -> Result<BTreeSet<Digest>, skep_runtime::store::Error> {
    thread::open_goals(ledger, |goal| goal.kept)
}

/// How a goal stands. Its thread says so; its run, if its node answers, says more.
pub(super) async fn now(context: &Context, id: Uuid) -> Result<Run, AgentError> {
    let threads = threads(context);
    let turn = threads.ask(ASK_TIMEOUT, |reply| thread::Message::Turn(Wire(id), reply)).await??;
    let goal = turn.goal.clone().ok_or(AgentError::NoSuchRun(id))?;
    if let Some(run) = run_of(context, &turn).await.filter(|run| turn.state.ended() || !run.was_interrupted()) {
        let ended = RunState::of(turn.state).filter(|_| turn.state.ended());
        let (state, error) = match ended {
            Some(state) => (state, turn.error.or(run.error)),
            None => (run.state, run.error),
        };
        return Ok(Run { state, error, completed_ms: turn.ended_ms.or(run.completed_ms), ..run });
    }
    let run = of_turn(context, turn, *goal).await?;
    // Nothing can be asked of a run that isn't known, or not to be reached.
    let state = if run.state.ended() { run.state } else { RunState::Pending };
    Ok(Run { state, ..run })
}

/// Ends a goal, on record. `false`: it is none.
pub(super) async fn end(context: &Context, id: Uuid) -> Result<bool, AgentError> {
    let threads = threads(context);
    let turn = threads.ask(ASK_TIMEOUT, |reply| thread::Message::Turn(Wire(id), reply)).await;
    let Some(turn) = turn.ok().and_then(Result::ok).filter(|turn| turn.goal.is_some()) else { return Ok(false) };
    let order = Wire(Order::new(turn.thread));
    threads.ask(GIVE_TIMEOUT, |reply| thread::Message::Kill(order, reply)).await??;
    Ok(true)
}

/// The run of a turn's last attempt, from its node.
async fn run_of(context: &Context, turn: &Turn) -> Option<Run> {
    let node = turn.node?;
    if node == context.directory.id() {
        return actor::own(context, turn.run).ok();
    }
    let there = context.directory.at::<Message>(node, NAME);
    there.ask(GATHER_TIMEOUT, |reply| Message::Find(Wire(turn.run), reply)).await.ok()?.ok()
}

/// The newest goals of the swarm by their threads: also those whose node is gone.
pub(super) async fn newest(context: &Context, count: u32) -> Vec<Run> {
    let threads = threads(context);
    let wanted = Wanted { origin: Some(thread::Origin::Goal), limit: count, ..Wanted::default() };
    let listed = threads.ask(GATHER_TIMEOUT, |reply| thread::Message::List(Wire(wanted), reply)).await;
    let mut runs = Vec::new();
    for thread in listed.map(|page| page.items).unwrap_or_default() {
        let turn = threads.ask(ASK_TIMEOUT, |reply| thread::Message::Turn(Wire(thread.id), reply)).await;
        let Ok(Ok(turn)) = turn else { continue };
        if let Some(goal) = turn.goal.clone() {
            runs.extend(of_turn(context, turn, *goal).await.ok());
        }
    }
    runs
}

/// Follows a run that doesn't live here, or a goal through all of its attempts, to the end.
pub(super) async fn follow(context: &Context, id: Uuid, node: NodeId, ticket: Ticket) -> Result<(), AgentError> {
    actor::find(context, id).await?;
    let mut to = context.directory.open(node, ticket).await?;
    let context = context.clone();
    context.clone().tasks.spawn(async move {
        let followed = timeout(FOLLOW_TIME_MAX, relay(&context, id, &mut to)).await;
        tracing::debug!(?followed, run = %id, "it is no longer followed");
        let _ = to.writer.shutdown().await;
    });
    Ok(())
}

/// Passes on what each run that works on it tells, and its end once.
async fn relay(context: &Context, id: Uuid, to: &mut Stream) -> Result<(), AgentError> {
    let (mut warned, mut looks) = (None, 0_u32);
    loop {
        let run = actor::find(context, id).await?;
        if run.state.ended() {
            for event in run::last_words(context, run, &mut warned).await {
                run::write(to, &event).await?;
            }
            return Ok(());
        }
        if run.state == RunState::Running
            && let Ok(mut from) = stream_of(context, &run).await
        {
            while let Ok(Some(event)) = frames::read::<Event>(&mut from.reader).await {
                match &event {
                    // Of this attempt: the goal may go on.
                    Event::End => break,
                    Event::Warning(warning) if Some(warning.severity) <= warned => continue,
                    Event::Warning(warning) => warned = Some(warning.severity),
                    _ => {}
                }
                run::write(to, &event).await?;
            }
        }
        // It waits for a place, its node has to be missed, or its end is being written. Now and then it is told all the same:
        // so it is found out that nobody reads any more.
        if looks.is_multiple_of(LOOKS_TOLD) {
            run::write(to, &Event::Run(Box::new(run))).await?;
        }
        looks = looks.wrapping_add(1);
        sleep(FOLLOW_PAUSE).await;
    }
}

async fn stream_of(context: &Context, run: &Run) -> Result<Stream, AgentError> {
    let expected = context.directory.expect(run.node, context.env.ticket())?;
    let asked = Wire((run.id, context.directory.id(), expected.ticket()));
    let there = context.directory.at::<Message>(run.node, NAME);
    there.ask(ASK_TIMEOUT * 2, |reply| Message::Follow(asked, reply)).await??;
    Ok(expected.opened().await?)
}

impl RunState {
    /// The state of a run whose turn stands so; `None` if that doesn't follow.
    fn of(turn: State) -> Option<RunState> {
        match turn {
            State::Waiting => Some(RunState::Pending),
            State::Running => None,
            State::Completed => Some(RunState::Completed),
            State::Failed => Some(RunState::Failed),
            State::Cancelled => Some(RunState::Cancelled),
        }
    }
}

/// A goal's turn, as the run that it would be, as far as this node knows it.
async fn of_turn(context: &Context, turn: Turn, goal: Goal) -> Result<Run, AgentError> {
    let threads = threads(context);
    let said = threads.ask(ASK_TIMEOUT, |reply| thread::Message::Exchange(Wire(turn.id), reply)).await??;
    let words = said.asked.map(|said| said.content()).unwrap_or_default();
    let goal = Goal { goal: words, ..goal };
    let node = turn.node.unwrap_or(context.directory.id());
    Ok(Run {
        thread: turn.thread,
        state: RunState::of(turn.state).unwrap_or(RunState::Running),
        steps: turn.steps,
        output: said.answered.map(|said| said.content()),
        error: turn.error,
        tokens: turn.prompt.saturating_add(turn.completion),
        prompt_tokens: turn.prompt,
        answered_by: turn.model,
        context: turn.context,
        completed_ms: turn.ended_ms,
        ..Run::new(turn.id, goal, node, turn.created_ms)
    })
}
