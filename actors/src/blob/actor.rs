//! The actor: answers beside its mailbox, so many at a time.

use super::{NAME, messages::Message};
use crate::Context;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use skep_runtime::{Reach, Stream, Tasks, Wire, frames};
use std::sync::Arc;
use tokio::{io::AsyncWriteExt, sync::Semaphore};

/// What other nodes may ask: uploads and deletions are the owner's.
const REMOTE: Reach = Reach::Only(&["Has", "Send", "Keep"]);
/// Questions and streams that are worked on at once; beyond that the mailbox waits.
const AT_ONCE: usize = 64;
/// Blobs in one list, at some hundred bytes each.
const LIST_MAX: u32 = 1000;

struct BlobsActor;

struct Own {
    context: Context,
    places: Arc<Semaphore>,
    tasks: Tasks,
}

/// Starts the actor and publishes it.
///
/// # Errors
/// The actor could not be spawned.
pub async fn start(context: &Context, supervisor: ActorCell) -> Result<ActorCell, SpawnErr> {
    let actor = context.directory.spawn_within(REMOTE, NAME, BlobsActor, context.clone(), Some(supervisor));
    Ok(actor.await?.get_cell())
}

impl Actor for BlobsActor {
    type Msg = Message;
    type State = Own;
    type Arguments = Context;

    async fn pre_start(&self, _: ActorRef<Message>, context: Context) -> Result<Own, ActorProcessingErr> {
        let (places, tasks) = (Arc::new(Semaphore::new(AT_ONCE)), context.env.tasks());
        Ok(Own { context, places, tasks })
    }

    async fn handle(&self, _: ActorRef<Message>, message: Message, own: &mut Own) -> Result<(), ActorProcessingErr> {
        let context = own.context.clone();
        let place = own.places.clone().acquire_owned().await.expect("the places are never closed");
        own.tasks.spawn(async move {
            answer(&context, message).await;
            drop(place);
        });
        Ok(())
    }
}

/// Whoever asked may have given up.
async fn answer(context: &Context, message: Message) {
    let blobs = &context.blobs;
    match message {
        Message::Put(Wire((from, ticket)), reply) => {
            let Stream { mut reader, mut writer } = match context.directory.open(from, ticket).await {
                Ok(stream) => stream,
                Err(e) => return drop(reply.send(Wire(Err(e.into())))),
            };
            let _ = reply.send(Wire(Ok(())));
            let stored = blobs.receive(context, &mut reader).await;
            let _ = frames::write(&mut writer, &stored).await;
            let _ = writer.shutdown().await;
        }
        Message::Fetch(Wire(digest), reply) => drop(reply.send(Wire(blobs.fetch(context, digest).await))),
        Message::Keep(Wire((digest, node)), reply) => {
            drop(reply.send(Wire(blobs.keep(context, digest, node).await)));
        }
        Message::Send(Wire(wanted), reply) => drop(reply.send(Wire(blobs.send(context, wanted).await))),
        Message::List(Wire(max), reply) => {
            let list = blobs.list(max.min(LIST_MAX) as usize).unwrap_or_default();
            drop(reply.send(Wire(list)));
        }
        Message::Has(Wire(digest), reply) => drop(reply.send(Wire(blobs.has(digest).unwrap_or_default()))),
        Message::Delete(Wire(digest), reply) => {
            let blobs = blobs.clone();
            let deleted = context.tasks.compute(move || blobs.delete(digest)).await;
            drop(reply.send(Wire(deleted.unwrap_or_else(|e| Err(super::BlobError::Disk(e.to_string()))))));
        }
    }
}
