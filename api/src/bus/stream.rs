//! `/api/events`: what happens, as an event stream.

use super::{
    filter::Filter,
    seats::Seats,
    shown::Shown,
    socket::{dropped, too_slow},
    welcome::welcome,
};
use crate::{
    Problem, Reply,
    caller::Caller,
    events::{Events, events},
    limits::{LISTENER_FRAMES_MAX, SEND_TIMEOUT},
    room::Room,
    tag::Tag,
};
use futures::stream;
use poem::Request;
use poem_openapi::{OpenApi, param::Query};
use serde_json::json;
use skep_actors::{
    Context,
    event::{Heard, Subscription, What},
};
use tokio::{sync::mpsc, time::timeout};

/// The endpoint of the stream.
#[derive(Clone)]
pub struct EventStreams {
    context: Context,
    room: Room,
    seats: Seats,
}

impl EventStreams {
    pub(crate) fn new(context: Context, room: Room) -> EventStreams {
        EventStreams { context, room, seats: Seats::default() }
    }
}

#[OpenApi(tag = "Tag::Events")]
impl EventStreams {
    /// Listen to an event stream
    ///
    /// Each event has its name and its fields as JSON; the first is `connected`. A client that is too slow for what
    /// happens is told `dropped`, with the reason, and nothing follows. 50 may listen, 10 of one address.
    #[oai(path = "/api/events", method = "get", operation_id = "events_follow")]
    async fn follow(
        &self,
        caller: Caller,
        request: &Request,
        /// Names of events with commas between them; all if absent
        #[oai(validator(max_length = 4096))]
        types: Query<Option<String>>,
    ) -> Reply<Events<Shown>> {
        let filter = Filter::of(names(types.0.as_deref().unwrap_or_default())?);
        let address = request.remote_addr().as_socket_addr().copied();
        let seat = self.seats.take(address.map(|address| address.ip()))?;
        let (frames, unread) = mpsc::channel(LISTENER_FRAMES_MAX);
        let (context, room, subscription) = (self.context.clone(), self.room.clone(), self.context.events.subscribe());
        self.context.tasks.spawn(async move {
            let tell = tell(&context, &room, filter, subscription, &frames);
            let stuck = tokio::select! {
                stuck = tell => stuck,
                () = frames.closed() => false,
                // Its session's end is its own: the browser is told 401 when it comes again.
                () = caller.ended() => false,
            };
            if stuck {
                dropped(&context, "it doesn't read");
                // What it doesn't read can't tell it; the connection would stay for ever.
                address.inspect(|address| room.cut(address));
            }
            drop(seat);
        });
        let shown = stream::unfold(unread, |mut unread| async move { Some((unread.recv().await?, unread)) });
        Ok(events(shown, |shown| shown.name))
    }
}

/// Tells a client what happens until the server stops or it is too slow. `true`: it doesn't read at all.
async fn tell(
    context: &Context,
    room: &Room,
    filter: Filter,
    mut subscription: Subscription,
    frames: &mpsc::Sender<Shown>,
) -> bool {
    let closing = room.closing();
    let mut next = welcome(context).await;
    loop {
        match timeout(SEND_TIMEOUT, frames.send(next)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return false,
            Err(_) => return true,
        }
        let last = loop {
            let heard = tokio::select! {
                heard = subscription.next() => heard,
                () = closing.cancelled() => break Shown::frame("dropped", json!({ "detail": "this node stops" })),
            };
            match heard {
                Heard::Event(event) => {
                    let shown = Shown::from(&*event);
                    if filter.wants(shown.name, &shown.fields) {
                        break shown;
                    }
                }
                Heard::Missed(count) => {
                    let detail = too_slow(count);
                    dropped(context, &detail);
                    break Shown::frame("dropped", json!({ "detail": detail, "missed": count }));
                }
            }
        };
        if last.name == "dropped" {
            return timeout(SEND_TIMEOUT, frames.send(last)).await.is_err();
        }
        next = last;
    }
}

/// The names in a list; one that no event has is a mistake, and would be waited for in vain.
fn names(types: &str) -> Result<Vec<String>, Problem> {
    let names: Vec<String> =
        types.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    match names.iter().find(|name| !What::NAMES.contains(&name.as_str())) {
        Some(unknown) => {
            let known = What::NAMES.join(", ");
            Err(Problem::invalid("types", format!("there is no event {unknown}; there are {known}")))
        }
        None => Ok(names),
    }
}
