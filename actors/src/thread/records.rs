//! What the ledger keeps of threads, and under which ids.

use super::messages::{Said, Thread, Turn};
use crate::ledger::Collection;
use uuid::Uuid;

/// Threads, by their ids' bytes.
pub(super) const THREADS: Collection<Thread> = Collection::new(13, 2);
/// Messages, by [`said_id`].
pub(super) const SAID: Collection<Said> = Collection::new(14, 1);
/// Turns, by their ids' bytes.
pub(super) const TURNS: Collection<Turn> = Collection::new(15, 2);

/// What the message of this number in this thread is found by: numbers have no gap but where one was not acknowledged.
pub(super) fn said_id(thread: Uuid, number: u64) -> Vec<u8> {
    let mut id = thread.as_bytes().to_vec();
    id.extend(number.to_be_bytes());
    id
}

/// The thread and the number of a message's id; `None` if it is none.
pub(super) fn said_of(id: &[u8]) -> Option<(Uuid, u64)> {
    let (thread, number) = id.split_at_checked(16)?;
    Some((Uuid::from_slice(thread).ok()?, u64::from_be_bytes(number.try_into().ok()?)))
}
