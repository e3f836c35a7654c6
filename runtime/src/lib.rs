//! The bottom of the house: the vocabulary that every other crate speaks, and the actor kernel.
//!
//! An actor is reached by a [`Handle`], wherever it lives; a node's [`Directory`] knows the actors that live
//! here and hands everything else to the [`Carrier`]. What a node takes from outside comes in [`Env`] and
//! `store::Store`.
//!
//! Not here: sockets, HTTP, or anything of the domain. `transport` implements [`Carrier`] and [`Swarm`].
//!
//! ```text
//! Handle::ask(message) -> Directory (here? deliver : route) -> Carrier ~~~ link ~~~ Directory::accept
//!        <- reply      <- correlate, deadline               <- Carrier ~~~ link ~~~ Arrived::reply
//! ```

pub mod bulk;
pub mod carrier;
pub mod defaults;
pub mod directory;
pub mod env;
pub mod error;
pub mod frames;
pub mod gate;
pub mod handle;
pub mod id;
pub mod member;
pub mod metrics;
pub mod pace;
pub mod store;
pub mod supervise;
pub mod swarm;
pub mod tasks;
pub mod trace;
pub mod wire;

pub use bulk::{Stream, Ticket};
pub use carrier::{Carrier, Envelope};
pub use directory::{Directory, Reach};
pub use env::Env;
pub use error::Error;
pub use handle::Handle;
pub use id::NodeId;
pub use member::{Load, Member, Members};
pub use metrics::Metrics;
pub use swarm::Swarm;
pub use tasks::Tasks;
pub use wire::Wire;
