//! Tasks that never outlive their owner: dropping a [`Tasks`] stops everything that was started through it.

use crate::{
    defaults::DRAIN_TIMEOUT,
    pace::{Pace, Paced},
};
use futures::future::BoxFuture;
use std::{future::Future, sync::Arc};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The owner of some tasks. Keep it in the thing that they serve.
#[derive(Debug)]
pub struct Tasks(Spawner);

/// Starts tasks on behalf of an owner. Cheap to clone; what it starts still ends with the owner.
#[derive(Clone, Debug)]
pub struct Spawner {
    stop: CancellationToken,
    running: TaskTracker,
    mode: Mode,
}

/// Where a node's work runs.
#[derive(Clone, Debug)]
enum Mode {
    /// On the machine's threads.
    Machine,
    /// On the caller's thread alone, since a second one would stop the simulation's clock; in the node's turns.
    Simulated(Option<Arc<dyn Pace>>),
}

impl Default for Tasks {
    fn default() -> Tasks {
        Tasks::new(Mode::Machine)
    }
}

impl Tasks {
    fn new(mode: Mode) -> Tasks {
        Tasks(Spawner { stop: CancellationToken::new(), running: TaskTracker::new(), mode })
    }

    /// No tasks yet, of a simulated node: nothing leaves the caller's thread, and with a `pace` nothing runs outside
    /// of its turns.
    pub fn simulated(pace: Option<Arc<dyn Pace>>) -> Tasks {
        Tasks::new(Mode::Simulated(pace))
    }

    /// Starts a task that ends with this owner at the latest.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(work);
    }

    /// For parts of the owner that start tasks themselves.
    pub fn spawner(&self) -> Spawner {
        self.0.clone()
    }

    /// Resolves when the owner stops: for tasks that have something to finish first.
    pub fn stopping(&self) -> CancellationToken {
        self.0.stop.clone()
    }

    /// Stops all tasks and waits for them, at most [`DRAIN_TIMEOUT`].
    pub async fn stop(self) {
        self.0.stop.cancel();
        self.0.running.close();
        if timeout(DRAIN_TIMEOUT, self.0.running.wait()).await.is_err() {
            tracing::warn!(left = self.0.running.len(), "tasks did not stop in time");
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.stop.cancel();
    }
}

impl Spawner {
    /// Starts a task that ends with the owner at the latest.
    #[expect(clippy::disallowed_methods, reason = "this is the one place: the task is tied to its owner")]
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        let task = self.running.track_future(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = work => {}
            }
        });
        match &self.mode {
            Mode::Simulated(Some(pace)) => drop(tokio::spawn(Paced::new(task, pace.clone()))),
            Mode::Simulated(None) | Mode::Machine => drop(tokio::spawn(task)),
        }
    }

    /// Runs `work`, which computes or blocks, off the executor's threads, and waits for its result. It can't be
    /// interrupted: pieces are to be short, or to look at a flag. Fails only when `work` panics.
    #[expect(clippy::disallowed_methods, reason = "this is the one place: simulation computes inline")]
    pub fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> BoxFuture<'static, Result<T, Panicked>> {
        if let Mode::Simulated(_) = self.mode {
            return Box::pin(std::future::ready(Ok(work())));
        }
        let job = self.running.track_future(tokio::task::spawn_blocking(work));
        Box::pin(async move { job.await.map_err(|_| Panicked) })
    }
}

/// The computation panicked; its panic message is in the log.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the computation failed with a bug of ours; its message is in the node's log")]
pub struct Panicked;
