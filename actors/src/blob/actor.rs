//! The actor: answers beside its mailbox, so many of each kind at a time.

use super::{
    NAME,
    messages::{BlobError, Message},
};
use crate::Context;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use skep_runtime::{Error, Reach, Stream, Tasks, Wire, frames};
use std::sync::Arc;
use tokio::{
    io::AsyncWriteExt,
    sync::{OwnedSemaphorePermit, Semaphore},
};

/// What other nodes may ask: uploads and deletions are the owner's.
const REMOTE: Reach = Reach::Only(&["Has", "Send", "Keep"]);
/// Uploads, copies that are fetched, and files that are sent at once, of each so many: beyond that the asker is told that this
/// node is busy. Each kind has places of its own, since an upload waits for a copy, and that for what is sent.
const AT_ONCE: usize = 64;
/// Blobs in one list, at some hundred bytes each.
const LIST_MAX: u32 = 1000;

struct BlobsActor;

/// Places of one node.
struct Places {
    uploads: Arc<Semaphore>,
    arrivals: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

struct Own {
    context: Context,
    places: Arc<Places>,
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
        let places = || Arc::new(Semaphore::new(AT_ONCE));
        let places = Places { uploads: places(), arrivals: places(), streams: places() };
        let tasks = context.env.tasks();
        Ok(Own { context, places: Arc::new(places), tasks })
    }

    async fn handle(&self, _: ActorRef<Message>, message: Message, own: &mut Own) -> Result<(), ActorProcessingErr> {
        let (context, places) = (own.context.clone(), own.places.clone());
        own.tasks.spawn(async move { answer(&context, &places, message).await });
        Ok(())
    }
}

/// Whoever asked may have given up.
async fn answer(context: &Context, places: &Places, message: Message) {
    let blobs = &context.blobs;
    match message {
        Message::Put(Wire((from, ticket)), reply) => {
            let _place = match place(&places.uploads) {
                Ok(place) => place,
                Err(e) => return drop(reply.send(Wire(Err(e)))),
            };
            let Stream { mut reader, mut writer } = match context.directory.open(from, ticket).await {
                Ok(stream) => stream,
                Err(e) => return drop(reply.send(Wire(Err(e.into())))),
            };
            let _ = reply.send(Wire(Ok(())));
            let stored = async {
                let blob = blobs.receive(context, &mut reader).await?;
                blobs.copy_out(context, blob.digest, None).await?;
                Ok::<_, BlobError>(blob)
            };
            let _ = frames::write(&mut writer, &stored.await).await;
            let _ = writer.shutdown().await;
        }
        Message::Fetch(Wire(digest), reply) => {
            let fetched = async {
                let _place = place(&places.arrivals)?;
                blobs.fetch(context, digest).await
            };
            drop(reply.send(Wire(fetched.await)));
        }
        Message::Keep(Wire((digest, node)), reply) => {
            let kept = async {
                let _place = place(&places.arrivals)?;
                blobs.keep(context, digest, node).await
            };
            drop(reply.send(Wire(kept.await)));
        }
        Message::Send(Wire(wanted), reply) => {
            let sent = async {
                let place = place(&places.streams)?;
                blobs.send(context, wanted, place).await
            };
            drop(reply.send(Wire(sent.await)));
        }
        Message::List(Wire(max), reply) => {
            let list = blobs.list(max.min(LIST_MAX) as usize).unwrap_or_default();
            drop(reply.send(Wire(list)));
        }
        Message::Has(Wire(digest), reply) => drop(reply.send(Wire(blobs.has(digest).unwrap_or_default()))),
        Message::Delete(Wire(digest), reply) => {
            let blobs = blobs.clone();
            let deleted = context.tasks.compute(move || blobs.delete(digest)).await;
            drop(reply.send(Wire(deleted.unwrap_or_else(|e| Err(BlobError::Disk(e.to_string()))))));
        }
    }
}

fn place(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, BlobError> {
    places.clone().try_acquire_owned().map_err(|_| Error::Busy(NAME.into()).into())
}
