//! The actor: reads what survived, then turns each message into one call of the desk, beside the mailbox.

use super::{
    NAME,
    core::Core,
    desk::Desk,
    home::{SETTINGS, STRATEGY_ID},
    job::JOBS,
    messages::Message,
    registry::WORKERS,
};
use crate::Context;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr};
use skep_runtime::{Reach, Tasks, Wire};
use std::{future::Future, sync::Arc};

/// The workers' actor of one node.
struct WorkerActor;

/// A WorkerActor's own.
struct State {
    desk: Arc<Desk>,
    _tasks: Tasks,
}

/// What other nodes' actors say to this one.
const REMOTE: Reach = Reach::Only(&[
    "Said", "Wait", "Claim", "Renew", "Release", "Finished", "Find", "Known", "Whois", "Vitals", "ClearOwn", "Count",
]);
/// Jobs of one `Known`.
const KNOWN_MAX: usize = 1000;

/// Starts the workers' actor of a node. What waited before a restart waits again; whoever had a job keeps it for a lease.
///
/// # Errors
/// The store could not be read.
pub async fn start(context: &Context, supervisor: ActorCell) -> Result<ActorCell, SpawnErr> {
    let actor = context.directory.spawn_within(REMOTE, NAME, WorkerActor, context.clone(), Some(supervisor)).await?;
    Ok(actor.get_cell())
}

impl Actor for WorkerActor {
    type Msg = Message;
    type State = State;
    type Arguments = Context;

    async fn pre_start(&self, _: ActorRef<Message>, context: Context) -> Result<State, ActorProcessingErr> {
        let ledger = &context.ledger;
        // From here on nothing that others write is missed: the desk reads on where this ends.
        let _ = (ledger.feed(JOBS), ledger.feed(WORKERS), ledger.feed(SETTINGS));
        let (mut slips, mut workers) = (Vec::new(), Vec::new());
        ledger.visit(JOBS, |record| {
            if record.id == record.value.slip.id.as_bytes() {
                slips.push(record.value.slip);
            }
        })?;
        ledger.visit(WORKERS, |record| workers.push(record.value))?;
        let mut core = Core::new(context.directory.id(), slips);
        for worker in workers {
            let id = worker.said.id.clone();
            core.registry.note(&id, Some(worker));
        }
        if let Ok(Some(found)) = ledger.get(SETTINGS, STRATEGY_ID) {
            core.strategy = found.value;
        }
        let tasks = context.env.tasks();
        let desk = Desk::open(&context, tasks.spawner(), core);
        Ok(State { desk, _tasks: tasks })
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let desk = state.desk.clone();
        // An asker that gave up is no failure of this actor: answers that nobody waits for are dropped.
        match message {
            Message::Register(Wire(new), reply) => answer(&desk, desk.clone().register(new), reply),
            Message::Discover(Wire(filter), reply) => answer(&desk, desk.clone().discover(filter), reply),
            Message::Look(Wire(id), reply) => answer(&desk, desk.clone().look(id), reply),
            Message::Say(Wire((id, word)), reply) => answer(&desk, desk.clone().say(id, word), reply),
            Message::Take(Wire(take), reply) => desk.tasks.spawn(desk.clone().take(take, reply)),
            Message::Submit(Wire(new), reply) => answer(&desk, desk.clone().submit(new), reply),
            Message::Finish(Wire(finish), reply) => answer(&desk, desk.clone().finish(finish), reply),
            Message::Get(Wire(id), reply) => answer(&desk, desk.clone().get(id), reply),
            Message::Clear(Wire(class), reply) => answer(&desk, desk.clone().clear(class), reply),
            Message::Stats(reply) => answer(&desk, desk.clone().stats(), reply),
            Message::Balance(Wire(strategy), reply) => answer(&desk, desk.clone().balance(strategy), reply),
            Message::Said(Wire((id, word)), reply) => {
                let said = word.check().and_then(|()| desk.said(id, word));
                let _ = reply.send(Wire(said));
            }
            Message::Wait(Wire(take), reply) => desk.wait(take, reply),
            Message::Claim(Wire(claim), reply) => {
                let owner = desk.clone();
                answer(&desk, async move { owner.assign(claim).await }, reply);
            }
            Message::Renew(Wire(worker)) => desk.change(|state, now| (state.core.renew(&worker, now), Vec::new())),
            Message::Release(Wire(release)) => {
                let owner = desk.clone();
                desk.tasks.spawn(async move { owner.give_back(release).await });
            }
            Message::Finished(Wire(finish), reply) => {
                let owner = desk.clone();
                let done = async move {
                    finish.check()?;
                    owner.finish_own(finish).await
                };
                answer(&desk, done, reply);
            }
            Message::Find(Wire(id), reply) => drop(reply.send(Wire(desk.shown(id)))),
            Message::Known(Wire(mut ids), reply) => {
                ids.truncate(KNOWN_MAX);
                let known = desk.state().core.known(&ids);
                let _ = reply.send(Wire(known));
            }
            Message::Whois(Wire(id), reply) => {
                let known = desk.state().core.registry.get(&id).cloned();
                let _ = reply.send(Wire(known));
            }
            Message::Vitals(Wire(id), reply) => drop(reply.send(Wire(desk.vitals(id.as_deref())))),
            Message::ClearOwn(Wire(class), reply) => answer(&desk, desk.clone().clear_own(class), reply),
            Message::Count(reply) => {
                let tally = desk.state().core.tally();
                let _ = reply.send(Wire(tally));
            }
        }
        Ok(())
    }
}

/// Does something beside the mailbox, and says what came of it.
fn answer<T: Send + 'static>(
    desk: &Desk,
    work: impl Future<Output = T> + Send + 'static,
    reply: RpcReplyPort<Wire<T>>,
) {
    desk.tasks.spawn(async move { drop(reply.send(Wire(work.await))) });
}
