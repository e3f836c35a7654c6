//! What the nodes log, as lines of the trace, each with its node's name: two runs of one seed have to log the same.
//!
//! Only lines of Skep's own crates count; what libraries log is theirs. `RUST_LOG` shows either on standard error.

use crate::{clock, net::Network};
use std::{
    cell::{Cell, RefCell},
    fmt::{self, Write as _},
    time::Duration,
};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, filter::Targets, layer::Context, registry::LookupSpan};
use uuid::Uuid;

thread_local! {
    static NETWORK: RefCell<Option<Network>> = const { RefCell::new(None) };
    static DOWNS: Cell<u64> = const { Cell::new(0) };
    /// When which command was really started.
    static STARTS: RefCell<Vec<(Duration, String)>> = const { RefCell::new(Vec::new()) };
    /// Whose step this thread makes; empty between steps.
    static NODE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Does `work`; what is logged meanwhile is this node's.
pub fn as_node(name: &str, work: &mut dyn FnMut()) {
    let before = NODE.with_borrow_mut(|node| std::mem::replace(node, name.to_owned()));
    work();
    NODE.set(before);
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

/// When a command was started on any node, each time.
pub fn starts(task: Uuid) -> Vec<Duration> {
    let task = task.to_string();
    STARTS.with_borrow(|starts| starts.iter().filter(|(_, id)| *id == task).map(|(at, _)| *at).collect())
}

struct Lines;

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        if line.0.starts_with(" message=membership") && line.0.ends_with("state=Down") {
            DOWNS.set(DOWNS.get() + 1);
        }
        if let Some(rest) = line.0.strip_prefix(" message=a command runs task=")
            && let Some((task, _)) = rest.split_once(' ')
        {
            STARTS.with_borrow_mut(|starts| starts.push((clock::now(), task.to_owned())));
        }
        let (level, target) = (event.metadata().level(), event.metadata().target());
        NETWORK.with_borrow(|network| {
            if let Some(network) = network {
                NODE.with_borrow(|node| {
                    let node = if node.is_empty() { "-" } else { node };
                    network.note(format_args!("{node} {level} {target}{}", line.0));
                });
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
