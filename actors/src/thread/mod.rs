//! ThreadActor: what is said to the swarm's agents, thread by thread, and that each message is answered.
//!
//! ```text
//! Post -> core: message + turn -> the ledger: acknowledged on another member
//! owner: core.tick -> a turn waits, its agent is ready -> AgentsActor Start (a run with a seat), wherever there is room
//! the run -> Moved, step by step -> core: the turn's record -> its end: the answer is the next message
//! the run's node is gone -> the turn waits again, with the steps that were done
//! the owner is gone -> the first in the thread's order -> owner: me, later term -> the same, from the records
//! ```
//!
//! One record is behind every documented view: 001's threads, 003's sessions, 004's chat sessions. A thread has one owner,
//! which decides about its turns and keeps its budget; whoever is asked passes it on. Messages and turns are in the ledger.
//!
//! `core` decides and does no I/O; `desk` reads and writes. Taking over is without a majority ([`crate::ownership::Wards`]):
//! while a swarm is cut in two, both halves may answer a message, each by a run of its own.
//!
//! Not here: thinking (`agent`), who the agents are (`organism`), counting tokens (`budget`).

mod actor;
mod ask;
mod core;
mod desk;
mod keep;
pub mod messages;
mod news;
mod records;
mod start;
#[cfg(test)]
mod tests;
mod warn;
mod work;

pub use actor::start;
pub(crate) use keep::keeper;
pub use messages::{
    Grade, Message, NewThread, Note, Order, Origin, Page, Post, Posted, Role, Said, State, Status, Thread, ThreadError,
    Turn, Wanted,
};
pub(crate) use work::open_goals;

/// The published name of a node's ThreadActor.
pub const NAME: &str = "threads";
