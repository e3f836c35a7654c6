//! What the WorkerActor can be told and asked.

use super::{
    job::{ERROR_CHARS_MAX, Job, Needs, RESULT_BYTES_MAX, WORK_BYTES_MAX, Work, word, words},
    registry::{Filter, Heard, Load, NewWorker, Record, Status, Worker},
    strategy::Strategy,
};
use crate::{ledger, ownership::Term, scheduler::messages::Priority};
use ractor::RpcReplyPort;
use ractor_cluster_derive::RactorClusterMessage;
use serde::{Deserialize, Serialize};
use skep_runtime::Wire;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use uuid::Uuid;

/// Seconds that a take may wait: proxies and clients give up at 30 s or more.
pub const WAIT_S_MAX: u32 = 30;
/// How long a home may take to answer beyond what a take waits: a claim, and the way.
pub const TAKE_MARGIN: Duration = Duration::from_secs(10);
/// Seconds that a worker may be silent over a job, if it doesn't say.
pub const LEASE_S: u32 = 60;
/// The least: a heartbeat every second or two still keeps it.
pub const LEASE_S_MIN: u32 = 5;
/// The most: one that is silent for an hour is gone.
pub const LEASE_S_MAX: u32 = 3600;
/// Jobs that a worker may name as its own: more than it can have at work.
pub const NAMED_MAX: usize = 1000;

/// What the WorkerActor understands.
#[derive(RactorClusterMessage)]
pub enum Message {
    /// A worker comes, or comes back: this node is its home from now on. Answered when that is on disk.
    #[rpc]
    Register(Wire<NewWorker>, RpcReplyPort<Wire<Result<Worker, WorkerError>>>),
    /// The workers of the swarm that are meant, the healthiest first. Homes that don't answer in time know nothing.
    #[rpc]
    Discover(Wire<Filter>, RpcReplyPort<Wire<Vec<Profile>>>),
    /// One worker.
    #[rpc]
    Look(Wire<String>, RpcReplyPort<Wire<Result<Profile, WorkerError>>>),
    /// A worker says something, to any node. Answered with when its home heard it, in milliseconds since 1970.
    #[rpc]
    Say(Wire<(String, Word)>, RpcReplyPort<Wire<Result<u64, WorkerError>>>),
    /// A worker asks for a job, at any node. Answered with one, or with none when it has waited as long as it said.
    #[rpc]
    Take(Wire<Take>, RpcReplyPort<Wire<Result<Option<Job>, WorkerError>>>),
    /// Take a job: it waits for a worker. Answered when it is on disk, here and on another node, if one answers.
    #[rpc]
    Submit(Wire<NewJob>, RpcReplyPort<Wire<Result<Job, WorkerError>>>),
    /// A worker has done with a job. Answered when that is on disk, here and on another node, if one answers. Said twice
    /// it is answered alike.
    #[rpc]
    Finish(Wire<Finish>, RpcReplyPort<Wire<Result<Job, WorkerError>>>),
    /// One job, wherever it is.
    #[rpc]
    Get(Wire<Uuid>, RpcReplyPort<Wire<Result<Found, WorkerError>>>),
    /// Cancel all jobs of this class that wait, in the whole swarm. Answered with their number.
    #[rpc]
    Clear(Wire<Priority>, RpcReplyPort<Wire<u32>>),
    /// Numbers of the whole swarm.
    #[rpc]
    Stats(RpcReplyPort<Wire<Stats>>),
    /// How jobs are given from now on, in the whole swarm.
    #[rpc]
    Balance(Wire<Strategy>, RpcReplyPort<Wire<Result<Strategy, WorkerError>>>),
    /// To a worker's home: [`Message::Say`].
    #[rpc]
    Said(Wire<(String, Word)>, RpcReplyPort<Wire<Result<u64, WorkerError>>>),
    /// To a worker's home: [`Message::Take`].
    #[rpc]
    Wait(Wire<Take>, RpcReplyPort<Wire<Result<Option<Job>, WorkerError>>>),
    /// To a job's owner: a worker waits that may have it. Answered with the job once that is written.
    #[rpc]
    Claim(Wire<Claim>, RpcReplyPort<Wire<Result<Job, WorkerError>>>),
    /// To a job's owner: its worker was heard of.
    Renew(Wire<String>),
    /// To a job's owner: its worker does not have it.
    Release(Wire<Release>),
    /// To a job's owner: [`Message::Finish`].
    #[rpc]
    Finished(Wire<Finish>, RpcReplyPort<Wire<Result<Job, WorkerError>>>),
    /// The record, if it is on this node.
    #[rpc]
    Find(Wire<Uuid>, RpcReplyPort<Wire<Option<Job>>>),
    /// How far these are known here: an heir asks before it takes them over.
    #[rpc]
    Known(Wire<Vec<Uuid>>, RpcReplyPort<Wire<Vec<(Uuid, Term, u32)>>>),
    /// A worker's registration, if it is known here.
    #[rpc]
    Whois(Wire<String>, RpcReplyPort<Wire<Option<Worker>>>),
    /// What this node knows of a worker, or of all.
    #[rpc]
    Vitals(Wire<Option<String>>, RpcReplyPort<Wire<BTreeMap<String, Vitals>>>),
    /// Cancel all jobs of this class that wait and are this node's own.
    #[rpc]
    ClearOwn(Wire<Priority>, RpcReplyPort<Wire<u32>>),
    /// Numbers of this node's own jobs.
    #[rpc]
    Count(RpcReplyPort<Wire<Tally>>),
}

