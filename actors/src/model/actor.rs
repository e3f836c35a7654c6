//! The actor of a node's models: answers at once what it knows, and starts a task for whatever takes time.
//!
//! What tasks find is put into shared tables and never sent back as a message: every member of the swarm can send
//! any message of this actor, and none may claim that a file is here.

use super::{
    messages::{Message, ModelError, PullEvent},
    part,
    serve::Desk,
    shelf::GLANCE_TIMEOUT,
    source::Source,
    transfer,
};
use crate::Context;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr, SupervisionEvent};
use skep_runtime::{NodeId, Reach, Ticket, Wire, frames, tasks::Spawner};
use std::{
    future::Future,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};
use tokio::{
    io::AsyncWriteExt,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};

/// How long a reader of progress may leave its stream alone.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Questions of other nodes that are worked on at once: each is a task, and a node has a few a request.
const QUESTIONS_MAX: usize = 256;

/// What other nodes may ask of this one. Fetching and removing files is its owner's: to serve and to plan they ask by
/// digest, for a file that is here.
const REMOTE: Reach = Reach::Only(&["List", "Get", "ServeDigest", "PlanDigest", "Room", "Load", "Unload", "Send"]);

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
        let desk = Desk::new(context, me.get_cell(), Arc::new(Semaphore::new(QUESTIONS_MAX)));
        let shelf = desk.shelf.clone();
        let (models, now) =
            (desk.context.models.clone(), UNIX_EPOCH + Duration::from_millis(desk.context.env.now_ms()));
        let swept = desk.context.tasks.compute(move || part::sweep(&models, now));
        desk.context.tasks.spawn(async move {
            if let Ok(Err(error)) = swept.await {
                tracing::warn!(%error, "old parts of models could not be swept");
            }
            shelf.look().await;
        });
        Ok(desk)
    }

    async fn handle(&self, _: ActorRef<Message>, message: Message, desk: &mut Desk) -> Result<(), ActorProcessingErr> {
        let Ok(place) = desk.places.clone().try_acquire_owned() else {
            // Without an answer whoever asked hears at once that there is none.
            tracing::warn!("more questions about models than are worked on at once");
            return Ok(());
        };
        let tasks = Places { tasks: desk.context.tasks.clone(), place };
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
            Message::ServeDigest(Wire((digest, stages)), reply) => {
                tasks.spawn(answer(reply, async move { desk.serve_digest(digest, stages).await }));
            }
            Message::PlanDigest(Wire((digest, stages)), reply) => {
                tasks.spawn(answer(reply, async move { desk.plan_digest(digest, stages).await }));
            }
            Message::Room(Wire(digest), reply) => {
                let _ = reply.send(Wire(super::room::room(&desk.context, &desk.shelf, &desk.shards, &digest)));
            }
            Message::Load(Wire(request), reply) => tasks.spawn(answer(reply, async move {
                Box::pin(desk.shards.load(&desk.context, &desk.shelf, desk.me.clone(), request)).await
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

/// A task's place among those that are worked on, given back when it ends.
struct Places {
    tasks: Spawner,
    place: OwnedSemaphorePermit,
}

impl Places {
    fn spawn(self, work: impl Future<Output = ()> + Send + 'static) {
        let place = self.place;
        self.tasks.spawn(async move {
            work.await;
            drop(place);
        });
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
