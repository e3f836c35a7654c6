//! The actor: turns each message into one call of the log, and asks the other members for theirs.

use super::{
    NAME,
    entry::{Entry, Head},
    log::Log,
    messages::{Message, Report, Verified},
};
use crate::{Context, defaults::GATHER_TIMEOUT, questions::Questions};
use futures::{StreamExt, stream::FuturesUnordered};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr};
use skep_runtime::{NodeId, Reach, Tasks, Wire};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// Questions that are worked on at once.
const QUESTIONS_MAX: usize = 256;
/// How long a node may take to read and check its whole log: fifty thousand entries on a slow disk.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(60);
/// Entries of one list.
const LIST_MAX: u32 = 1000;

/// What other nodes may ask: to look. What is in the log, this node's own actors say.
const REMOTE: Reach = Reach::Only(&["OfTurn", "Newest", "At", "Seen", "Verify"]);

/// The audit log's actor.
struct AuditActor;

/// An AuditActor's own.
struct State {
    context: Context,
    log: Arc<Log>,
    /// What works on its questions ends with it.
    _tasks: Tasks,
    questions: Questions,
}

/// Starts the actor and publishes it.
///
/// # Errors
/// The log could not be read.
pub async fn start(context: &Context, supervisor: ActorCell) -> Result<ActorCell, SpawnErr> {
    let actor = context.directory.spawn_within(REMOTE, NAME, AuditActor, context.clone(), Some(supervisor)).await?;
    Ok(actor.get_cell())
}

impl Actor for AuditActor {
    type Msg = Message;
    type State = State;
    type Arguments = Context;

    async fn pre_start(&self, _: ActorRef<Message>, context: Context) -> Result<State, ActorProcessingErr> {
        let tasks = context.env.tasks();
        let log = Log::open(&context, &tasks.spawner())?;
        let questions = Questions::new(tasks.spawner(), QUESTIONS_MAX, "the audit log");
        Ok(State { context, log, questions, _tasks: tasks })
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let (context, log) = (state.context.clone(), state.log.clone());
        match message {
            Message::Append(Wire(whats), reply) => {
                state.questions.answer(reply, async move { log.append(whats).await })
            }
            Message::Turn(Wire(turn), reply) => state.questions.answer(reply, async move {
                let own = log.of_turn(turn);
                let mut entries = with_others(&context, own, |port| Message::OfTurn(Wire(turn), port)).await;
                entries.sort_by_key(|entry| (entry.at_ms, entry.node, entry.seq));
                entries
            }),
            Message::List(Wire(count), reply) => state.questions.answer(reply, async move {
                let count = count.min(LIST_MAX);
                let own = log.newest(count);
                let mut entries = with_others(&context, own, |port| Message::Newest(Wire(count), port)).await;
                entries.sort_by_key(|entry| std::cmp::Reverse((entry.at_ms, entry.node, entry.seq)));
                entries.truncate(count as usize);
                entries
            }),
            Message::VerifyAll(reply) => state.questions.answer(reply, async move { verify_all(&context, &log).await }),
            Message::OfTurn(Wire(turn), reply) => state.questions.answer(reply, async move { log.of_turn(turn) }),
            Message::Newest(Wire(count), reply) => {
                state.questions.answer(reply, async move { log.newest(count.min(LIST_MAX)) });
            }
            Message::At(Wire(seq), reply) => drop(reply.send(Wire(log.at(seq)))),
            Message::Seen(reply) => drop(reply.send(Wire(log.sights()))),
            Message::Verify(Wire(seen), reply) => state.questions.answer(reply, async move { log.verify(seen).await }),
        }
        Ok(())
    }
}

/// These entries, and those that everyone else who is up answers with.
async fn with_others(
    context: &Context,
    own: Vec<Entry>,
    make: impl Fn(RpcReplyPort<Wire<Vec<Entry>>>) -> Message + Copy + Send,
) -> Vec<Entry> {
    let ask = |node| {
        let there = context.directory.at::<Message>(node, NAME);
        async move { (node, there.ask(GATHER_TIMEOUT, make).await) }
    };
    let mut answers: FuturesUnordered<_> = context.members.others_up().into_iter().map(ask).collect();
    let mut entries = own;
    while let Some((node, answer)) = answers.next().await {
        match answer {
            // A node speaks of its own log alone.
            Ok(theirs) => entries.extend(theirs.into_iter().filter(|entry| entry.node == node)),
            Err(error) => tracing::warn!(?node, %error, "a node's part of the audit is left out"),
        }
    }
    entries
}

/// Has each member check its log, and compares it with what this node has seen. Of one that is away it says so: a log that
/// was not looked at is not known to be whole.
async fn verify_all(context: &Context, log: &Arc<Log>) -> Vec<Verified> {
    let me = context.directory.id();
    let anchored = anchored(context, log).await;
    let mut names: BTreeMap<NodeId, String> =
        context.members.now().values().map(|member| (member.id, member.name.clone())).collect();
    names.entry(me).or_insert_with(|| context.name.clone());
    let check = |(node, name): (NodeId, String)| {
        let (there, seen) = (context.directory.at::<Message>(node, NAME), log.seen_of(node));
        let (up, anchored) = (context.members.is_up(&node), anchored.contains(&node));
        async move {
            let report = match () {
                () if node == me => Ok(log.verify(seen).await),
                () if !up => Err(away(seen)),
                () => {
                    let asked = there.ask(VERIFY_TIMEOUT, |port| Message::Verify(Wire(seen), port)).await;
                    asked.map_err(|error| error.to_string())
                }
            };
            Verified { node, name, report: report.map(|report| compared(report, seen)), anchored }
        }
    };
    let mut all: Vec<Verified> = names.into_iter().map(check).collect::<FuturesUnordered<_>>().collect().await;
    all.sort_by(|a, b| (&a.name, a.node).cmp(&(&b.name, b.node)));
    all
}

fn away(seen: Option<Head>) -> String {
    match seen {
        Some(seen) => format!("is away; its last entry that was seen is {}", seen.seq),
        None => "is away; no entry of it was seen".into(),
    }
}

/// The nodes in whose logs a member that answers, other than the node itself, has seen an entry.
async fn anchored(context: &Context, log: &Log) -> BTreeSet<NodeId> {
    let ask = |node| {
        let there = context.directory.at::<Message>(node, NAME);
        async move { (node, there.ask(GATHER_TIMEOUT, Message::Seen).await.unwrap_or_default()) }
    };
    let asked: FuturesUnordered<_> = context.members.others_up().into_iter().map(ask).collect();
    let told: Vec<(NodeId, Vec<NodeId>)> = asked.collect().await;
    let others = told.into_iter().flat_map(|(by, seen)| seen.into_iter().filter(move |of| *of != by));
    others.chain(log.sights()).collect()
}

/// A node checks its log itself; that it is not shorter than it was, this node sees for itself.
fn compared(report: Report, seen: Option<Head>) -> Report {
    let short = seen.filter(|seen| report.fault.is_none() && seen.seq > report.head.seq);
    let rewritten = seen.filter(|seen| seen.seq == report.head.seq && seen.hash != report.head.hash);
    let fault = match (short, rewritten) {
        (Some(seen), _) => Some(super::Fault::Short { ends: report.head.seq, seen: seen.seq }),
        (None, Some(seen)) if report.fault.is_none() => Some(super::Fault::Rewritten(seen.seq)),
        _ => None,
    };
    Report { fault: report.fault.clone().or(fault), ..report }
}
