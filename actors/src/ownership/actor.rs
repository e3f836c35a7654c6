//! OwnershipActor: asks others whether this node counts while it has to, and answers what they ask.

use super::{NAME, Ownership, handle::Shared, messages::Message};
use crate::Context;
use futures::future::join_all;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use skep_runtime::{Reach, Tasks, Wire};
use std::{sync::Arc, time::Duration};
use tokio::time::{MissedTickBehavior, interval, timeout};

/// How often an owner asks: four of five may be lost.
const ASK_PERIOD: Duration = Duration::from_secs(1);
/// How often votes are looked through that nobody needs any more: before the ledger forgets a record that was deleted.
const SETTLE_PERIOD: Duration = Duration::from_secs(5);

/// What other nodes may say.
const REMOTE: Reach = Reach::Only(&["Touch", "Vote"]);

/// The leases and votes of one node.
struct OwnershipActor;

/// An OwnershipActor's own.
struct State {
    shared: Arc<Shared>,
    tasks: Tasks,
}

/// Starts a node's part in leases and votes.
///
/// # Errors
/// The actor did not start.
pub async fn start(context: &Context, supervisor: ActorCell) -> Result<ActorCell, SpawnErr> {
    let ownership = context.ownership.clone();
    let actor = context.directory.spawn_within(REMOTE, NAME, OwnershipActor, ownership, Some(supervisor)).await?;
    Ok(actor.get_cell())
}

impl Actor for OwnershipActor {
    type Msg = Message;
    type State = State;
    type Arguments = Ownership;

    async fn pre_start(&self, _: ActorRef<Message>, ownership: Ownership) -> Result<State, ActorProcessingErr> {
        let shared = ownership.shared;
        let tasks = shared.tasks();
        tasks.spawn(ask(shared.clone()));
        tasks.spawn(settle(shared.clone()));
        Ok(State { shared, tasks })
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        // An asker that gave up is no failure of this actor: answers that nobody waits for are dropped.
        match message {
            Message::Touch(Wire((by, epoch)), reply) => {
                if let Some(counts) = state.shared.touch(by, epoch) {
                    let _ = reply.send(Wire(counts));
                }
            }
            Message::Vote(Wire(polls), reply) => {
                let shared = state.shared.clone();
                state.tasks.spawn(async move {
                    let verdicts = shared.vote(polls).await.map_err(|error| error.to_string());
                    let _ = reply.send(Wire(verdicts));
                });
            }
        }
        Ok(())
    }
}

/// Asks everyone who is up, as long as somebody here needs a lease.
async fn ask(shared: Arc<Shared>) {
    let mut tick = interval(ASK_PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if shared.is_needed() {
            let asked = shared.members.others_up().into_iter().map(|id| shared.ask(id));
            // Who takes longer than that is asked again; what comes later is of less use with each moment.
            let _ = timeout(ASK_PERIOD, join_all(asked)).await;
        }
    }
}

async fn settle(shared: Arc<Shared>) {
    let mut tick = interval(SETTLE_PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Err(error) = shared.settle().await {
            tracing::warn!(%error, "votes that nobody needs could not be deleted; they are, the next time");
        }
    }
}
