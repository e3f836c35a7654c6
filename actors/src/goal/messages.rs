//! What the GoalActor can be told and asked.

use crate::scheduler::{ScheduleError, Spec, State};
use ractor::RpcReplyPort;
use ractor_cluster_derive::RactorClusterMessage;
use serde::{Deserialize, Serialize};
use skep_runtime::Wire;
use uuid::Uuid;

/// What the GoalActor understands.
#[derive(RactorClusterMessage)]
pub enum Message {
    /// Take a goal. Answered when all of its commands are taken.
    #[rpc]
    Create(Wire<Plan>, RpcReplyPort<Wire<Result<Shown, GoalError>>>),
    /// One goal.
    #[rpc]
    Get(Wire<Uuid>, RpcReplyPort<Wire<Result<Shown, GoalError>>>),
    /// The newest goals, at most this many, without their commands.
    #[rpc]
    List(Wire<u32>, RpcReplyPort<Wire<Vec<Shown>>>),
    /// End what runs and what waits of a goal. Of one that has ended, forget it.
    #[rpc]
    Cancel(Wire<Uuid>, RpcReplyPort<Wire<Result<Shown, GoalError>>>),
}

/// A goal, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What it is called: 1 to 200 bytes.
    pub title: String,
    /// What it is for.
    pub description: String,
    /// What is to be done.
    pub steps: Vec<Step>,
    /// Who asks for the same goal with the same key once more is answered with the first one.
    pub idempotency_key: Option<String>,
}

/// A step of a goal: one command, or several alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What others call it: unique in its goal.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Whether it waits for the step before it.
    pub mode: Mode,
    /// The steps that must have completed before it runs, all of their commands.
    pub prerequisites: Vec<String>,
    /// How many times it runs, at once if there is room; each finds its number in `SKEP_INDEX`.
    pub count: u32,
    /// All of these run at the same time or none does: they are a gang.
    pub gang: bool,
    /// What it runs.
    pub spec: Spec,
}

/// Whether a step waits for the one that stands before it, beside its prerequisites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Mode {
    /// It doesn't.
    #[default]
    Parallel,
    /// It does.
    Sequential,
}

/// A goal as it is kept: its plan, but for what the commands' records hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goal {
    /// Its id, of which those of its commands follow.
    pub id: Uuid,
    /// What it is called.
    pub title: String,
    /// What it is for.
    pub description: String,
    /// Its steps.
    pub steps: Vec<Outline>,
    /// Milliseconds since 1970.
    pub created_ms: u64,
}

/// A step of a goal that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outline {
    /// What others call it.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Whom it waits for, the step before it among them if it waits for that.
    pub after: Vec<String>,
    /// How many commands it has.
    pub count: u32,
}

/// A goal and how far it is, as far as this node knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The goal.
    pub goal: Goal,
    /// Where it stands.
    pub status: Status,
    /// Its commands in the order of its steps. Empty in a list.
    pub tasks: Vec<Task>,
    /// How many of them stand where.
    pub counts: Counts,
}

/// Where a goal stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// Nothing of it has begun.
    Pending,
    /// Some of it runs, or has run and the rest waits.
    InProgress,
    /// All of it has completed.
    Completed,
    /// It is over, and a part of it failed.
    Failed,
    /// It is over, and somebody ended a part of it.
    Cancelled,
    /// Its commands were never taken, or their records are gone.
    Unknown,
}

/// One command of a goal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its id: its record is the scheduler's.
    pub id: Uuid,
    /// Of which step.
    pub step: String,
    /// Which one of it, from 0.
    pub index: u32,
    /// Where it stands; `None` if nobody knows it any more.
    pub state: Option<State>,
    /// It waits for others of its goal.
    pub blocked: bool,
    /// Why it failed.
    pub error: Option<String>,
}

/// How many commands stand where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// They wait for room, or for a moment.
    pub pending: u32,
    /// They wait for others.
    pub blocked: u32,
    /// They run.
    pub running: u32,
    /// They ended well.
    pub completed: u32,
    /// They ended badly.
    pub failed: u32,
    /// Somebody ended them.
    pub cancelled: u32,
    /// Their records are gone.
    pub forgotten: u32,
}

/// Why a goal was not taken, or could not be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum GoalError {
    /// Nobody knows this one.
    #[error("Goal not found: {0}")]
    NoSuchGoal(Uuid),
    /// The plan can't be carried out.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field's name.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// As many as are kept.
    #[error("{0} goals are kept: delete some that have ended")]
    Full(usize),
    /// One of its commands was not taken. Those before it were: asked for again with the same key, it goes on there.
    #[error("step {step}: {error}")]
    Step {
        /// The step.
        step: String,
        /// What the scheduler says.
        error: ScheduleError,
    },
    /// It could not be written.
    #[error("the goal could not be saved, so it was not taken: {0}")]
    Store(String),
}
