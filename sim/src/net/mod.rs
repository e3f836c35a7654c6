//! A LAN in memory: latency, jitter (hence reordering), loss, duplicates, bandwidth, MTU, cuts in one or both directions.
//!
//! It implements [`skep_transport::env::Net`], so QUIC above it is the real one. tokio's timers have a resolution of
//! one millisecond, so nothing arrives sooner; within a millisecond the order is that of sending.
//!
//! Not here: who is faulty, and when. Scenarios say so, by way of the world.

mod host;
mod link;
mod neighbourhood;
mod network;
mod socket;

pub use host::Host;
pub use link::Link;
pub use network::Network;
