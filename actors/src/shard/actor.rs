//! The actor around a [`Worker`]: waits to be attached, then moves steps from its input to its output.
//!
//! It ends by itself when its chain does: the input closes, the output breaks, or the pipeline's node is gone. So
//! no shard outlives its pipeline, whoever died first.

use super::{
    Attach, Message, ShardError, Stats, gone,
    step::{read, write},
    worker::Worker,
};
use crate::Context;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr};
use skep_engine::Shard;
use skep_runtime::{Error, NodeId, Tasks, Wire, bulk::Expected};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};
use uuid::Uuid;

/// How long a loaded shard waits for its pipeline: the other stages may still fetch their file.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(600);
/// How long the next stage may take to make room for one step. It computes meanwhile, or it is stuck.
const WRITE_TIMEOUT: Duration = Duration::from_secs(300);

/// What a shard starts with.
pub(crate) struct Arguments {
    pub(crate) context: Context,
    pub(crate) id: Uuid,
    pub(crate) shard: Arc<Shard>,
    /// Tokens of cache, all sequences together, that memory was set aside for.
    pub(crate) cache_tokens: u64,
    /// The node of its pipeline.
    pub(crate) pipeline: NodeId,
}

/// Starts the shard and publishes it.
pub(crate) async fn start(arguments: Arguments, supervisor: ActorCell) -> Result<ActorCell, SpawnErr> {
    let (directory, name) = (arguments.context.directory.clone(), super::name(arguments.id));
    Ok(directory.spawn(&name, InferenceShard, arguments, Some(supervisor)).await?.get_cell())
}

struct InferenceShard;

struct State {
    context: Context,
    /// Taken by the first `Attach`.
    chain: Option<oneshot::Sender<Place>>,
    stats: watch::Receiver<Stats>,
    /// Dropped with the state: the chain ends with the actor.
    _tasks: Tasks,
}

/// A place in a chain whose input is expected already.
struct Place {
    stage: u16,
    input: Expected,
    output: (NodeId, skep_runtime::Ticket),
    reply: RpcReplyPort<Wire<Result<(), ShardError>>>,
}

impl Actor for InferenceShard {
    type Msg = Message;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(&self, me: ActorRef<Message>, arguments: Arguments) -> Result<State, ActorProcessingErr> {
        let tasks = arguments.context.env.tasks();
        let (chain, place) = oneshot::channel();
        let context = arguments.context.clone();
        let worker = Worker::new(arguments.shard.clone(), 0, arguments.cache_tokens);
        let (sender, stats) = watch::channel(worker.stats());
        tasks.spawn(async move {
            let (pipeline, members) = ([arguments.pipeline], arguments.context.members.clone());
            let work = async {
                match timeout(ATTACH_TIMEOUT, place).await {
                    Ok(Ok(place)) => match serve(arguments, place, sender).await {
                        Ok(()) => "the chain ended".to_owned(),
                        Err(error) => error.to_string(),
                    },
                    _ => "no pipeline came for it".to_owned(),
                }
            };
            let reason = tokio::select! {
                reason = work => reason,
                node = gone(&members, &pipeline) => format!("the pipeline's node {node:?} is gone"),
            };
            me.stop(Some(reason));
        });
        Ok(State { context, chain: Some(chain), stats, _tasks: tasks })
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Stats(reply) => {
                let _ = reply.send(Wire(*state.stats.borrow()));
            }
            Message::Attach(Wire(Attach { stage, input, output }), reply) => {
                if state.chain.is_none() {
                    let _ = reply.send(Wire(Err(ShardError::Attached)));
                    return Ok(());
                }
                match state.context.directory.expect(input.0, input.1) {
                    Err(error) => {
                        let _ = reply.send(Wire(Err(error.into())));
                    }
                    Ok(input) => {
                        let chain = state.chain.take().expect("it was just there");
                        let _ = chain.send(Place { stage, input, output, reply });
                    }
                }
            }
        }
        Ok(())
    }
}

/// Works until the chain ends.
async fn serve(arguments: Arguments, place: Place, stats: watch::Sender<Stats>) -> Result<(), Error> {
    let Arguments { context, shard, cache_tokens, .. } = arguments;
    let mut output = match context.directory.open(place.output.0, place.output.1).await {
        Ok(output) => output,
        Err(error) => {
            let _ = place.reply.send(Wire(Err(error.clone().into())));
            return Err(error);
        }
    };
    let _ = place.reply.send(Wire(Ok(())));
    let mut input = place.input.opened().await?;
    let mut worker = Worker::new(shard, place.stage, cache_tokens);
    let row_bytes = worker.row_bytes();
    let busy = context.metrics.counter("shard_rows", "rows that shards on this node computed");
    while let Some((step, rows)) = read(&mut input.reader, row_bytes).await? {
        let before = worker.stats().rows;
        let work = context.tasks.compute(move || {
            let next = worker.step(step, &rows);
            (worker, next)
        });
        let next;
        (worker, next) = work.await.map_err(|panicked| Error::refused(panicked.to_string()))?;
        let now = worker.stats();
        busy.inc_by(now.rows - before);
        stats.send_replace(now);
        if let Some((step, rows)) = next {
            timeout(WRITE_TIMEOUT, write(&mut output.writer, &step, &rows)).await.unwrap_or(Err(Error::Timeout))?;
        }
    }
    Ok(())
}
