//! What happens in the swarm, told as it happens: over a WebSocket and as an event stream. One bus behind both.
//!
//! ```text
//! events.subscribe() -> filter -> shown -> socket (/ws: 003's frames, 001's commands) | stream (/api/events: SSE)
//! ```
//!
//! Whoever listens passed the guard like everyone else: a socket's token comes in a header, a browser's cookie counts only
//! with an `Origin` of ours, a ticket works once. A client that is too slow is dropped with a reason, and nobody waits for
//! it: its place in the bus holds no event, and its own task alone waits for its socket.

pub mod command;
pub mod filter;
pub mod shown;
pub mod socket;
pub mod stream;
pub mod tickets;
pub mod ws;

pub(crate) mod seats;
mod welcome;

use crate::{room::Room, session::Sessions};
use skep_actors::Context;

/// The resources of this area.
pub type Routes = (ws::Ws, stream::EventStreams, tickets::Tickets);

/// The resources of this area, in this node.
pub(crate) fn routes(context: &Context, sessions: &Sessions, room: &Room) -> Routes {
    (
        ws::Ws::new(context.clone(), room.clone()),
        stream::EventStreams::new(context.clone(), room.clone()),
        tickets::Tickets::new(sessions.clone()),
    )
}
