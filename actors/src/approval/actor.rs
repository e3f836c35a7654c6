//! The actor: turns each message into one call of the desk, beside the mailbox.

use super::{NAME, desk::Desk, messages::Message};
use crate::Context;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr};
use serde::{Serialize, de::DeserializeOwned};
use skep_runtime::{Reach, Tasks, Wire};
use std::{future::Future, sync::Arc};
use tokio::sync::Semaphore;

/// Questions that are worked on at once: each run has one at most, and waits in it for an answer.
const QUESTIONS_MAX: usize = 256;

/// What other nodes may say: what their owner has answered. Whoever is on the roster is trusted with that, as with its
/// own records; an agent is not, and reaches no actor.
const REMOTE: Reach = Reach::Only(&["Answer"]);

/// The approvals of one node.
struct ApprovalActor;

/// An ApprovalActor's own.
struct State {
    desk: Arc<Desk>,
    tasks: Tasks,
    places: Arc<Semaphore>,
}

/// Starts the actor and publishes it. The audit must be there first.
///
/// # Errors
/// The ledger could not be read.
pub async fn start(context: &Context, supervisor: ActorCell) -> Result<ActorCell, SpawnErr> {
    let actor = context.directory.spawn_within(REMOTE, NAME, ApprovalActor, context.clone(), Some(supervisor)).await?;
    Ok(actor.get_cell())
}

impl Actor for ApprovalActor {
    type Msg = Message;
    type State = State;
    type Arguments = Context;

    async fn pre_start(&self, _: ActorRef<Message>, context: Context) -> Result<State, ActorProcessingErr> {
        let tasks = context.env.tasks();
        let desk = Desk::open(&context, &tasks.spawner())?;
        Ok(State { desk, tasks, places: Arc::new(Semaphore::new(QUESTIONS_MAX)) })
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let desk = state.desk.clone();
        match message {
            Message::Judge(Wire((call, waited)), reply) => {
                state.answer(reply, async move { desk.judge(call, waited).await });
            }
            Message::Wait(Wire(id), reply) => state.answer(reply, async move { desk.wait(id).await }),
            Message::Withdraw(Wire(run), reply) => state.answer(reply, async move { desk.withdraw(run).await }),
            Message::Decide(Wire(answer), reply) => state.answer(reply, async move { desk.decide(answer).await }),
            Message::Answer(Wire(answer), reply) => state.answer(reply, async move { desk.answer(answer).await }),
            Message::SetPolicy(Wire(policy), reply) => {
                state.answer(reply, async move { desk.set_policy(policy).await });
            }
            Message::List(reply) => drop(reply.send(Wire(desk.list()))),
            Message::Policy(reply) => drop(reply.send(Wire(desk.policy()))),
        }
        Ok(())
    }
}

impl State {
    /// Answers from a task. Whoever asked and went away needs no answer.
    fn answer<T, F>(&self, reply: RpcReplyPort<Wire<T>>, work: F)
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            // Without an answer whoever asked hears at once that there is none: nothing was allowed.
            return tracing::warn!("more questions about approvals than are worked on at once");
        };
        self.tasks.spawn(async move {
            let answer = work.await;
            drop(place);
            drop(reply.send(Wire(answer)));
        });
    }
}
