//! The actor: turns each message into one call of the desk, beside the mailbox.

use super::{NAME, desk::Desk, messages::Message};
use crate::{Context, budget::Local, questions::Questions};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use skep_runtime::{Tasks, Wire};
use std::sync::Arc;

/// Questions that are worked on at once, each a task.
const QUESTIONS_MAX: usize = 256;
/// Those that wait for a turn to end: they wait for long and do nothing.
const WAITING_MAX: usize = 1024;
/// Budgets that are put on record at once: those of all threads that may be spent from at once. Others wait for these, so they
/// have places of their own.
const CHARGES_MAX: usize = 1024;

struct ThreadActor;

/// A ThreadActor's own.
struct State {
    desk: Arc<Desk>,
    /// What works on its questions ends with it.
    _tasks: Tasks,
    questions: Questions,
    waiting: Questions,
    charges: Questions,
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
        let questions = Questions::new(tasks.spawner(), QUESTIONS_MAX, "threads");
        let waiting = Questions::new(tasks.spawner(), WAITING_MAX, "turns that have not ended");
        let charges = Questions::new(tasks.spawner(), CHARGES_MAX, "budgets that are put on record");
        Ok(State { desk, questions, waiting, charges, _tasks: tasks })
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let desk = state.desk.clone();
        match message {
            Message::Post(Wire(order), reply) => state.questions.answer(reply, async move { desk.post(order).await }),
            Message::Work(Wire(work), reply) => state.questions.answer(reply, async move { desk.work(work).await }),
            Message::Charge(Local((thread, charged)), reply) => {
                state.charges.answer(reply, async move { desk.charge(thread, charged).await });
            }
            Message::Note(Wire(order), reply) => {
                state.questions.answer(reply, async move { desk.write_down(order).await })
            }
            Message::Open(Wire(new), reply) => {
                state.questions.answer(reply, async move { desk.open_thread(new).await })
            }
            Message::Get(Wire(id), reply) => drop(reply.send(Wire(desk.core().thread(id).cloned()))),
            Message::List(Wire(wanted), reply) => drop(reply.send(Wire(desk.core().list(&wanted)))),
            Message::Said(Wire(wanted), reply) => state.questions.answer(reply, async move { desk.said(&wanted) }),
            Message::Turns(Wire(id), reply) => state.questions.answer(reply, async move { desk.turns(id) }),
            Message::Turn(Wire(id), reply) => state.questions.answer(reply, async move { desk.turn(id) }),
            Message::Await(Wire(turn), reply) => state.waiting.answer(reply, async move { desk.awaited(turn).await }),
            Message::Exchange(Wire(turn), reply) => {
                state.questions.answer(reply, async move { desk.exchange(turn) });
            }
            Message::Grade(Wire(order), reply) => state.questions.answer(reply, async move { desk.grade(order).await }),
            Message::Rename(Wire(order), reply) => {
                state.questions.answer(reply, async move { desk.rename(order).await })
            }
            Message::Kill(Wire(order), reply) => state.questions.answer(reply, async move { desk.kill(order).await }),
            Message::Forget(Wire(order), reply) => {
                state.questions.answer(reply, async move { desk.forget(order).await })
            }
            Message::Activity(reply) => drop(reply.send(Wire(desk.core().activity()))),
            Message::Ask(Wire(ask), reply) => state.waiting.answer(reply, async move { desk.asked(ask).await }),
            Message::Moved(Wire(run), reply) => state.questions.answer(reply, async move { desk.moved(run).await }),
        }
        Ok(())
    }
}
