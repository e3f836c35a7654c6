//! What the CronActor can be told and asked, and what it keeps of a job.

use super::schedule::Kind;
use crate::{
    ledger,
    ownership::Term,
    scheduler::{self, Spec},
};
use ractor::RpcReplyPort;
use ractor_cluster_derive::RactorClusterMessage;
use serde::{Deserialize, Serialize};
use skep_runtime::{NodeId, Wire};
use uuid::Uuid;

/// What the CronActor understands. All of it is the owner's of this node: jobs reach other nodes by the ledger.
#[expect(clippy::large_enum_variant, reason = "few are under way at once, and a box would hide what they say")]
#[derive(RactorClusterMessage)]
pub enum Message {
    /// Make a job. Answered when it is on disk here and on another member, if one answers.
    #[rpc]
    Add(Wire<NewJob>, RpcReplyPort<Wire<Result<Job, CronError>>>),
    /// All jobs of the swarm, by name.
    #[rpc]
    List(RpcReplyPort<Wire<Vec<Job>>>),
    /// One job.
    #[rpc]
    Get(Wire<Uuid>, RpcReplyPort<Wire<Result<Job, CronError>>>),
    /// Remove a job for good. What it has started goes on.
    #[rpc]
    Remove(Wire<Uuid>, RpcReplyPort<Wire<Result<(), CronError>>>),
    /// The kept runs, newest first.
    #[rpc]
    Runs(Wire<Wanted>, RpcReplyPort<Wire<Vec<JobRun>>>),
}

/// A job to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewJob {
    /// What people call it.
    pub name: String,
    /// What it is good for.
    pub description: Option<String>,
    /// Whose it is, for clients that keep such a name. Nothing here depends on it.
    pub agent_id: Option<String>,
    /// How `expr` is read.
    pub kind: Kind,
    /// When it is due, in words.
    pub expr: String,
    /// The zone in which those are read.
    pub tz: String,
    /// What it runs.
    pub spec: Spec,
}

/// Which runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Of this job only.
    pub job: Option<Uuid>,
    /// Due at this moment or later, in milliseconds since 1970.
    pub from_ms: Option<u64>,
    /// Due at this moment or earlier.
    pub to_ms: Option<u64>,
    /// At most this many.
    pub limit: u32,
}

/// A job as it was made. It never changes, so that whoever owns it has nothing to overwrite it with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Its id.
    pub id: Uuid,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// What was asked for.
    pub new: NewJob,
}

/// How far a job has come, as its owner keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The node that fires it.
    pub owner: NodeId,
    /// Since when: it grows with every takeover.
    pub term: Term,
    /// Everything that was due until then is done with: in `runs`, or forgotten since.
    pub until_ms: u64,
    /// How many runs have failed since one went well.
    pub errors: u32,
    /// Nothing is due any more.
    pub over: bool,
    /// The newest runs, in the order in which they were due.
    pub runs: Vec<Run>,
}

impl Progress {
    /// Who owns the job.
    pub fn stands(&self) -> (NodeId, bool) {
        (self.owner, self.over && self.runs.iter().all(|run| run.state.ended()))
    }
}

/// One moment at which a job was due, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// When it was due, in milliseconds since 1970.
    pub at_ms: u64,
    /// Its task's id. Until it is taken, the one that it will have.
    pub task: Uuid,
    /// Where it stands.
    pub state: RunState,
    /// When it started and ended.
    pub started_ms: Option<u64>,
    /// When it ended.
    pub finished_ms: Option<u64>,
    /// Why it failed, or why it was left out.
    pub error: Option<String>,
    /// The last of what it wrote.
    pub output: String,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunState {
    /// It is due, and no scheduler has said yet that it took it.
    Due,
    /// It is a task that has not ended.
    Running,
    /// It ended with status 0.
    Completed,
    /// It ended otherwise, or could not run.
    Failed,
    /// Somebody ended it.
    Cancelled,
    /// It was left out: nobody was there in time, or too many were still running.
    Missed,
}

impl RunState {
    /// Whether nothing more will come of it.
    pub fn ended(self) -> bool {
        !matches!(self, RunState::Due | RunState::Running)
    }

    /// What clients read.
    pub fn word(self) -> &'static str {
        match self {
            RunState::Due => "pending",
            RunState::Running => "running",
            RunState::Completed => "completed",
            RunState::Failed => "failed",
            RunState::Cancelled => "cancelled",
            RunState::Missed => "missed",
        }
    }
}

/// A job, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// As it was made.
    pub definition: Definition,
    /// How far it has come.
    pub progress: Progress,
    /// When it is due next, in milliseconds since 1970.
    pub next_ms: Option<u64>,
    /// Its period, if it has one.
    pub every_ms: Option<u64>,
}

/// A run, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRun {
    /// Of which job.
    pub job: Uuid,
    /// The job's name.
    pub name: String,
    /// The run.
    pub run: Run,
}

/// Why the CronActor did not do it. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CronError {
    /// No job has this id.
    #[error("Cron job not found: {0}")]
    NoSuchJob(String),
    /// A field is out of its bounds.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field's name.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// As many as a swarm may have.
    #[error("the swarm has {0} cron jobs, which is as many as it may have: remove some first")]
    Full(usize),
    /// It could not be written.
    #[error("the job could not be saved: {0}")]
    Store(#[from] ledger::Error),
}

impl From<scheduler::ScheduleError> for CronError {
    fn from(error: scheduler::ScheduleError) -> CronError {
        match error {
            scheduler::ScheduleError::Invalid { field, reason } => CronError::Invalid { field, reason },
            other => CronError::Invalid { field: "payload_json".into(), reason: other.to_string() },
        }
    }
}
