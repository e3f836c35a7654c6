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
use crate::{
    caller::{By, Caller},
    limits::{CLOSE_TIMEOUT, PING_PERIOD, SEND_TIMEOUT, SILENCE_TIMEOUT},
    threads,
};
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
    /// Who opened it: it may no more, and lasts no longer.
    pub caller: Caller,
    /// The node.
    pub context: Context,
    /// Its place in the bus, taken before it was answered.
    pub subscription: Subscription,
    /// Cancelled when the server stops.
    pub closing: CancellationToken,
    /// Given back when it has gone.
    pub seat: Seat,
}

/// What is answered to an `inject` on a socket that a ticket opened: a ticket goes in a URL, which logs keep.
const LISTENS: &str = "what a ticket opened only listens: send the token in a header, or POST /api/v1/inject";

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
    let Listener { caller, context, subscription, closing, .. } = listener;
    let caller = *caller;
    let mut filter = Filter::default();
    if let Err(end) = send(socket, Message::text(welcome(context).await.text())).await {
        return end;
    }
    let start = Instant::now();
    let (mut pings, mut heard) = (interval_at(start + PING_PERIOD, PING_PERIOD), start);
    loop {
        let frame = tokio::select! {
            () = closing.cancelled() => return End::Told(CloseCode::Away, "this node stops".into()),
            () = caller.ended() => return End::Told(CloseCode::Policy, "the browser's session has ended".into()),
            () = sleep_until(heard + SILENCE_TIMEOUT) => {
                let seconds = SILENCE_TIMEOUT.as_secs();
                return End::Told(CloseCode::Policy, format!("nothing came for {seconds} s, not even an answer to a ping"));
            }
            _ = pings.tick() => Message::Ping(Vec::new()),
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
                            Err(_) if caller.by == By::Ticket => Shown::frame("error", json!({ "detail": LISTENS })),
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

/// Hands a message to an agent: it answers with the message's and the thread's id, and the answer is told as any message.
async fn inject(context: &Context, message: Inject) -> Shown {
    let Inject { to, payload, kind, thread_id } = message;
    match threads::messages::inject(context, to, payload, kind, thread_id, None).await {
        Ok(posted) => Shown::frame(
            "injected",
            json!({ "threadId": posted.thread, "messageId": posted.message, "turnId": posted.turn }),
        ),
        Err(problem) => Shown::frame("error", json!({ "detail": problem.detail() })),
    }
}

/// What a frame that is none, or too large, comes to.
fn broken(error: &io::Error) -> End {
    match error.to_string() {
        // A process that was killed, a machine that is gone.
        text if text.contains("without closing handshake") => End::Gone,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::seats::Seats;
    use futures::channel::mpsc;
    use skep_actors::{
        event::{What, bus::EVENTS_MAX, what::Failure},
        testing::Swarm,
    };
    use std::{
        pin::Pin,
        task::{Context as Task, Poll},
    };
    use tokio::time::advance;

    /// A client at the other end of two channels.
    struct Client {
        says: mpsc::UnboundedSender<io::Result<Message>>,
        hears: mpsc::Receiver<Message>,
        context: Context,
        closing: CancellationToken,
        seats: Seats,
        _swarm: Swarm,
    }

    struct Socket(mpsc::UnboundedReceiver<io::Result<Message>>, mpsc::Sender<Message>);

    impl Stream for Socket {
        type Item = io::Result<Message>;
        fn poll_next(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<Option<Self::Item>> {
            self.0.poll_next_unpin(cx)
        }
    }

    impl Sink<Message> for Socket {
        type Error = io::Error;
        fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<io::Result<()>> {
            self.1.poll_ready_unpin(cx).map_err(io::Error::other)
        }
        fn start_send(mut self: Pin<&mut Self>, item: Message) -> io::Result<()> {
            self.1.start_send_unpin(item).map_err(io::Error::other)
        }
        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<io::Result<()>> {
            self.1.poll_flush_unpin(cx).map_err(io::Error::other)
        }
        fn poll_close(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<io::Result<()>> {
            self.1.poll_close_unpin(cx).map_err(io::Error::other)
        }
    }

    impl Client {
        /// A client that was let in; it takes no frame that it doesn't read, but for one.
        async fn new() -> Client {
            Client::of(Caller::OWNER).await
        }

        async fn of(caller: Caller) -> Client {
            let swarm = Swarm::new(1).await;
            let (says, said) = mpsc::unbounded();
            let (tell, hears) = mpsc::channel(0);
            let (context, closing, seats) = (swarm.context(0).clone(), CancellationToken::new(), Seats::default());
            let listener = Listener {
                caller,
                context: context.clone(),
                subscription: context.events.subscribe(),
                closing: closing.clone(),
                seat: seats.take(None).unwrap(),
            };
            context.tasks.spawn(serve(Socket(said, tell), listener));
            Client { says, hears, context, closing, seats, _swarm: swarm }
        }

        fn publish(&self, text: &str) {
            self.context.events.publish(|| What::Error(Failure { detail: text.into() }));
        }

        async fn hear(&mut self) -> Message {
            timeout(SILENCE_TIMEOUT * 2, self.hears.next()).await.expect("a frame comes").expect("it goes on")
        }

        /// The next frame's kind.
        async fn kind(&mut self) -> String {
            match self.hear().await {
                Message::Text(text) => {
                    serde_json::from_str::<serde_json::Value>(&text).unwrap()["type"].as_str().unwrap().to_owned()
                }
                other => format!("{other:?}"),
            }
        }

        async fn close(&mut self) -> (CloseCode, String) {
            loop {
                if let Message::Close(Some(why)) = self.hear().await {
                    return why;
                }
            }
        }

        /// Waits until it is no longer served.
        async fn left(&mut self) {
            while self.hears.next().await.is_some() {}
            assert!(format!("{:?}", self.seats).contains("{}"), "its seat is free");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_told_what_it_asked_for() {
        let mut client = Client::new().await;
        assert_eq!(client.kind().await, "connected");
        client.publish("a");
        assert_eq!(client.kind().await, "error");
        client.says.unbounded_send(Ok(Message::text("hello"))).unwrap();
        assert_eq!(client.kind().await, "ack");
        client.says.unbounded_send(Ok(Message::text(r#"{"cmd":"subscribe","events":["message"]}"#))).unwrap();
        assert_eq!(client.kind().await, "subscribed");
        client.publish("not wanted");
        client.says.unbounded_send(Ok(Message::text("hello"))).unwrap();
        assert_eq!(client.kind().await, "ack", "what it doesn't want it is not told");
        client.says.close_channel();
        client.left().await;
    }

    /// A10: a ticket of a signed-in browser, which would start turns and go on when the browser is signed out.
    #[tokio::test(start_paused = true)]
    async fn a10_a_tickets_socket_only_listens_and_ends_with_the_session_behind_it() {
        let until = Instant::now() + SILENCE_TIMEOUT / 2;
        let mut client = Client::of(Caller { by: By::Ticket, until: Some(until) }).await;
        assert_eq!(client.kind().await, "connected");
        client.says.unbounded_send(Ok(Message::text(r#"{"cmd":"inject","to":"main","payload":{}}"#))).unwrap();
        let Message::Text(refused) = client.hear().await else { panic!("a frame") };
        assert!(refused.contains(LISTENS), "{refused}");
        assert_eq!(client.close().await, (CloseCode::Policy, "the browser's session has ended".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_falls_behind_is_told_how_far() {
        let mut client = Client::new().await;
        assert_eq!(client.kind().await, "connected");
        for _ in 0..EVENTS_MAX + 3 {
            client.publish("a");
        }
        assert_eq!(client.close().await, (CloseCode::Again, too_slow(3)));
        client.says.close_channel();
        client.left().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_doesn_t_read_is_given_up_and_nobody_waits() {
        let mut client = Client::new().await;
        assert_eq!(client.kind().await, "connected");
        for _ in 0..10 {
            client.publish("a");
        }
        // Long before it would be missed for its silence.
        advance(SEND_TIMEOUT / 2).await;
        for _ in 0..3 {
            tokio::time::sleep(SEND_TIMEOUT).await;
        }
        assert!(format!("{:?}", client.seats).contains("{}"), "its seat is free");
        client.left().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_nothing_is_pinged_and_then_told_goodbye() {
        let mut client = Client::new().await;
        assert_eq!(client.kind().await, "connected");
        let start = Instant::now();
        assert_eq!(client.hear().await, Message::Ping(Vec::new()));
        assert_eq!(start.elapsed().as_secs(), PING_PERIOD.as_secs());
        client.says.unbounded_send(Ok(Message::Pong(Vec::new()))).unwrap();
        let (code, why) = client.close().await;
        assert!(code == CloseCode::Policy && why.contains("90 s"), "{why}");
        assert_eq!(start.elapsed().as_secs(), (PING_PERIOD + SILENCE_TIMEOUT).as_secs(), "a pong is a sign of life");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_understood_is_an_end_with_a_reason() {
        let long = || Err(io::Error::other("Space limit exceeded: Message too long: 65537 > 65536"));
        let odd = || Err(io::Error::other("WebSocket protocol error: Reserved bits are non-zero"));
        for (said, code) in [
            (Ok(Message::Binary(vec![1])), CloseCode::Unsupported),
            (long(), CloseCode::Size),
            (odd(), CloseCode::Protocol),
        ] {
            let mut client = Client::new().await;
            assert_eq!(client.kind().await, "connected");
            client.says.unbounded_send(said).unwrap();
            assert_eq!(client.close().await.0, code);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_stops_says_so() {
        let mut client = Client::new().await;
        assert_eq!(client.kind().await, "connected");
        client.closing.cancel();
        assert_eq!(client.close().await, (CloseCode::Away, "this node stops".into()));
        client.left().await;
    }

    #[test]
    fn what_a_client_is_told_at_the_end_fits_a_close_frame() {
        assert!(too_slow(u64::MAX).len() <= 123);
    }
}
