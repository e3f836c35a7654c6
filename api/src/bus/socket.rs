//! One client of `/ws`: events go out, commands come in, until one of both has had enough.
//!
//! Its own task alone waits for it. What it doesn't take in time is an end: with a close frame that says why as long as it
//! reads at all, with a broken connection when it doesn't.

use super::{
    command::{self, Inject},
    filter::Filter,
    seats::Seat,
    shown::Shown,
    welcome::welcome,
};
use crate::limits::{CLOSE_TIMEOUT, PING_PERIOD, SEND_TIMEOUT, SILENCE_TIMEOUT};
use futures::{Sink, SinkExt, Stream, StreamExt};
use poem::web::websocket::{CloseCode, Message};
use serde_json::json;
use skep_actors::{
    Context,
    event::{Heard, Subscription},
};
use std::io;
use tokio::time::{Instant, interval_at, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// Who listens on a socket.
pub(crate) struct Listener {
    /// The node.
    pub context: Context,
    /// Its place in the bus, taken before it was answered.
    pub subscription: Subscription,
    /// Cancelled when the server stops.
    pub closing: CancellationToken,
    /// Given back when it has gone.
    pub seat: Seat,
}

/// Why a conversation ended.
#[derive(Debug, PartialEq)]
enum End {
    /// The client went away.
    Gone,
    /// It doesn't read, so it can't be told either.
    Stuck,
    /// It is told this.
    Told(CloseCode, String),
}

/// Serves a client to its end.
pub(crate) async fn serve<S>(mut socket: S, mut listener: Listener)
where
    S: Stream<Item = io::Result<Message>> + Sink<Message, Error = io::Error> + Send + Unpin,
{
    let end = converse(&mut socket, &mut listener).await;
    tracing::debug!(?end, "a listener has gone");
    let close = match &end {
        // It closed: the answer to that is on its way, and goes out with the next read.
        End::Gone => None,
        End::Stuck => {
            dropped(&listener.context, "it doesn't read");
            return;
        }
        End::Told(code, reason) => {
            if *code == CloseCode::Again {
                dropped(&listener.context, reason);
            }
            Some(Message::close_with(*code, reason.clone()))
        }
    };
    let parting = async {
        if let Some(close) = close {
            socket.send(close).await?;
        }
        // What is still on its way from there is thrown away; closing on it would take our last word with it.
        while let Some(said) = socket.next().await {
            said?;
        }
        io::Result::Ok(())
    };
    let parted = timeout(CLOSE_TIMEOUT, parting).await;
    tracing::trace!(?parted, seat = ?listener.seat, "its connection is closed");
}

/// Counts and names a client that was too slow.
pub(super) fn dropped(context: &Context, why: &str) {
    tracing::info!(why, "a client that listens to events is dropped");
    context.metrics.counter("listeners_dropped", "clients of the event bus that were too slow").inc();
}

async fn converse<S>(socket: &mut S, listener: &mut Listener) -> End
where
    S: Stream<Item = io::Result<Message>> + Sink<Message, Error = io::Error> + Send + Unpin,
{
    let Listener { context, subscription, closing, .. } = listener;
    let mut filter = Filter::default();
    if let Err(end) = send(socket, Message::text(welcome(context).await.text())).await {
        return end;
    }
    let start = Instant::now();
    let (mut pings, mut heard) = (interval_at(start + PING_PERIOD, PING_PERIOD), start);
    loop {
        let frame = tokio::select! {
            () = closing.cancelled() => return End::Told(CloseCode::Away, "this node stops".into()),
            () = sleep_until(heard + SILENCE_TIMEOUT) => {
                let seconds = SILENCE_TIMEOUT.as_secs();
                return End::Told(CloseCode::Policy, format!("nothing came for {seconds} s, not even an answer to a ping"));
            }
            _ = pings.tick() => Message::ping([]),
            event = subscription.next() => match event {
                Heard::Event(event) => {
                    let shown = Shown::from(&*event);
                    if !filter.wants(shown.name, &shown.fields) {
                        continue;
                    }
                    Message::text(shown.text())
                }
                Heard::Missed(count) => return End::Told(CloseCode::Again, too_slow(count)),
            },
            said = socket.next() => {
                heard = Instant::now();
                match said {
                    Some(Ok(Message::Text(text))) => {
                        let answer = match command::obey(command::read(&text), &mut filter) {
                            Ok(answer) => answer,
                            Err(message) => inject(context, message).await,
                        };
                        Message::text(answer.text())
                    }
                    Some(Ok(Message::Binary(_))) => {
                        return End::Told(CloseCode::Unsupported, "only text is understood here".into());
                    }
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                    Some(Err(error)) if error.kind() == io::ErrorKind::Other => return broken(&error),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return End::Gone,
                }
            }
        };
        if let Err(end) = send(socket, frame).await {
            return end;
        }
    }
}

/// What a client that was too slow is told.
pub(super) fn too_slow(count: u64) -> String {
    format!("too slow: {count} events were missed; connect again")
}

/// Hands a message to an agent. No agent of a node takes messages yet: those who do are to be asked here, and answer with
/// the message's and the thread's id.
async fn inject(_: &Context, message: Inject) -> Shown {
    let to: String = message.to.chars().take(100).collect();
    Shown::frame("error", json!({ "detail": format!("Unknown target agent: {to}") }))
}

/// What a frame that is none, or too large, comes to.
fn broken(error: &io::Error) -> End {
    match error.to_string() {
        text if text.contains("too long") || text.contains("too big") => {
            End::Told(CloseCode::Size, "a frame has 64 KiB at most".into())
        }
        _ => End::Told(CloseCode::Protocol, "that is no WebSocket frame".into()),
    }
}

async fn send<S>(socket: &mut S, message: Message) -> Result<(), End>
where
    S: Sink<Message, Error = io::Error> + Send + Unpin,
{
    match timeout(SEND_TIMEOUT, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Gone),
        Err(_) => Err(End::Stuck),
    }
}
