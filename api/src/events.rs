//! Frames of an actor's bulk stream, on their way to an event stream.
//!
//! ```text
//! await_from(node) -> ticket in an ordinary question -> the actor opens the stream -> frames
//! ```

use crate::limits::KEEP_ALIVE;
use futures::{
    Stream,
    stream::{self, BoxStream, StreamExt},
};
use poem::web::sse::Event;
use poem_openapi::{
    payload::EventStream,
    types::{ToJSON, Type},
};
use serde::de::DeserializeOwned;
use skep_actors::{
    Context,
    runtime::{Error, NodeId, Ticket, bulk::Expected, frames},
};

/// A stream that an actor was, or is about to be, asked to open.
pub(crate) struct Awaited {
    /// Who expects it: goes into the question.
    pub(crate) me: NodeId,
    /// What to open it with: goes into the question.
    pub(crate) ticket: Ticket,
    expected: Expected,
}

/// Promises a stream that an actor on `node` may open.
pub(crate) fn await_from(context: &Context, node: NodeId) -> Result<Awaited, Error> {
    let expected = context.directory.expect(node, context.env.ticket())?;
    Ok(Awaited { me: context.directory.id(), ticket: expected.ticket(), expected })
}

/// The frames of an actor's stream; it ends after an error.
pub(crate) type Frames<F> = BoxStream<'static, Result<F, Error>>;

impl Awaited {
    /// The stream itself, once the other side has opened it.
    pub(crate) async fn opened(self) -> Result<skep_actors::runtime::Stream, Error> {
        self.expected.opened().await
    }

    /// Its frames, from when the other side has opened it. Dropping them tells the other side to stop.
    pub(crate) async fn frames<F: DeserializeOwned + Send + 'static>(self) -> Result<Frames<F>, Error> {
        let stream = self.expected.opened().await?;
        // The writing half is held with the reading one: dropping it would say that nobody listens.
        let next = |mut stream: skep_actors::runtime::Stream| async move {
            let frame = frames::read(&mut stream.reader).await?;
            Ok(frame.map(|frame| (frame, stream)))
        };
        Ok(stream::try_unfold(stream, next).boxed())
    }
}

/// An event stream of `T`.
pub(crate) type Events<T> = EventStream<BoxStream<'static, T>>;

/// An event stream whose events are named by `name`.
pub(crate) fn events<T>(items: impl Stream<Item = T> + Send + 'static, name: fn(&T) -> &'static str) -> Events<T>
where
    T: Type + ToJSON + 'static,
{
    EventStream::new(items.boxed())
        .keep_alive(KEEP_ALIVE)
        .to_event(move |item| Event::message(item.to_json_string()).event_type(name(&item)))
}
