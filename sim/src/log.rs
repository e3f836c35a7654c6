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
    /// Which commands really ran.
    static RUNS: RefCell<Vec<Run>> = const { RefCell::new(Vec::new()) };
    /// Whose step this thread makes; empty between steps.
    static NODE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A command that ran on a node.
#[derive(Debug, Clone)]
pub struct Run {
    /// The node's name.
    pub node: String,
    task: String,
    /// When it was started.
    pub began: Duration,
    /// When nothing of it was left.
    pub over: Option<Duration>,
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
    runs(task).into_iter().map(|run| run.began).collect()
}

/// How a command ran, in the order of the starts.
pub fn runs(task: Uuid) -> Vec<Run> {
    let task = task.to_string();
    RUNS.with_borrow(|runs| runs.iter().filter(|run| run.task == task).cloned().collect())
}

/// A node has ended, and all that ran on it.
pub fn ended(node: &str) {
    over(|run| run.node == node);
}

fn over(which: impl Fn(&Run) -> bool) {
    RUNS.with_borrow_mut(|runs| {
        for run in runs.iter_mut().filter(|run| run.over.is_none() && which(run)) {
            run.over = Some(clock::now());
        }
    });
}

struct Lines;

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        if line.0.starts_with(" message=membership") && line.0.ends_with("state=Down") {
            DOWNS.set(DOWNS.get() + 1);
        }
        let task = |what: &str| line.0.strip_prefix(what)?.split(' ').next().map(str::to_owned);
        let node = NODE.with_borrow(Clone::clone);
        if let Some(task) = task(" message=a command runs task=") {
            let run = Run { node, task, began: clock::now(), over: None };
            RUNS.with_borrow_mut(|runs| runs.push(run));
        } else if let Some(task) = task(" message=a command is over task=") {
            over(|run| run.task == task && run.node == node);
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
