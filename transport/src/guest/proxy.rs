//! A guest's actor as the node's directory knows it: takes messages unread and passes them on, with a bound.
//!
//! An actor of this node like any other, so senders have its mailbox's push-back; [`GUEST_ASKS_MAX`] bounds the
//! questions that the guest has not answered yet. The guest's own mailbox has no bound: `ractor_cluster` knows none.

use crate::defaults::GUEST_ASKS_MAX;
use ractor::{
    Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort,
    message::{BoxedDowncastErr, SerializedMessage},
};
use skep_runtime::{defaults::ASK_TIMEOUT, tasks::Spawner};
use std::sync::Arc;
use tokio::{
    sync::{Semaphore, oneshot},
    time::{Instant, timeout_at},
};

/// Stands for one actor of a guest.
pub(super) struct Proxy;

pub(super) struct Setup {
    pub(super) guest: ActorCell,
    pub(super) spawner: Spawner,
}

pub(super) struct State {
    guest: ActorCell,
    spawner: Spawner,
    room: Arc<Semaphore>,
}

/// A message that this program can't read: the guest's own type, as ractor's derive packs it.
pub(super) struct Sealed(SerializedMessage);

impl ractor::Message for Sealed {
    fn deserialize(message: SerializedMessage) -> Result<Sealed, BoxedDowncastErr> {
        Ok(Sealed(message))
    }
}

impl Actor for Proxy {
    type Msg = Sealed;
    type State = State;
    type Arguments = Setup;

    async fn pre_start(&self, _: ActorRef<Sealed>, setup: Setup) -> Result<State, ActorProcessingErr> {
        let Setup { guest, spawner } = setup;
        Ok(State { guest, spawner, room: Arc::new(Semaphore::new(GUEST_ASKS_MAX)) })
    }

    async fn handle(
        &self,
        _: ActorRef<Sealed>,
        Sealed(message): Sealed,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let message = match message {
            SerializedMessage::Call { variant, args, reply, metadata } => {
                let Some(reply) = state.answered(reply).await else { return Ok(()) };
                SerializedMessage::Call { variant, args, reply, metadata }
            }
            told => told,
        };
        // A guest that has just gone takes this proxy with it: who waits for an answer is told so.
        let _ = state.guest.send_serialized(message);
        Ok(())
    }
}

impl State {
    /// Waits for room and returns the port for the guest's answer, which gives the room back. `None` when nobody
    /// waits any more.
    async fn answered(&self, asker: RpcReplyPort<Vec<u8>>) -> Option<RpcReplyPort<Vec<u8>>> {
        let patience = asker.get_timeout().unwrap_or(ASK_TIMEOUT);
        let until = Instant::now() + patience;
        let room = timeout_at(until, self.room.clone().acquire_owned()).await.ok()?.ok()?;
        if asker.is_closed() {
            return None;
        }
        let (port, answer) = oneshot::channel();
        self.spawner.spawn(async move {
            // The guest may end without an answer; then the asker's port is dropped, which says so.
            if let Ok(Ok(bytes)) = timeout_at(until, answer).await {
                let _ = asker.send(bytes);
            }
            drop(room);
        });
        Some(RpcReplyPort::from((port, until.saturating_duration_since(Instant::now()))))
    }
}
