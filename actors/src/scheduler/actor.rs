//! The actor: reads what survived, then turns each message into one call of the desk. What takes long runs beside the
//! mailbox; what decides runs in it, in order.

use super::{
    NAME,
    core::Core,
    desk::Desk,
    journal::{RECORDS, ROWS},
    messages::Message,
    runner,
    runs::Runs,
};
use crate::{Context, ownership::Wards};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use skep_runtime::{Reach, Tasks, Wire};
use std::{collections::BTreeMap, sync::Arc};
use uuid::Uuid;

/// Commands of one list.
const LIST_MAX: u32 = 1000;
/// Ids of one question about states.
const STATES_MAX: usize = 1000;
/// Ids of one `Forget`.
const FORGET_MAX: usize = 1000;

/// The scheduler of one node.
struct SchedulerActor;

/// A SchedulerActor's own.
struct State {
    desk: Arc<Desk>,
    _tasks: Tasks,
}

/// What other nodes' schedulers say to this one, and what may be asked about its commands from elsewhere.
const REMOTE: Reach =
    Reach::Only(&["Own", "Find", "Get", "Cancel", "Follow", "Run", "Counts", "Stop", "Tap", "Moved", "Forget"]);

/// Starts the scheduler of a node. What waited before a restart waits again; what ran on this node then is lost.
///
/// # Errors
/// The store could not be read.
pub async fn start(context: &Context, supervisor: ActorCell) -> Result<ActorCell, SpawnErr> {
    let actor = context.directory.spawn_within(REMOTE, NAME, SchedulerActor, context.clone(), Some(supervisor)).await?;
    Ok(actor.get_cell())
}

impl Actor for SchedulerActor {
    type Msg = Message;
    type State = State;
    type Arguments = Context;

    async fn pre_start(&self, me: ActorRef<Message>, context: Context) -> Result<State, ActorProcessingErr> {
        let me_id = context.directory.id();
        // From here on nothing that others write is missed: the desk reads on where this ends.
        let _ = context.ledger.feed(RECORDS);
        let (mut own, mut wards) = (Vec::new(), Wards::default());
        context.ledger.visit(RECORDS, |record| match record.value.owner == me_id {
            true => own.push(record.value),
            false => wards.note_in(record.value.gang(), record.value.id, Some(record.value.stands())),
        })?;
        let rows = context.store.all(ROWS)?.into_iter().map(|(id, row)| (Uuid::from_bytes(id), row)).collect();
        let why = format!("node {} was restarted", context.name);
        let (runs, died) = Runs::new(rows, &why, context.env.now_ms());
        let kept: Vec<_> = runs.with_output().map(|(id, row)| (*id, row.clone())).collect();
        let outputs = match context.env.simulated() {
            true => BTreeMap::new(),
            false => {
                let (node, kept) = (context.directory.id(), kept.clone());
                let (home, scratches) = (context.home.clone(), context.scratches.clone());
                context
                    .tasks
                    .compute(move || runner::sweep(node, (&home, &scratches), &kept))
                    .await?
                    .into_iter()
                    .collect()
            }
        };
        let core = Core::new(me_id, own);
        let tasks = context.env.tasks();
        let desk = Desk::open(&context, me.get_cell(), tasks.spawner(), core, runs, wards, outputs);
        // Rows of the dead are not written again: a further restart comes to the same end.
        tracing::debug!(died = died.len(), "the scheduler starts");
        for (id, row) in kept.into_iter().filter(|(_, row)| !row.heard) {
            if let Some(ending) = row.ending {
                desk.tasks.spawn(desk.clone().tell(id, row.attempt, ending));
            }
        }
        // Before the first command comes: without nodes it would be refused.
        desk.survey().await;
        Ok(State { desk, _tasks: tasks })
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let desk = &state.desk;
        let beside = |work: futures::future::BoxFuture<'static, ()>| desk.tasks.spawn(work);
        match message {
            Message::Submit(Wire(spec), reply) => desk.submit(spec, reply).await,
            Message::Enter(Wire((id, spec, again)), reply) => {
                beside(Box::pin(desk.clone().enter(id, spec, again, reply)));
            }
            Message::States(Wire(mut ids), reply) => {
                ids.truncate(STATES_MAX);
                let _ = reply.send(Wire(desk.states(&ids)));
            }
            Message::Get(Wire(id), reply) => {
                beside(Box::pin(desk.clone().get(id, reply)));
            }
            Message::Find(Wire(id), reply) => beside(Box::pin(desk.clone().get_own(id, reply))),
            Message::List(Wire(max), reply) => beside(Box::pin(desk.clone().list(max.min(LIST_MAX), reply))),
            // An asker that gave up is no failure of this actor, nor a reason to end the commands under it.
            Message::Own(Wire(max), reply) => drop(reply.send(Wire(desk.own(max.min(LIST_MAX))))),
            Message::Cancel(Wire(id), reply) => beside(Box::pin(desk.clone().cancel(id, reply))),
            Message::Clear(Wire(class), reply) => desk.clear(class, reply).await,
            Message::Follow(Wire((id, to, ticket)), reply) => {
                beside(Box::pin(desk.clone().follow(id, to, ticket, reply)))
            }
            Message::Stats(reply) => {
                let stats = {
                    let state = desk.state();
                    super::Stats { running_here: state.runs.running() as u32, ..state.core.stats(desk.now()) }
                };
                let _ = reply.send(Wire(stats));
            }
            Message::Run(Wire(run), reply) => desk.run(run, reply).await,
            Message::Counts(Wire(run), reply) => drop(reply.send(Wire(desk.counts(run).await))),
            Message::Stop(Wire((id, attempt, term)), reply) => {
                beside(Box::pin(desk.clone().stop(id, attempt, term, reply)));
            }
            Message::Empty(reply) => beside(Box::pin(desk.clone().empty(reply))),
            Message::Tap(Wire(tap), reply) => beside(Box::pin(desk.clone().tap(tap, reply))),
            Message::Ended(Wire((id, attempt, ending)), reply) => desk.ended(id, attempt, ending, reply).await,
            Message::Moved(Wire(told), reply) => desk.moved(told, reply).await,
            Message::Forget(Wire(mut ids)) => {
                ids.truncate(FORGET_MAX);
                desk.forget(ids).await;
            }
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Message>, state: &mut State) -> Result<(), ActorProcessingErr> {
        state.desk.stop_all().await;
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Message>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(cell, why) => state.desk.clone().gone(cell.get_id(), why.to_string()).await,
            SupervisionEvent::ActorTerminated(cell, _, why) => {
                state.desk.clone().gone(cell.get_id(), why.unwrap_or_else(|| "it was stopped".into())).await;
            }
            _ => {}
        }
        Ok(())
    }
}
