//! Questions that take another node, the disk or time: answered by tasks beside the mailbox, so many at once.
//!
//! Not here: questions that wait before the mailbox for a place (`goal`), because nothing is lost by their waiting.

use ractor::RpcReplyPort;
use serde::{Serialize, de::DeserializeOwned};
use skep_runtime::{Wire, tasks::Spawner};
use std::{future::Future, sync::Arc};
use tokio::sync::Semaphore;

/// What answers an actor's questions.
pub(crate) struct Questions {
    tasks: Spawner,
    places: Arc<Semaphore>,
    about: &'static str,
}

impl Questions {
    /// At most so many at once, whose tasks end with these; `about` says in the log what they are about.
    pub(crate) fn new(tasks: Spawner, most: usize, about: &'static str) -> Questions {
        Questions { tasks, places: Arc::new(Semaphore::new(most)), about }
    }

    /// Answers from a task. Whoever asked and went away needs no answer.
    pub(crate) fn answer<T, F>(&self, reply: RpcReplyPort<Wire<T>>, work: F)
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            // Without an answer whoever asked hears at once that there is none: nothing was done.
            return tracing::warn!("more questions about {} than are worked on at once", self.about);
        };
        self.tasks.spawn(async move {
            let answer = work.await;
            drop(place);
            drop(reply.send(Wire(answer)));
        });
    }
}
