//! SchedulerActor: commands placed on nodes by capacity and preference. Each node has one and they are equals:
//! the one that a command was given to keeps its record and picks the node that runs it.
//!
//! ```text
//!            owner's node                                     the node that runs it
//! Submit -> spec -> journal (Pending) -> core -> Run -------> runs (room?) -> journal -> TaskActor
//!   Follow <- follow <------------------------- Tap --------- output
//!   record <- journal <- core <---------------- Moved <------ runs <- journal <- ending
//! ```
//!
//! `core`, `queue`, `aside`, `given`, `gangs`, `demand`, `wish`, `course`, `placement`, `breaker` and `runs` decide and do no I/O; `desk` holds them and executes what they say; `owner`, `after`, `runner`, `news` and `heir` are its parts.
//! Records lie in the [ledger](crate::ledger): when an owner
//! dies, the next node in a command's order takes it over. A command runs at least once: after a failure it may run
//! twice.
//!
//! Any roster member may have a command run here: to be on the roster is to be trusted with commands.

mod actor;
mod after;
pub mod aside;
pub mod breaker;
pub mod core;
pub mod course;
pub mod demand;
mod desk;
pub mod files;
mod fleet;
mod follow;
pub mod gangs;
pub mod given;
mod heir;
mod journal;
pub mod messages;
mod news;
mod owner;
pub mod placement;
pub mod queue;
mod runner;
pub mod runs;
pub mod spec;
pub mod wish;

pub use actor::start;
pub use course::{Course, Gang, Part};
pub use demand::{Condition, Demand};
pub use files::{Artefact, Files, Input};
pub use journal::told;
pub use messages::{Message, Record, ScheduleError, Spec, State, Stats};
pub use wish::{Strategy, Wish};

/// The published name of a node's SchedulerActor.
pub const NAME: &str = "scheduler";
