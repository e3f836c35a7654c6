//! `/ws`: what happens, over a WebSocket. Who may open one is the guard's business.

use super::{
    seats::Seats,
    socket::{self, Listener},
};
use crate::{
    Problem, Reply,
    caller::Caller,
    limits::{SOCKET_BUFFER_BYTES, SOCKET_FRAME_BYTES_MAX, SOCKET_UNSENT_BYTES_MAX},
    room::Room,
    tag::Tag,
};
use futures::FutureExt;
use poem::{
    FromRequest, Request,
    http::{StatusCode, header},
    web::websocket::{BoxWebSocketUpgraded, WebSocket, WebSocketConfig},
};
use poem_openapi::OpenApi;
use skep_actors::Context;

/// The endpoint of the socket.
#[derive(Clone)]
pub struct Ws {
    context: Context,
    room: Room,
    seats: Seats,
}

impl Ws {
    pub(crate) fn new(context: Context, room: Room) -> Ws {
        Ws { context, room, seats: Seats::default() }
    }
}

#[OpenApi(tag = "Tag::Events")]
impl Ws {
    /// Listen over a WebSocket
    ///
    /// Text frames, each an object with a `type`, as `SwarmEvent` describes them; the first is `connected`. A text with a
    /// `cmd` is a command: `subscribe` and `unsubscribe` (with `events`, `threads`, `agents`, `payload_types`), `inject`
    /// (with `to`, `payload`, `thread_id`). Any other text is answered `ack`. The token comes in a header, or by a
    /// ticket that works once (`?ticket=`), and never in the URL; what a ticket opened may not `inject`, and what a
    /// browser opened ends with its session. Pings come each 30 s; whoever says nothing for 90 s, or is too
    /// slow for what happens (1013), is closed with a reason. 50 may listen, 10 of one address.
    #[oai(path = "/ws", method = "get", operation_id = "events_socket")]
    async fn open(&self, caller: Caller, request: &Request) -> Reply<BoxWebSocketUpgraded> {
        if !request.headers().contains_key(header::UPGRADE) {
            return Err(upgrade_required());
        }
        let upgrade = WebSocket::from_request_without_body(request).await.map_err(|_| upgrade_required())?;
        let address = request.remote_addr().as_socket_addr();
        let listener = Listener {
            caller,
            seat: self.seats.take(address.map(|address| address.ip()))?,
            subscription: self.context.events.subscribe(),
            closing: self.room.closing(),
            context: self.context.clone(),
        };
        let config = WebSocketConfig::default()
            .read_buffer_size(SOCKET_BUFFER_BYTES)
            .write_buffer_size(SOCKET_BUFFER_BYTES)
            .max_write_buffer_size(SOCKET_UNSENT_BYTES_MAX)
            .max_message_size(Some(SOCKET_FRAME_BYTES_MAX))
            .max_frame_size(Some(SOCKET_FRAME_BYTES_MAX));
        // The library's task ends at once; ours ends with the node.
        let tasks = self.context.tasks.clone();
        let serve = move |socket| {
            tasks.spawn(socket::serve(socket, listener));
            std::future::ready(()).boxed()
        };
        Ok(upgrade.config(config).on_upgrade(serve).boxed())
    }
}

fn upgrade_required() -> Problem {
    let text = "this is a WebSocket: open it with one's client, or follow /api/events";
    Problem::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", text)
}
