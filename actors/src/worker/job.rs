//! A job: what it is, what it needs of its worker, and where it stands.

use super::messages::WorkerError;
use crate::{ledger::Collection, ownership::Term, scheduler::messages::Priority};
use serde::{Deserialize, Serialize};
use skep_runtime::NodeId;
use std::collections::BTreeSet;
use uuid::Uuid;

/// Every job of the swarm, by the id's bytes.
pub const JOBS: Collection<Job> = Collection::new(20, 1);

/// Bytes of a job's work. With a result of the same size it fits into one record of the ledger, 256 KiB.
pub const WORK_BYTES_MAX: usize = 120 << 10;
/// Bytes of a result, for the same reason.
pub const RESULT_BYTES_MAX: usize = 120 << 10;
/// Characters of a failure's reason: a sentence and a stack trace's first lines.
pub const ERROR_CHARS_MAX: usize = 2000;
/// Capabilities of one worker, or that one job needs: each is compared at each choice.
pub const CAPABILITIES_MAX: usize = 64;
/// Characters of a capability, a service, a tag or a type.
pub const WORD_CHARS_MAX: usize = 128;

/// What is to be done. The swarm doesn't look at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// What kind of work.
    pub task_type: String,
    /// The model that it is for.
    pub model: String,
    /// The prompt.
    pub prompt: String,
    /// An object, as JSON.
    pub parameters: String,
}

impl Work {
    /// Its size.
    pub fn bytes(&self) -> usize {
        self.task_type.len() + self.model.len() + self.prompt.len() + self.parameters.len()
    }
}

/// What a job needs of its worker.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Needs {
    /// All of these.
    pub capabilities: BTreeSet<String>,
    /// A worker of this type.
    pub kind: Option<String>,
}

impl Needs {
    /// Whether a worker with these has it all.
    pub fn are_met_by(&self, kind: &str, capabilities: &BTreeSet<String>) -> bool {
        self.kind.as_ref().is_none_or(|needed| needed == kind) && self.capabilities.is_subset(capabilities)
    }
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// It waits for a worker.
    Queued,
    /// A worker has it.
    Assigned,
    /// A worker has done it.
    Completed,
    /// A worker says that it failed, or too many fell silent over it.
    Failed,
    /// Its queue was cleared.
    Cancelled,
}

impl State {
    /// Whether nothing more will come of it.
    pub fn ended(self) -> bool {
        matches!(self, State::Completed | State::Failed | State::Cancelled)
    }
}

/// All that decisions look at: a job without its work and its result, which stay on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slip {
    /// Its id.
    pub id: Uuid,
    /// The node that decides about it.
    pub owner: NodeId,
    /// Since when: it grows with every takeover.
    pub term: Term,
    /// Counts what was written of it: of one term, the higher step is the later word.
    pub step: u32,
    /// A higher class goes strictly first.
    pub priority: Priority,
    /// What it needs of its worker.
    pub needs: Needs,
    /// Bytes of its work.
    pub bytes: u32,
    /// Where it stands.
    pub state: State,
    /// How often it was given to a worker that was heard of afterwards, or silent over it.
    pub attempts: u32,
    /// Who has it, had it last, or ended it.
    pub worker: Option<String>,
    /// Seconds that its worker may be silent.
    pub lease_s: u32,
    /// Why it failed.
    pub error: Option<String>,
    /// Times in milliseconds since 1970.
    pub submitted_ms: u64,
    /// When it was given to its worker.
    pub assigned_ms: Option<u64>,
    /// When it ended.
    pub finished_ms: Option<u64>,
}

impl Slip {
    /// Where it stands in the order of what was said about it.
    pub fn place(&self) -> (Term, u32) {
        (self.term, self.step)
    }

    /// Whose it is, and whether it has ended.
    pub fn stands(&self) -> (NodeId, bool) {
        (self.owner, self.state.ended())
    }
}

/// A job's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// What decisions look at.
    pub slip: Slip,
    /// What is to be done.
    pub work: Work,
    /// What came of it, as JSON.
    pub result: Option<String>,
}

/// A word of the kinds that are compared: capabilities, types, names of workers.
pub(super) fn word(field: &str, text: &str) -> Result<(), WorkerError> {
    let fits = !text.is_empty() && text.chars().count() <= WORD_CHARS_MAX && !text.chars().any(char::is_control);
    match fits {
        true => Ok(()),
        false => Err(WorkerError::invalid(field, format!("must have 1 to {WORD_CHARS_MAX} characters that print"))),
    }
}

/// A set of such words.
pub(super) fn words(field: &str, texts: &BTreeSet<String>) -> Result<(), WorkerError> {
    if texts.len() > CAPABILITIES_MAX {
        return Err(WorkerError::invalid(field, format!("must have at most {CAPABILITIES_MAX} items")));
    }
    texts.iter().try_for_each(|text| word(field, text))
}
