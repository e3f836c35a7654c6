//! NodeActor: this machine. Identity, hardware, load, health, drain; and the door through which the owner
//! reaches membership (invite, approve, evict).
//!
//! ```text
//! hardware, probe (a child process) -> card -> swarm.announce -> other nodes' Members
//! load (each second) -> gauges, swarm.report ------------------> other nodes' Members
//! ```
//!
//! What other nodes may send it is listed where it is spawned; invitations and evictions are for this node's owner.

mod actor;
pub mod card;
mod hardware;
mod health;
pub mod labels;
mod load;
pub mod lookup;
pub mod messages;
pub mod probe;

pub use actor::start;
pub(crate) use hardware::memory_bytes;
pub use messages::{Card, Gpu, Health, Message, NodeError, Status, Summary, Verdict};

/// The published name of a node's NodeActor.
pub const NAME: &str = "node";
