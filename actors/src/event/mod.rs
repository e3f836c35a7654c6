//! The bus: what happened in the swarm, told once to whoever listens. Nothing is kept: how things stand is asked elsewhere.
//!
//! ```text
//! any actor here -> Events::publish -> ring -> Subscription -> api: a WebSocket, an event stream
//!                                       ^  \-> EventsActor -> bulk stream -> another node's EventsActor -> its ring
//!                                       |
//!                 membership -> sight --+   each node sees the members for itself: that is told to its own clients alone
//! ```
//!
//! To publish is one line, never waits, and costs nothing while nobody listens:
//! `context.events.publish(|| What::AgentState(AgentState { .. }))`. A new kind of event is a line in `what`.
//!
//! The ring has a bound. A reader that is too slow for it is told how much it missed, and nobody waits for it. While a
//! client of a node listens, that node holds a stream from every other member that is up; without listeners there are
//! none. Lost is what other nodes tell before their stream is open ([`Events::reach`] waits for that) and while a link is
//! down, after which `missed` is told.
//!
//! Not here: who may listen, and the form in which they are told (`api`).

mod actor;
pub mod bus;
mod follow;
pub mod messages;
mod sight;
#[cfg(test)]
mod tests;
mod text;
pub mod what;

pub use actor::start;
pub use bus::{Events, Heard, Subscription};
pub use messages::Message;
pub use text::{TEXT_BYTES_MAX, Text};
pub use what::{Event, What};

/// The published name of a node's EventsActor.
pub const NAME: &str = "events";
