//! Bulk streams on the wire: a QUIC stream each, beside the actor link and behind it in priority.
//!
//! After the protocol's byte the opener writes its ticket; the other side answers with one frame, taken or
//! refused, and from then on the bytes are the users'. What a ticket is and who may use it is `runtime`'s.
//!
//! The opener keeps some of the streams that the other side allows free for control: a hundred
//! followers of quiet commands must not hold up a roster or a card ([`crate::defaults::BULK_STREAMS_MAX`]).

use crate::{defaults::OPENING_TIMEOUT, mesh::Streams};
use quinn::{RecvStream, SendStream, VarInt};
use skep_runtime::{Directory, Error, NodeId, Stream, Ticket, frames, wire};
use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, oneshot},
    time::timeout,
};

/// Bytes of the answer to a ticket: a refusal with its reason.
const ANSWER_BYTES_MAX: usize = 4096;
/// Calls go first: the actor link has a higher priority.
const PRIORITY: i32 = -1;
/// What the reader is told when the writer was dropped before its end.
const ABANDONED: VarInt = VarInt::from_u32(1);

/// Presents `ticket` on a stream that was just opened to `node`.
pub(crate) async fn present(
    node: NodeId,
    ticket: Ticket,
    (mut send, mut recv): Streams,
    place: OwnedSemaphorePermit,
) -> Result<Stream, Error> {
    let _ = send.set_priority(PRIORITY);
    send.write_all(&ticket.0).await.map_err(|_| Error::LinkDown(node))?;
    let answer = timeout(OPENING_TIMEOUT, frames::read_bytes(&mut recv, ANSWER_BYTES_MAX)).await;
    let answer =
        answer.map_err(|_| Error::Timeout)?.map_err(|_| Error::LinkDown(node))?.ok_or(Error::LinkDown(node))?;
    let taken: Result<(), Error> =
        wire::decode(&answer, ANSWER_BYTES_MAX).map_err(|_| Error::refused("the other node speaks another version"))?;
    taken.map(|()| stream((send, recv), Arc::new(place)))
}

/// Reads the ticket of a stream that `peer` opened, and hands it to whoever expects it.
pub(crate) async fn arrived(directory: &Directory, peer: NodeId, (mut send, mut recv): Streams) {
    let _ = send.set_priority(PRIORITY);
    let mut ticket = Ticket([0; 16]);
    let Ok(Ok(())) = timeout(OPENING_TIMEOUT, recv.read_exact(&mut ticket.0)).await else { return };
    // Whether the ticket is good shows when the stream is handed over, but the answer stands in front of what its
    // new owner writes: the writer waits for it.
    let (give, given) = oneshot::channel();
    let writer = Writer { half: Half::Answering(given), ended: false, _place: None };
    let taken = directory.arrived(peer, ticket, Stream { reader: Box::new(recv), writer: Box::new(writer) });
    let answer = frames::write(&mut send, &taken);
    if let Ok(Ok(())) = timeout(OPENING_TIMEOUT, answer).await
        && taken.is_ok()
        && let Err(mut abandoned) = give.send(send)
    {
        let _ = abandoned.reset(ABANDONED);
    }
}

fn stream((send, recv): Streams, place: Place) -> Stream {
    let writer = Writer { half: Half::Open(send), ended: false, _place: Some(place.clone()) };
    Stream { reader: Box::new(Reader { recv, _place: place }), writer: Box::new(writer) }
}

/// An opener's place among its streams, held by both halves.
type Place = Arc<OwnedSemaphorePermit>;

/// The receiving half of a stream that was opened here.
struct Reader {
    recv: RecvStream,
    _place: Place,
}

impl AsyncRead for Reader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.recv), cx, into)
    }
}

/// The sending half. Dropped before its end, it tells the reader that the rest is missing, so that nobody takes
/// half a file for a whole one.
struct Writer {
    half: Half,
    ended: bool,
    _place: Option<Place>,
}

enum Half {
    /// The ticket is still being answered.
    Answering(oneshot::Receiver<SendStream>),
    Open(SendStream),
}

impl Writer {
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Pin<&mut SendStream>>> {
        if let Half::Answering(given) = &mut self.half {
            let Ok(send) = ready!(Pin::new(given).poll(cx)) else {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            };
            self.half = Half::Open(send);
        }
        match &mut self.half {
            Half::Open(send) => Poll::Ready(Ok(Pin::new(send))),
            Half::Answering(_) => unreachable!("it was replaced above"),
        }
    }
}

impl AsyncWrite for Writer {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(ready!(self.poll_open(cx))?, cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(ready!(self.poll_open(cx))?, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = ready!(AsyncWrite::poll_shutdown(ready!(self.poll_open(cx))?, cx));
        self.ended = true;
        Poll::Ready(ended)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Half::Open(send) = &mut self.half
            && !self.ended
        {
            let _ = send.reset(ABANDONED);
        }
    }
}
