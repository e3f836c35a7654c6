//! The actor: turns each message into one call of the desk, beside the mailbox.

use super::{NAME, desk::Desk, messages::Message};
use crate::{Context, questions::Questions};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use skep_runtime::{Reach, Tasks, Wire};
use std::sync::Arc;

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
    /// What works on its questions ends with it.
    _tasks: Tasks,
    questions: Questions,
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
        let questions = Questions::new(tasks.spawner(), QUESTIONS_MAX, "approvals");
        Ok(State { desk, questions, _tasks: tasks })
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
                state.questions.answer(reply, async move { desk.judge(call, waited).await });
            }
            Message::Wait(Wire(id), reply) => state.questions.answer(reply, async move { desk.wait(id).await }),
            Message::Withdraw(Wire(run), reply) => {
                state.questions.answer(reply, async move { desk.withdraw(run).await })
            }
            Message::Decide(Wire(answer), reply) => {
                state.questions.answer(reply, async move { desk.decide(answer).await })
            }
            Message::Answer(Wire(answer), reply) => {
                state.questions.answer(reply, async move { desk.answer(answer).await })
            }
            Message::SetPolicy(Wire(policy), reply) => {
                state.questions.answer(reply, async move { desk.set_policy(policy).await });
            }
            Message::List(reply) => state.questions.answer(reply, async move { desk.list() }),
            Message::Get(Wire(id), reply) => state.questions.answer(reply, async move { desk.known(id) }),
            Message::Policy(reply) => state.questions.answer(reply, async move { desk.policy() }),
        }
        Ok(())
    }
}