/// What a worker may say beside asking for work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Word {
    /// It is there. If it names the jobs that it has, it has no others: those go back to their queues.
    Heartbeat(Option<BTreeSet<Uuid>>),
    /// How it is.
    Status(Status, Option<Load>),
}

/// A worker asks for a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Take {
    /// Who.
    pub worker: String,
    /// Seconds to wait for one.
    pub wait_s: u32,
    /// Seconds that it may be silent over it.
    pub lease_s: u32,
    /// The jobs that it has, if it says; it has no others then.
    pub has: Option<BTreeSet<Uuid>>,
}

impl Take {
    /// # Errors
    /// [`WorkerError::Invalid`], with the field at fault.
    pub fn check(&self) -> Result<(), WorkerError> {
        if self.wait_s > WAIT_S_MAX {
            return Err(WorkerError::invalid("wait_s", format!("must be at most {WAIT_S_MAX}")));
        }
        if !(LEASE_S_MIN..=LEASE_S_MAX).contains(&self.lease_s) {
            return Err(WorkerError::invalid("lease_s", format!("must be {LEASE_S_MIN} to {LEASE_S_MAX}")));
        }
        named(self.has.as_ref())
    }
}

impl Word {
    /// # Errors
    /// [`WorkerError::Invalid`], with the field at fault.
    pub fn check(&self) -> Result<(), WorkerError> {
        match self {
            Word::Heartbeat(has) => named(has.as_ref()),
            Word::Status(..) => Ok(()),
        }
    }
}

fn named(has: Option<&BTreeSet<Uuid>>) -> Result<(), WorkerError> {
    match has.is_some_and(|has| has.len() > NAMED_MAX) {
        true => Err(WorkerError::invalid("tasks", format!("must have at most {NAMED_MAX} items"))),
        false => Ok(()),
    }
}

/// A job to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewJob {
    /// What is to be done.
    pub work: Work,
    /// How urgent it is.
    pub priority: Priority,
    /// What it needs of its worker.
    pub needs: Needs,
}

impl NewJob {
    /// # Errors
    /// [`WorkerError::Invalid`], with the field at fault.
    pub fn check(&self) -> Result<(), WorkerError> {
        if self.work.bytes() > WORK_BYTES_MAX {
            return Err(WorkerError::invalid("task_data", format!("is over {} KiB", WORK_BYTES_MAX >> 10)));
        }
        words("requirements.capabilities", &self.needs.capabilities)?;
        self.needs.kind.as_ref().map_or(Ok(()), |kind| word("requirements.agent_type", kind))
    }
}

/// What came of a job, as its worker says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finish {
    /// Who says it.
    pub worker: String,
    /// Which job.
    pub job: Uuid,
    /// Which attempt, if it says: an earlier one of its own doesn't count then.
    pub attempt: Option<u32>,
    /// Whether it is done.
    pub ok: bool,
    /// What came of it, as JSON.
    pub result: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
}

impl Finish {
    /// # Errors
    /// [`WorkerError::Invalid`], with the field at fault.
    pub fn check(&self) -> Result<(), WorkerError> {
        if self.result.as_ref().is_some_and(|result| result.len() > RESULT_BYTES_MAX) {
            return Err(WorkerError::invalid("result", format!("is over {} KiB", RESULT_BYTES_MAX >> 10)));
        }
        if self.error.as_ref().is_some_and(|error| error.chars().count() > ERROR_CHARS_MAX) {
            return Err(WorkerError::invalid("error", format!("must have at most {ERROR_CHARS_MAX} characters")));
        }
        Ok(())
    }
}

