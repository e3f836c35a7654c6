//! Which request a piece of work belongs to, across actors and nodes; a tracing span for each hop.
//!
//! The id travels in envelopes and in a task-local; log lines of one request share `trace=`.

use serde::{Deserialize, Serialize};
use std::{fmt, future::Future};
use tracing::Instrument;

/// A request's id: 64 random bits, 0 for work that belongs to none (timers, start-up).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Trace(pub u64);

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

tokio::task_local! {
    static CURRENT: Trace;
}

impl Trace {
    /// The request that the running task works for.
    pub fn current() -> Trace {
        CURRENT.try_with(|t| *t).unwrap_or_default()
    }

    /// Runs `work` for this request: what it sends carries the id, and what it logs stands in a `hop` span.
    pub async fn scope<F: Future>(self, actor: &str, work: F) -> F::Output {
        if self == Trace::default() {
            return work.await;
        }
        let span = tracing::debug_span!("hop", trace = %self, actor);
        CURRENT.scope(self, work).instrument(span).await
    }
}
