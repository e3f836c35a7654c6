//! EventsActor: lets other nodes follow what happens here, and follows them while somebody listens here.

use super::{Message, NAME, follow, messages::FollowError};
use crate::Context;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use skep_runtime::{Error, Reach, Tasks, Wire};
use std::sync::Arc;
use tokio::sync::{Semaphore, oneshot};

/// Nodes that one node tells at once: each holds a stream and its place in the ring.
const FOLLOWERS_MAX: usize = 256;

/// The events of one node.
struct EventsActor;

/// An EventsActor's own.
struct State {
    context: Context,
    followers: Arc<Semaphore>,
    tasks: Tasks,
}

/// Starts the actor and publishes it.
///
/// # Errors
/// The actor could not be spawned.
pub async fn start(context: &Context, supervisor: ActorCell) -> Result<ActorCell, SpawnErr> {
    let reach = Reach::Only(&["Follow"]);
    let spawned = context.directory.spawn_within(reach, NAME, EventsActor, context.clone(), Some(supervisor));
    Ok(spawned.await?.get_cell())
}

impl Actor for EventsActor {
    type Msg = Message;
    type State = State;
    type Arguments = Context;

    async fn pre_start(&self, _: ActorRef<Message>, context: Context) -> Result<State, ActorProcessingErr> {
        let tasks = context.env.tasks();
        tasks.spawn(follow::attend(context.clone()));
        Ok(State { context, followers: Arc::new(Semaphore::new(FOLLOWERS_MAX)), tasks })
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let Message::Follow(Wire(whom), reply) = message;
        // An asker that gave up is no failure of this actor.
        let Ok(place) = state.followers.clone().try_acquire_owned() else {
            drop(reply.send(Wire(Err(FollowError::Full(FOLLOWERS_MAX)))));
            return Ok(());
        };
        // From here on nothing is lost to it.
        let own = state.context.events.own();
        let (opened, is_open) = oneshot::channel();
        let context = state.context.clone();
        state.tasks.spawn(async move {
            follow::tell(context, own, whom, opened).await;
            drop(place);
        });
        state.tasks.spawn(async move {
            let opened = is_open.await.unwrap_or(Err(Error::NoReply));
            drop(reply.send(Wire(opened.map_err(FollowError::from))));
        });
        Ok(())
    }
}