/// A worker that waits at its home may have this job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Which.
    pub job: Uuid,
    /// For whom.
    pub worker: String,
    /// Seconds that it may be silent.
    pub lease_s: u32,
}

/// A worker does not have a job that was given to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Which.
    pub job: Uuid,
    /// Who.
    pub worker: String,
    /// Which attempt.
    pub attempt: u32,
    /// It was handed out, and the worker doesn't name it any more. Otherwise it never came to the worker, and the attempt
    /// doesn't count.
    pub handed: bool,
}

/// A job, and what it waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Its record.
    pub job: Job,
    /// What it waits for, in words.
    pub waits_for: Option<String>,
}

/// What one node knows of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Vitals {
    /// When it was last heard of, if this is its home.
    pub heard: Option<Heard>,
    /// What became of this node's jobs with it.
    pub record: Record,
}

/// A worker, with all that the swarm knows of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// What it said when it registered.
    pub worker: Worker,
    /// How it is.
    pub status: Status,
    /// When it was last heard of, in milliseconds since 1970; when it registered, if nobody knows better.
    pub heard_ms: u64,
    /// What it says of its load.
    pub load: Load,
    /// Jobs that it has.
    pub held: u32,
    /// What became of its jobs.
    pub record: Record,
    /// 0 to 1 ([`super::registry::health`]).
    pub health: f64,
}

/// What became of a node's own jobs since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Given to a worker, each time.
    pub assigned: u64,
    /// Done.
    pub completed: u64,
    /// Failed, as the worker says, or given up.
    pub failed: u64,
    /// Taken back from a worker.
    pub lost: u64,
    /// Those of both: taken back once too often.
    pub given_up: u64,
    /// Milliseconds between being submitted and being given to a worker, of all that were given for the first time.
    pub waited_ms: u64,
    /// How many those are.
    pub first: u64,
}

impl Tally {
    /// Both together.
    pub fn add(&mut self, other: Tally) {
        self.assigned += other.assigned;
        self.completed += other.completed;
        self.failed += other.failed;
        self.lost += other.lost;
        self.given_up += other.given_up;
        self.waited_ms += other.waited_ms;
        self.first += other.first;
    }
}

/// Numbers of the swarm's jobs and workers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Stats {
    /// How jobs are given.
    pub strategy: Strategy,
    /// Jobs that wait, by class; every class is there.
    pub queued: BTreeMap<Priority, u32>,
    /// What became of jobs, as far as nodes answered.
    pub tally: Tally,
    /// Weights of the workers that are not stale.
    pub weights: BTreeMap<String, u32>,
    /// Jobs that those have together.
    pub held: u32,
}

/// Why it was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// Nobody registered under this id. The document's own words.
    #[error("Agent not found")]
    NoSuchWorker(String),
    /// No job has this id.
    #[error("Task not found: {0}")]
    NoSuchJob(Uuid),
    /// A field is out of its bounds.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field's name.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The job waits again, is somebody else's, or has ended otherwise: nothing was changed.
    #[error("this task is not yours any more: {0}")]
    Lost(String),
    /// The job can't be had: it was given away, or has ended. Nothing was changed.
    #[error("the task is not to be had")]
    Taken,
    /// The queue is at its bound.
    #[error("the queue is full ({0} tasks wait): try again later")]
    QueueFull(usize),
    /// Too many workers have this node as their home, or wait at it.
    #[error("this node has {0} workers, which is its bound: register with another")]
    TooMany(usize),
    /// The record is being written, or the node has only just started.
    #[error("this is being decided about right now: ask again in a moment")]
    Busy,
    /// The node that decides does not answer.
    #[error("the node that decides about this does not answer: another takes over within seconds, try again then")]
    OwnerAway,
    /// Another node decides now.
    #[error("another node decides about this now: ask again, and it will be found there")]
    Moved,
    /// The record could not be written, or nobody has confirmed it.
    #[error("it could not be saved: {0}")]
    Store(String),
    /// The other node did not answer.
    #[error("{0}")]
    Link(#[from] skep_runtime::Error),
}

impl WorkerError {
    pub(super) fn invalid(field: &str, reason: String) -> WorkerError {
        WorkerError::Invalid { field: field.into(), reason }
    }
}

impl From<ledger::Error> for WorkerError {
    fn from(error: ledger::Error) -> WorkerError {
        WorkerError::Store(error.to_string())
    }
}

impl From<skep_runtime::store::Error> for WorkerError {
    fn from(error: skep_runtime::store::Error) -> WorkerError {
        WorkerError::Store(error.to_string())
    }
}
