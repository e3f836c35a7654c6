//! The whole of it for one node: the mesh, the roster, joining, membership and discovery, wired together.
//!
//! [`Transport`] is what a node's composition root starts, and the implementation of [`skep_runtime::Swarm`].
//!
//! ```text
//! discovery -> Seeker -> (join conversation) -> Ground::adopt -> roster
//! strangers -> Door   -> (join conversation) -> Ground::admit -> roster -> push to the members
//! mesh events, roster changes, load -> Driver -> membership::Core -> Members (the picture), datagrams
//! Driver -> exchange (rosters, greetings), cards -> back to the Driver
//! Driver -> doubt (members refuse this node) -> (why not? to a Door) -> roster
//! ```
//!
//! Invariant: [`driver`] alone writes the picture; [`ground`] alone changes the roster.

mod addresses;
mod config;
mod doctor;
mod door;
mod doubt;
mod driver;
mod exchange;
mod face;
mod ground;
mod seek;
mod transport;
mod visit;

pub use config::{StartError, TransportConfig};
pub use transport::Transport;
