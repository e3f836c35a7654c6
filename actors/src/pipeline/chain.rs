//! Joins shards to a chain: the last one first, so that each finds the next one expecting it.

use super::GenerateError;
use crate::{
    Context,
    shard::{self, Attach, Message, Stats, Step},
};
use futures::future::join_all;
use skep_runtime::{Error, NodeId, Tasks, Ticket};
use std::time::Duration;
use tokio::{sync::mpsc, time::timeout};

/// How long one shard may take to join: two stream openings on a loaded LAN.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a shard may take to answer when it is looked for: a lost one is to be named at once.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the first stage may leave the link alone. It computes meanwhile, or it is stuck.
const WRITE_TIMEOUT: Duration = Duration::from_secs(300);
/// Steps and closings that wait for the link to the first stage. Steps are bounded by the rota's window; openings
/// and closings by the requests that may run and wait.
const STEPS_MAX: usize = 256;

/// A chain in working order.
pub(crate) struct Chain {
    /// Its shards: node and published name.
    pub(super) stages: Vec<(NodeId, String)>,
    /// To the first stage.
    pub(super) steps: mpsc::Sender<(Step, Vec<u8>)>,
    /// From the last stage; closed when the chain is broken.
    pub(super) answers: mpsc::Receiver<Step>,
    /// Keeps the two ends moving.
    _tasks: Tasks,
}

/// Attaches `shards`, in order, to each other and to this node.
pub(crate) async fn attach(context: &Context, shards: Vec<(NodeId, String)>) -> Result<Chain, GenerateError> {
    let me = context.directory.id();
    let tickets: Vec<Ticket> = (0..=shards.len()).map(|_| context.env.ticket()).collect();
    let lost =
        |stage: usize, node: NodeId, reason: String| GenerateError::StageLost { stage: stage as u16, node, reason };
    let (&(first, _), &(last, _)) = shards.first().zip(shards.last()).expect("a plan has a stage");
    let end = shards.len() - 1;
    let expected = context.directory.expect(last, tickets[end + 1]).map_err(|e| lost(end, last, e.to_string()))?;
    for (stage, (node, name)) in shards.iter().enumerate().rev() {
        let from = if stage == 0 { me } else { shards[stage - 1].0 };
        let to = shards.get(stage + 1).map_or(me, |(node, _)| *node);
        let place = Attach { stage: stage as u16, input: (from, tickets[stage]), output: (to, tickets[stage + 1]) };
        let shard = context.directory.at::<Message>(*node, name.clone());
        let attached = shard.ask(ATTACH_TIMEOUT, |reply| Message::Attach(skep_runtime::Wire(place), reply)).await;
        attached
            .map_err(|e| e.to_string())
            .and_then(|attached| attached.map_err(|e| e.to_string()))
            .map_err(|reason| lost(stage, *node, reason))?;
    }
    let mut input = context.directory.open(first, tickets[0]).await.map_err(|e| lost(0, first, e.to_string()))?;
    let mut output = expected.opened().await.map_err(|e| lost(end, last, e.to_string()))?;
    let tasks = context.env.tasks();
    let (steps, mut queue) = mpsc::channel::<(Step, Vec<u8>)>(STEPS_MAX);
    let (answer, answers) = mpsc::channel(STEPS_MAX);
    tasks.spawn(async move {
        while let Some((step, rows)) = queue.recv().await {
            let written = timeout(WRITE_TIMEOUT, shard::write(&mut input.writer, &step, &rows)).await;
            if !matches!(written, Ok(Ok(()))) {
                return;
            }
        }
    });
    tasks.spawn(async move {
        while let Ok(Some((step, _))) = shard::read(&mut output.reader, 0).await {
            if answer.send(step).await.is_err() {
                return;
            }
        }
    });
    Ok(Chain { stages: shards, steps, answers, _tasks: tasks })
}

impl Chain {
    /// The nodes of the stages, in order.
    pub(super) fn nodes(&self) -> Vec<NodeId> {
        self.stages.iter().map(|(node, _)| *node).collect()
    }

    /// Names the stage that broke the chain: the first one that doesn't answer any more, else the last one, whose
    /// stream ended.
    pub(super) async fn broken(&self, context: &Context) -> GenerateError {
        let probes = self.stages.iter().map(|(node, name)| {
            let shard = context.directory.at::<Message>(*node, name.clone());
            async move { shard.ask(PROBE_TIMEOUT, Message::Stats).await }
        });
        let found: Vec<Result<Stats, Error>> = join_all(probes).await;
        // A broken chain ends shard by shard: one whose node is unreachable is the cause, one that ended a result.
        let unreachable = found.iter().position(|r| matches!(r, Err(Error::LinkDown(_) | Error::Timeout)));
        let silent = || found.iter().position(Result::is_err);
        let stage = unreachable.or_else(silent).unwrap_or(self.stages.len() - 1);
        let reason = found[stage].as_ref().map_or_else(Error::to_string, |_| "its stream ended".to_owned());
        GenerateError::StageLost { stage: stage as u16, node: self.stages[stage].0, reason }
    }
}
