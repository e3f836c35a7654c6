//! The bare mesh: membership alone, without QUIC, actors or tokio, so that hundreds of nodes and whole days fit into
//! minutes.
//!
//! The cores are production's own ([`skep_transport::membership::Core`]); around them are an event queue, a [`Link`]
//! and machines that may be slow or stand still. Not here: a connection's loss as evidence (there are no connections),
//! and everything that whole nodes do ([`crate::world`]).
//!
//! ```text
//! Mesh: queue of events -> Lands -> the machine runs now? its core : its inbox
//!                       -> Wakes -> Pace: now or later -> Tick, then what the inbox holds
//! ```
//!
//! Invariant: one seed, one story; the digest of all datagrams says so.
//!
//! [`Link`]: crate::net::Link

mod mesh;
mod sight;

pub use mesh::Mesh;
