//! How much virtual time has passed in this thread's world. tokio keeps the time; here is only its beginning.

use std::{cell::Cell, fmt, time::Duration};
use tokio::time::Instant;
use tracing_subscriber::fmt::{format::Writer, time::FormatTime};

thread_local! {
    static START: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The world begins now.
pub fn start() {
    START.set(Some(Instant::now()));
}

/// Virtual time since the world began; zero before it did.
pub fn now() -> Duration {
    START.get().map_or(Duration::ZERO, |start| start.elapsed())
}

/// Log lines carry virtual time.
pub struct Virtual;

impl FormatTime for Virtual {
    fn format_time(&self, to: &mut Writer<'_>) -> fmt::Result {
        write!(to, "{:10.3}s", now().as_secs_f64())
    }
}
