//! Deterministic simulation of whole nodes: the same transport, roster, membership, supervisor and actors as
//! production, under one paused tokio runtime, on a network and disks that are drawn from one `u64`.
//!
//! A failure that a seed found once it finds always, byte for byte. Not here: what a node does. This crate builds
//! nodes, breaks what is around them, and looks.
//!
//! ```text
//! run (one seed, one process) -> scenario -> world: start, join, crash, restart, stop, leave, evict
//!                                               |-> node   -> transport::Env { net, quic, crypto, base }
//!                                               |-> net    -> latency, loss, duplicates, cuts -> trace
//!                                               `-> Medium: the disk, which outlives the node
//!                                 property: what has to hold, each in a sentence beside its check
//! ```
//!
//! Invariant: one thread, no real clock, no randomness but the seed's; the one `unsafe` stands in [`entropy`].

pub mod alarm;
pub mod bare;
pub mod campaign;
pub mod clock;
pub mod crypto;
pub mod entropy;
pub mod log;
pub mod measure;
pub mod net;
pub mod node;
pub mod pace;
pub mod property;
pub mod run;
pub mod scenario;
pub mod timeline;
pub mod trace;
pub mod turns;
pub mod world;

pub use run::{Outcome, Play, run};
pub use world::World;
