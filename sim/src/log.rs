//! What the nodes log, as lines of the trace: two runs of one seed have to log the same.
//!
//! Only lines of Skep's own crates count; what libraries log is theirs. `RUST_LOG` shows either on standard error.

use crate::net::Network;
use std::{
    cell::{Cell, RefCell},
    fmt::{self, Write as _},
};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, filter::Targets, layer::Context, registry::LookupSpan};

thread_local! {
    static NETWORK: RefCell<Option<Network>> = const { RefCell::new(None) };
    static DOWNS: Cell<u64> = const { Cell::new(0) };
}

/// From now on what this thread logs goes into the trace of this network.
pub fn write_to(network: &Network) {
    NETWORK.set(Some(network.clone()));
}

/// The layer that does it.
pub fn lines<S: Subscriber + for<'a> LookupSpan<'a>>() -> impl Layer<S> {
    let ours = ["skep_runtime", "skep_transport", "skep_actors", "skep_engine"];
    Lines.with_filter(Targets::new().with_targets(ours.map(|target| (target, tracing::Level::DEBUG))))
}

/// How often a node has called another one down since this thread's world began.
pub fn downs() -> u64 {
    DOWNS.get()
}

struct Lines;

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        if line.0.starts_with(" message=membership") && line.0.ends_with("state=Down") {
            DOWNS.set(DOWNS.get() + 1);
        }
        let (level, target) = (event.metadata().level(), event.metadata().target());
        NETWORK.with_borrow(|network| {
            if let Some(network) = network {
                network.note(format_args!("{level} {target}{}", line.0));
            }
        });
    }
}

/// The fields of an event, in the order of their declaration.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // A string takes whatever is written.
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}
