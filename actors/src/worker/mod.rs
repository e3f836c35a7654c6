//! WorkerActor: work for programs outside of the swarm, which ask for it over HTTP. Each node has one and they are equals:
//! a job is decided about by the node that it was given to, a worker is known best by the node that it registered with.
//!
//! ```text
//!            any node                    the worker's home                    the job's owner
//! Submit --> write the job: it waits, and every node's picture of the queues shows it (the ledger's feed)
//! Take ----> (forwarded) ------------->  wait; the first job that suits -----> Claim: the first to ask has it
//!                                        <- the job, with a lease <----------- written as assigned
//! Heartbeat  (forwarded) ------------->  heard; ------------------------------> Renew: the lease begins anew
//! Finish --> -----------------------------------------------------------------> written as ended, confirmed, answered
//! ```
//!
//! `core`, `queue`, `registry` and `strategy` decide and do no I/O; `desk` holds them and executes what they say.
//! Jobs and workers lie in the [ledger](crate::ledger): when an owner dies, the next node in a job's order takes it over
//! ([`crate::ownership`]). A job runs at least once; `docs/decisions/0007` says where it may run twice.
//!
//! Not here: commands, which the swarm runs itself ([`crate::scheduler`]). Workers run what they like.

mod actor;
pub mod core;
mod desk;
mod heir;
mod home;
pub mod job;
pub mod messages;
mod owner;
pub mod queue;
pub mod registry;
pub mod strategy;

#[cfg(test)]
mod tests;

pub use actor::start;
pub use job::{Job, Needs, Slip, State, Work};
pub use messages::{Finish, Found, Message, NewJob, Profile, Stats, Take, Tally, Word, WorkerError};
pub use registry::{Filter, Load, NewWorker, Status, Worker};
pub use strategy::Strategy;

/// The published name of a node's WorkerActor.
pub const NAME: &str = "workers";
