//! CronActor: commands that run at times. Each node has one and all know all jobs; one of them owns a job and fires it.
//!
//! ```text
//! Add -> schedule (does it make sense?) -> ledger: definition, progress { owner: me } -> acknowledged on another member
//! owner: core.tick -> Due -> SchedulerActor Submit, key "cron JOB MOMENT" -> Running -> its record's end -> progress
//! heir:  owner gone for 2 s -> first in the job's order -> progress { owner: me, later term } -> goes on where it stood
//! ```
//!
//! `schedule` and `core` decide and do no I/O; `desk` reads and writes the ledger and asks the scheduler. Taking over is the
//! commands' own way ([`crate::wards`]): without a majority. While a swarm is cut in two, both halves may fire a job; each
//! moment is one task under one key, of which one record remains, and which may have run twice by then.
//!
//! Not here: running anything (`scheduler`), goals of agents: a job's command may be `skep agent GOAL`.

mod actor;
pub mod core;
mod desk;
pub mod messages;
pub mod schedule;
#[cfg(test)]
mod tests;

pub use actor::start;
pub use desk::{JOBS_MAX, needed};
pub use messages::{CronError, Job, JobRun, Message, NewJob, Run, RunState, Wanted};
pub use schedule::Kind;

/// The published name of a node's CronActor.
pub const NAME: &str = "cron";
