//! What the ledger keeps of threads, and under which ids.

use super::messages::{Said, Thread, Turn};
use crate::{ledger::Collection, scheduler::spec};
use uuid::Uuid;

/// Threads, by their ids' bytes.
pub(super) const THREADS: Collection<Thread> = Collection::new(13, 2);
/// Messages, by [`said_id`].
pub(super) const SAID: Collection<Said> = Collection::new(14, 2);
/// Turns, by their ids' bytes.
pub(super) const TURNS: Collection<Turn> = Collection::new(15, 2);

/// What a message of a thread is found by. Not its number: two halves of a swarm give the same one to two messages, and both
/// are kept.
pub(super) fn said_id(thread: Uuid, message: Uuid) -> Vec<u8> {
    [thread.into_bytes(), message.into_bytes()].concat()
}

/// The thread and the message that are found by this; `None` if it is none.
pub(super) fn said_of(id: &[u8]) -> Option<(Uuid, Uuid)> {
    let (thread, message) = id.split_at_checked(16)?;
    Some((Uuid::from_slice(thread).ok()?, Uuid::from_slice(message).ok()?))
}

/// The message that answers a turn: one, whichever half of a swarm says it.
pub(super) fn answer_id(turn: Uuid) -> Uuid {
    spec::named_by(&format!("answer\0{turn}"))
}
