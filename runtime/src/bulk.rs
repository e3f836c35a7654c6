//! Streams for what is too large or too long for a message: activations, logs, standard input and output.
//!
//! One side [expects](Directory::expect) a stream and sends the ticket in an ordinary message; the other side
//! [opens](Directory::open) it. On one node it is a pipe in memory; between nodes a QUIC stream of its own, so
//! that bulk never queues in front of a call.

use crate::{
    Directory, Error, NodeId,
    defaults::{LOCAL_STREAM_BYTES, TICKET_TIMEOUT, TICKETS_MAX},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, PoisonError},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, split},
    sync::oneshot,
    time::timeout,
};

/// The right to open one stream, once, within [`TICKET_TIMEOUT`]: 128 random bits. A secret between two nodes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ticket(pub [u8; 16]);

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(..)")
    }
}

/// Both directions of a bulk stream. Dropping a half ends that direction.
pub struct Stream {
    /// What the other side writes.
    pub reader: Box<dyn AsyncRead + Send + Sync + Unpin>,
    /// What the other side reads. Shut it down to end the direction cleanly.
    pub writer: Box<dyn AsyncWrite + Send + Sync + Unpin>,
}

/// Resolves when the other side is gone: it dropped its stream, or will say no more. For whoever only writes, and may
/// have nothing to write for days; what comes meanwhile is thrown away.
pub async fn left(reader: &mut (impl AsyncRead + Unpin)) {
    let mut unwanted = [0; 64];
    while matches!(reader.read(&mut unwanted).await, Ok(1..)) {}
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream")
    }
}

/// The outstanding tickets of one node.
#[derive(Default)]
pub(crate) struct Tickets(Mutex<BTreeMap<Ticket, (NodeId, oneshot::Sender<Stream>)>>);

/// A stream that was promised. Dropping it takes the ticket back.
pub struct Expected {
    directory: Directory,
    ticket: Ticket,
    stream: Option<oneshot::Receiver<Stream>>,
}

impl Expected {
    /// What to send to the node that shall open the stream.
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// Waits for the other side to open it, at most [`TICKET_TIMEOUT`].
    pub async fn opened(mut self) -> Result<Stream, Error> {
        let stream = self.stream.take().expect("taken once, by value");
        match timeout(TICKET_TIMEOUT, stream).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(_)) => Err(Error::NoReply),
            Err(_) => Err(Error::Timeout),
        }
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.directory.tickets().lock().remove(&self.ticket);
    }
}

impl Tickets {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Ticket, (NodeId, oneshot::Sender<Stream>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Directory {
    /// Promises a stream that `peer`, and nobody else, may open with `ticket` (16 random bytes from
    /// [`crate::Env::ticket`]).
    pub fn expect(&self, peer: NodeId, ticket: Ticket) -> Result<Expected, Error> {
        let (sender, stream) = oneshot::channel();
        let mut tickets = self.tickets().lock();
        tickets.retain(|_, (_, waiting)| !waiting.is_closed());
        if tickets.len() >= TICKETS_MAX {
            return Err(Error::refused("too many streams are waiting to be opened on this node"));
        }
        tickets.insert(ticket, (peer, sender));
        drop(tickets);
        Ok(Expected { directory: self.clone(), ticket, stream: Some(stream) })
    }

    /// Opens the stream that `node` expects under `ticket`.
    pub async fn open(&self, node: NodeId, ticket: Ticket) -> Result<Stream, Error> {
        if node != self.id() {
            return timeout(TICKET_TIMEOUT, self.carrier(node)?.open(node, ticket))
                .await
                .unwrap_or(Err(Error::Timeout));
        }
        let (near, far) = tokio::io::duplex(LOCAL_STREAM_BYTES);
        let stream = |pipe| {
            let (reader, writer) = split::<tokio::io::DuplexStream>(pipe);
            Stream { reader: Box::new(reader), writer: Box::new(writer) }
        };
        self.arrived(node, ticket, stream(far))?;
        Ok(stream(near))
    }

    /// Hands a stream that `peer` opened to whoever expects it. Refused if nobody does, or not from that peer.
    pub fn arrived(&self, peer: NodeId, ticket: Ticket, stream: Stream) -> Result<(), Error> {
        let mut tickets = self.tickets().lock();
        match tickets.get(&ticket) {
            Some((expected, _)) if *expected == peer => {}
            _ => return Err(Error::refused("no such ticket: it was used, has expired, or is another node's")),
        }
        let (_, waiting) = tickets.remove(&ticket).expect("it was just found");
        waiting.send(stream).map_err(|_| Error::refused("nobody waits for this stream any more"))
    }
}
