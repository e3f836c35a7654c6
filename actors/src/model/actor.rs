//! The actor of a node's models: answers at once what it knows, and starts a task for whatever takes time.
//!
//! What tasks find is put into shared tables and never sent back as a message: every member of the swarm can send
//! any message of this actor, and none may claim that a file is here.

use super::{
    messages::{Message, ModelError, PullEvent},
    serve::Desk,
    source::Source,
    transfer,
};
use crate::Context;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr, SupervisionEvent};
use skep_runtime::{NodeId, Reach, Ticket, Wire, frames};
use std::{future::Future, time::Duration};
use tokio::{io::AsyncWriteExt, sync::watch, time::timeout};

/// How long a list waits for files that were put there by hand since the last one.
const GLANCE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a reader of progress may leave its stream alone.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// What other nodes may ask of this one. Fetching and removing files is its owner's.
const REMOTE: Reach = Reach::Only(&["List", "Get", "Serve", "Plan", "Room", "Load", "Unload", "Send"]);

/// Starts the node's ModelsActor and publishes it.
pub async fn start(context: &Context, supervisor: ActorCell) -> Result<ActorCell, SpawnErr> {
    Ok(context.directory.spawn_within(REMOTE, super::NAME, Models, context.clone(), Some(supervisor)).await?.get_cell())
}

struct Models;

impl Actor for Models {
    type Msg = Message;
    type State = Desk;
    type Arguments = Context;

    async fn pre_start(&self, me: ActorRef<Message>, context: Context) -> Result<Desk, ActorProcessingErr> {
        std::fs::create_dir_all(&context.models)?;
        let desk = Desk::new(context, me.get_cell());
        let shelf = desk.shelf.clone();
        desk.context.tasks.spawn(async move { shelf.look().await });
        Ok(desk)
    }

    async fn handle(&self, _: ActorRef<Message>, message: Message, desk: &mut Desk) -> Result<(), ActorProcessingErr> {
        let tasks = desk.context.tasks.clone();
        let desk = desk.clone();
        match message {
            Message::List(reply) => tasks.spawn(answer(reply, async move {
                desk.shelf.glance(GLANCE_TIMEOUT).await;
                desk.shelf.list()
            })),
            Message::Get(Wire(name), reply) => tasks.spawn(answer(reply, async move {
                let known = desk.shelf.seek(|model| model.name == name).await;
                known.map(|known| known.model).ok_or(ModelError::NoSuchModel(name))
            })),
            Message::Pull(Wire((source, to, ticket)), reply) => tasks.spawn(pull(desk, source, to, ticket, reply)),
            Message::Delete(Wire(name), reply) => tasks.spawn(answer(reply, async move {
                match desk.shelf.find(|model| model.name == name) {
                    Some(known) if desk.shards.uses(&known.model.digest) => Err(ModelError::InUse(name)),
                    _ => desk.shelf.remove(&name).await,
                }
            })),
            Message::Serve(Wire(wanted), reply) => tasks.spawn(answer(reply, async move { desk.serve(wanted).await })),
            Message::Plan(Wire(wanted), reply) => tasks.spawn(answer(reply, async move { desk.plan(wanted).await })),
            Message::Room(Wire(digest), reply) => {
                let _ = reply.send(Wire(super::room::room(&desk.context, &desk.shelf, &desk.shards, &digest)));
            }
            Message::Load(Wire(request), reply) => tasks.spawn(answer(reply, async move {
                desk.shards.load(&desk.context, &desk.shelf, desk.me.clone(), request).await
            })),
            Message::Unload(Wire(id), reply) => {
                desk.shards.unload(id);
                let _ = reply.send(Wire(()));
            }
            Message::Send(Wire(request), reply) => {
                tasks.spawn(answer(reply, async move { transfer::send(&desk.context, &desk.shelf, request).await }));
            }
        }
        Ok(())
    }

    /// Shards and pipelines end by themselves, and failing is one way to: this actor only notes it.
    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Message>,
        event: SupervisionEvent,
        desk: &mut Desk,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(cell, _, _) => desk.ended(cell.get_id()).await,
            SupervisionEvent::ActorFailed(cell, error) => {
                tracing::warn!(%error, "a shard or a pipeline failed");
                desk.ended(cell.get_id()).await;
            }
            _ => {}
        }
        Ok(())
    }
}

async fn answer<T: Send + 'static>(reply: RpcReplyPort<Wire<T>>, work: impl Future<Output = T> + Send) {
    // Whoever asked may have stopped waiting; the work is done all the same.
    let _ = reply.send(Wire(work.await));
}

/// Begins or joins a pull and streams its progress.
async fn pull(
    desk: Desk,
    source: String,
    to: NodeId,
    ticket: Ticket,
    reply: RpcReplyPort<Wire<Result<(), ModelError>>>,
) {
    let source = match source.parse::<Source>() {
        Ok(source) => source,
        Err(error) => return drop(reply.send(Wire(Err(error)))),
    };
    // Only this node's own program holds a ticket of this node: opening it first proves who asks.
    let mut stream = match desk.context.directory.open(to, ticket).await {
        Ok(_) if source.is_private() && to != desk.context.directory.id() => {
            let error =
                ModelError::Fetch("a path, or a server on loopback, only the owner of that machine may name".into());
            return drop(reply.send(Wire(Err(error))));
        }
        Ok(stream) => stream,
        Err(error) => return drop(reply.send(Wire(Err(error.into())))),
    };
    match desk.pulls.begin(source) {
        Err(error) => drop(reply.send(Wire(Err(error)))),
        Ok(progress) => {
            let _ = reply.send(Wire(Ok(())));
            report(progress, &mut stream).await;
            let _ = timeout(STALL_TIMEOUT, stream.writer.shutdown()).await;
        }
    }
}

/// Writes the newest event whenever the reader takes one; what it was too slow for is skipped, the last never is.
async fn report(mut progress: watch::Receiver<PullEvent>, stream: &mut skep_runtime::Stream) {
    loop {
        let event = progress.borrow_and_update().clone();
        let last = matches!(event, PullEvent::Done(_) | PullEvent::Failed(_));
        let written = timeout(STALL_TIMEOUT, frames::write(&mut stream.writer, &event)).await;
        if last || !matches!(written, Ok(Ok(()))) || progress.changed().await.is_err() {
            return;
        }
    }
}
