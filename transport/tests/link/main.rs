//! Two or three nodes in one process, over real QUIC on loopback, and links alone over pipes in paused time.
//!
//! `node` is what the tests stand on; the others are one behaviour each. The door's inside (strangers, the join
//! protocol's one stream) is tested beside it, in `src/mesh/door.rs`.

#![expect(clippy::unwrap_used, reason = "a test that meets a surprise ends there")]

mod actors;
mod bulk;
mod calls;
mod connections;
mod credits;
mod node;
mod ties;
