//! The actor: turns each message into one call of the desk. Writes run beside the mailbox.

use super::{
    NAME,
    desk::Desk,
    messages::{CronError, Message},
};
use crate::Context;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use skep_runtime::{Reach, Tasks, Wire};
use std::sync::Arc;

/// The cron jobs of one node.
struct CronActor;

/// A CronActor's own.
struct State {
    desk: Arc<Desk>,
    tasks: Tasks,
}

/// Starts the cron jobs of a node, after its scheduler.
///
/// # Errors
/// The ledger could not be read.
pub async fn start(context: &Context, supervisor: ActorCell) -> Result<ActorCell, SpawnErr> {
    let spawned = context.directory.spawn_within(Reach::Nothing, NAME, CronActor, context.clone(), Some(supervisor));
    Ok(spawned.await?.get_cell())
}

impl Actor for CronActor {
    type Msg = Message;
    type State = State;
    type Arguments = Context;

    async fn pre_start(&self, _: ActorRef<Message>, context: Context) -> Result<State, ActorProcessingErr> {
        let tasks = context.env.tasks();
        let desk = Desk::open(&context, tasks.spawner())?;
        Ok(State { desk, tasks })
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let desk = &state.desk;
        // An asker that gave up is no failure of this actor: answers that nobody waits for are dropped.
        match message {
            Message::Add(Wire(new), reply) => {
                let desk = desk.clone();
                state.tasks.spawn(async move { drop(reply.send(Wire(desk.add(new).await))) });
            }
            Message::Remove(Wire(id), reply) => {
                let desk = desk.clone();
                state.tasks.spawn(async move { drop(reply.send(Wire(desk.remove(id).await))) });
            }
            Message::List(reply) => drop(reply.send(Wire(desk.core().jobs()))),
            Message::Get(Wire(id), reply) => {
                let job = desk.core().job(id).ok_or_else(|| CronError::NoSuchJob(id.to_string()));
                drop(reply.send(Wire(job)));
            }
            Message::Runs(Wire(wanted), reply) => drop(reply.send(Wire(desk.core().runs(&wanted)))),
        }
        Ok(())
    }
}
