//! The actor: turns each message into one call of the desk, beside the mailbox.

use super::{NAME, desk::Desk, messages::Message};
use crate::Context;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr};
use serde::{Serialize, de::DeserializeOwned};
use skep_runtime::{Tasks, Wire};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Questions that are worked on at once, each a task.
const QUESTIONS_MAX: usize = 256;
/// Those that wait for a turn to end: they wait for long and do nothing.
const WAITING_MAX: usize = 1024;

struct ThreadActor;

/// A ThreadActor's own.
struct State {
    desk: Arc<Desk>,
    tasks: Tasks,
    places: Arc<Semaphore>,
    seats: Arc<Semaphore>,
}

/// Starts the actor and publishes it. Those of agents, budgets and definitions must be there first.
///
/// # Errors
/// The actor could not be spawned, or the ledger not be read.
pub async fn start(context: &Context, supervisor: ActorCell) -> Result<ActorCell, SpawnErr> {
    let actor = context.directory.spawn(NAME, ThreadActor, context.clone(), Some(supervisor)).await?;
    Ok(actor.get_cell())
}

impl Actor for ThreadActor {
    type Msg = Message;
    type State = State;
    type Arguments = Context;

    async fn pre_start(&self, _: ActorRef<Message>, context: Context) -> Result<State, ActorProcessingErr> {
        let tasks = context.env.tasks();
        let desk = Desk::open(&context, tasks.spawner())?;
        let (places, seats) = (Arc::new(Semaphore::new(QUESTIONS_MAX)), Arc::new(Semaphore::new(WAITING_MAX)));
        Ok(State { desk, tasks, places, seats })
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let desk = state.desk.clone();
        match message {
            Message::Post(Wire(order), reply) => state.work(reply, async move { desk.post(order).await }),
            Message::Note(Wire(order), reply) => state.work(reply, async move { desk.write_down(order).await }),
            Message::Open(Wire(new), reply) => state.work(reply, async move { desk.open_thread(new).await }),
            Message::Get(Wire(id), reply) => drop(reply.send(Wire(desk.core().thread(id).cloned()))),
            Message::List(Wire(wanted), reply) => drop(reply.send(Wire(desk.core().list(&wanted)))),
            Message::Said(Wire(wanted), reply) => state.work(reply, async move { desk.said(&wanted) }),
            Message::Turns(Wire(id), reply) => state.work(reply, async move { desk.turns(id) }),
            Message::Turn(Wire(id), reply) => state.work(reply, async move { desk.turn(id) }),
            Message::Await(Wire(order), reply) => state.wait(reply, async move { desk.awaited(order).await }),
            Message::Grade(Wire(order), reply) => state.work(reply, async move { desk.grade(order).await }),
            Message::Rename(Wire(order), reply) => state.work(reply, async move { desk.rename(order).await }),
            Message::Kill(Wire(order), reply) => state.work(reply, async move { desk.kill(order).await }),
            Message::Forget(Wire(order), reply) => state.work(reply, async move { desk.forget(order).await }),
            Message::Activity(reply) => drop(reply.send(Wire(desk.core().activity()))),
            Message::Ask(Wire(ask), reply) => state.wait(reply, async move { desk.asked(ask).await }),
            Message::Moved(Wire(run), reply) => state.work(reply, async move { desk.moved(run).await }),
        }
        Ok(())
    }
}

impl State {
    fn work<T>(&self, reply: RpcReplyPort<Wire<T>>, work: impl Future<Output = T> + Send + 'static)
    where
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        self.answer(&self.places, reply, work);
    }

    fn wait<T>(&self, reply: RpcReplyPort<Wire<T>>, work: impl Future<Output = T> + Send + 'static)
    where
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        self.answer(&self.seats, reply, work);
    }

    /// Answers from a task. Whoever asked and went away needs no answer.
    fn answer<T>(
        &self,
        places: &Arc<Semaphore>,
        reply: RpcReplyPort<Wire<T>>,
        work: impl Future<Output = T> + Send + 'static,
    ) where
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        let Ok(place) = places.clone().try_acquire_owned() else {
            // Without an answer whoever asked hears at once that there is none.
            return tracing::warn!("more questions about threads than are worked on at once");
        };
        self.tasks.spawn(async move {
            let answer = work.await;
            drop(place);
            drop(reply.send(Wire(answer)));
        });
    }
}
