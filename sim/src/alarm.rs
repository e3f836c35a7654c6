//! Counts what must not happen inside of nodes and would go unnoticed: panics, which tokio and ractor catch, and lines
//! of the level ERROR, such as a failed actor that its supervisor starts again.

use anyhow::{Result, ensure};
use std::{
    panic,
    sync::atomic::{AtomicU32, Ordering},
};
use tracing::{Event, Subscriber};
use tracing_subscriber::{Layer, filter::LevelFilter, layer::Context, registry::LookupSpan};

static PANICS: AtomicU32 = AtomicU32::new(0);
static ERRORS: AtomicU32 = AtomicU32::new(0);

/// From now on panics are counted.
pub fn arm() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        usual(info);
    }));
}

/// No code of a node panics and none logs an error, whatever happens around it.
pub fn is_silent() -> Result<()> {
    let (panics, errors) = (PANICS.load(Ordering::Relaxed), ERRORS.load(Ordering::Relaxed));
    ensure!(panics == 0, "{panics} panics; their messages stand above");
    ensure!(errors == 0, "{errors} errors in the nodes' logs; RUST_LOG=error shows them");
    Ok(())
}

/// The layer that counts errors; it asks for nothing below that level.
pub fn errors<S: Subscriber + for<'a> LookupSpan<'a>>() -> impl Layer<S> {
    Errors.with_filter(LevelFilter::ERROR)
}

struct Errors;

impl<S: Subscriber> Layer<S> for Errors {
    fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
        ERRORS.fetch_add(1, Ordering::Relaxed);
    }
}
