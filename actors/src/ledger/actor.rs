//! The actor: the ledger's face to other nodes. What takes long runs beside the mailbox.

use super::{
    Ledger, NAME,
    handle::Shared,
    keeper::keep,
    mender::mend,
    messages::{Error, LINES_MAX, Message},
    peers::fitting,
};
use crate::Context;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use skep_runtime::{Tasks, Wire};
use std::sync::Arc;

/// The ledger of one node.
struct LedgerActor;

/// A LedgerActor's own.
struct State {
    shared: Arc<Shared>,
    tasks: Tasks,
}

/// Starts the ledger of a node.
///
/// # Errors
/// The actor did not start.
pub async fn start(context: &Context, supervisor: ActorCell) -> Result<ActorCell, SpawnErr> {
    let ledger = context.ledger.clone();
    let actor = context.directory.spawn(NAME, LedgerActor, ledger, Some(supervisor)).await?;
    Ok(actor.get_cell())
}

impl Actor for LedgerActor {
    type Msg = Message;
    type State = State;
    type Arguments = Ledger;

    async fn pre_start(&self, _: ActorRef<Message>, ledger: Ledger) -> Result<State, ActorProcessingErr> {
        let shared = ledger.shared;
        let tasks = shared.env.tasks();
        tasks.spawn(keep(shared.clone()));
        tasks.spawn(mend(shared.clone()));
        Ok(State { shared, tasks })
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let shared = &state.shared;
        // An asker that gave up is no failure of this actor: answers that nobody waits for are dropped.
        match message {
            Message::Push(_, reply) if !shared.is_at_home() => drop(reply.send(Wire(Err(Error::Moving)))),
            Message::Push(Wire(entries), reply) => {
                let shared = shared.clone();
                state.tasks.spawn(async move { drop(reply.send(Wire(shared.take(entries).await))) });
            }
            Message::Branches(Wire(root), reply) => {
                let core = shared.core();
                let same = core.forest().root() == root;
                let _ = reply.send(Wire(if same { Vec::new() } else { core.forest().branches().to_vec() }));
            }
            Message::Leaves(Wire(branches), reply) => {
                let core = shared.core();
                let leaves = |branch: &u8| core.forest().leaves(*branch).to_vec();
                let _ = reply.send(Wire(branches.iter().take(super::forest::WIDTH).map(leaves).collect::<Vec<_>>()));
            }
            Message::List(Wire((leaf, after)), reply) => {
                let lines: Vec<_> = shared.core().list(leaf, after.as_ref()).take(LINES_MAX).collect();
                let _ = reply.send(Wire(lines));
            }
            Message::Fetch(Wire(keys), reply) => {
                let mut entries = Vec::new();
                for key in keys.iter().take(LINES_MAX) {
                    // One that is damaged here is to be had from another member.
                    entries.extend(shared.entry(key).ok().flatten());
                    if fitting(entries.iter().map(super::Entry::bytes)) < entries.len() {
                        entries.pop();
                        break;
                    }
                }
                let _ = reply.send(Wire(entries));
            }
            Message::Settled(Wire(mut lines)) => {
                lines.truncate(LINES_MAX);
                lines.retain(|line| line.dead);
                let shared = shared.clone();
                state.tasks.spawn(async move { shared.forget(lines).await });
            }
        }
        Ok(())
    }
}
