//! The questions of this side that wait for an answer, by number.

use skep_runtime::{Error, NodeId};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};
use tokio::sync::oneshot;

/// Questions in flight on one link. An honest peer's limit is the same, so it is never asked more than it takes.
pub(super) const CALLS_MAX: usize = 4096;

/// The answer's bytes, or why there are none.
type Outcome = Result<Vec<u8>, Error>;

/// What waits on one link.
#[derive(Default)]
pub(super) struct Pending(Mutex<State>);

#[derive(Default)]
struct State {
    last: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Outcome>>,
    down: bool,
}

/// A question on its way. Dropping it forgets the number: a late answer finds nobody.
pub(super) struct Call<'a> {
    pending: &'a Pending,
    pub(super) id: u64,
    answer: oneshot::Receiver<Outcome>,
}

impl Pending {
    /// Takes a number for a question to `peer`.
    pub(super) fn begin(&self, peer: NodeId) -> Result<Call<'_>, Error> {
        let mut state = self.lock();
        if state.down {
            return Err(Error::LinkDown(peer));
        }
        if state.waiting.len() >= CALLS_MAX {
            return Err(Error::Busy(format!("the link to {peer:?}")));
        }
        let (sender, answer) = oneshot::channel();
        state.last += 1;
        let id = state.last;
        state.waiting.insert(id, sender);
        Ok(Call { pending: self, id, answer })
    }

    /// Hands an answer to whoever waits for it, if anyone still does.
    pub(super) fn end(&self, id: u64, outcome: Outcome) {
        let waiting = self.lock().waiting.remove(&id);
        if let Some(waiting) = waiting {
            let _ = waiting.send(outcome);
        }
    }

    /// The link is down: everything that waits fails now, and everything later at once.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.down = true;
        // In order of the numbers: the simulation wakes them the same way each time.
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop(waiting);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call<'_> {
    /// Waits for the answer; fails at once when the link goes down.
    pub(super) async fn answer(&mut self, peer: NodeId) -> Outcome {
        (&mut self.answer).await.unwrap_or(Err(Error::LinkDown(peer)))
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.pending.lock().waiting.remove(&self.id);
    }
}
