//! AuditActor: an append-only log on each node of what its agents wanted, who decided about it, and what was done.
//!
//! ```text
//! approval, agent --Append--> log -> core (number, hash of the entry before) -> disk, in groups -> acknowledged
//!                               `-> head (number, hash), signed -> ledger -> every member remembers the last that it has seen
//! verify: the log's rows in order -> chain (each follows the one before) -> is what others have seen in it?
//! ```
//!
//! `entry`, `chain` and `core` decide and do no I/O. Whoever changes, takes out or puts in an entry breaks the chain; whoever
//! rewrites the rest, too, or cuts its end off, is found by the heads that other members have seen. The log is bounded: the
//! oldest entries go, and an entry says so.
//!
//! Not here: what is judged and by whom (`approval`). What an owner does without an agent (commands, drains) is not in it.

mod actor;
pub mod chain;
pub mod core;
pub mod entry;
mod log;
mod messages;
#[cfg(test)]
mod tests;
mod told;

pub use actor::start;
pub use chain::Fault;
pub use entry::{Entry, Head, Outcome, Verdict, What, Who};
pub use messages::{AuditError, Message, Report, Verified};

/// The published name of a node's AuditActor.
pub const NAME: &str = "audit";
