//! What an agent can do beside thinking: one tool a file.
//!
//! A tool's arguments come from a model, hence from anyone whose text it read: each is checked like a stranger's. What
//! it gives back is bounded and goes into the prompt as data. Whether a run may call it is decided in `life`.

pub mod ask_agent;
pub mod list_cluster_nodes;
pub mod read_file;
pub mod run_task;
pub mod spawn_sub_agent;

use crate::{Context, agent::Seat, task::Level};
use serde_json::Value;
use std::{path::PathBuf, time::Duration};
use tokio_util::sync::CancellationToken;

/// A tool, as a model and a person read of it.
#[derive(Debug, Clone, Copy)]
pub struct Tool {
    /// Its name.
    pub name: &'static str,
    /// Its arguments, in short.
    pub args: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Whether a call of which nobody knows if it was made may be made again: it changes nothing, or is known by its step.
    pub repeatable: bool,
}

/// All of them.
pub const ALL: [Tool; 5] =
    [list_cluster_nodes::TOOL, spawn_sub_agent::TOOL, run_task::TOOL, read_file::TOOL, ask_agent::TOOL];

/// Whether a call of this tool of which nobody knows if it was made must not be made again.
pub(super) fn is_once(name: &str) -> bool {
    ALL.iter().any(|tool| tool.name == name && !tool.repeatable)
}

/// What a call may use.
pub(super) struct Bench {
    pub(super) context: Context,
    /// The turn of a thread that the run is, if it is one.
    pub(super) seat: Option<Box<Seat>>,
    /// What the call is known by: the same for each attempt at this step of what the run does.
    pub(super) key: String,
    /// The weakest fence that a command may have.
    pub(super) sandbox: Level,
    /// The run's folder: all that its tools may read.
    pub(super) folder: PathBuf,
    /// How long a call may take.
    pub(super) patience: Duration,
    /// The run has ended: the call is to be given up, and what it started with it.
    pub(super) stop: CancellationToken,
}

/// Calls a tool. What went wrong is told to the model like any other result.
pub(super) async fn call(bench: Bench, tool: &str, args: &Value) -> Result<String, String> {
    match tool {
        list_cluster_nodes::NAME => Ok(list_cluster_nodes::call(&bench)),
        run_task::NAME => run_task::call(bench, args).await,
        read_file::NAME => read_file::call(bench, args).await,
        ask_agent::NAME => ask_agent::call(bench, args).await,
        _ => Err(format!("there is no tool {tool}")),
    }
}

/// A text argument that must be there.
fn text<'a>(args: &'a Value, name: &str) -> Result<&'a str, String> {
    args.get(name).and_then(Value::as_str).ok_or_else(|| format!("the argument \"{name}\" is missing or not a text"))
}

/// A text argument that may be absent.
fn maybe_text<'a>(args: &'a Value, name: &str) -> Result<Option<&'a str>, String> {
    match args.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(_) => text(args, name).map(Some),
    }
}
