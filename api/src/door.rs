//! Where connections come in: so many at a time, a pause when the system has no more to give, a deadline for the first
//! head, and an end with the server.
//!
//! The server below has none of these: it spins when descriptors run out, waits for ever for half a head, and leaves
//! its connections behind.

use crate::{
    limits::{ACCEPT_PAUSE, CONNECTIONS_MAX, HEAD_TIMEOUT},
    room::{Entry, Room},
};
use poem::{
    http::uri::Scheme,
    listener::Acceptor,
    web::{LocalAddr, RemoteAddr},
};
use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// What ends the head of a request, and HTTP/2's preface as well.
const HEAD_END: &[u8] = b"\r\n\r\n";

/// The listener.
pub(crate) struct Door {
    listener: TcpListener,
    seats: Arc<Semaphore>,
    closed: CancellationToken,
    room: Room,
}

impl Door {
    /// Every connection that comes in here breaks when `closed` is cancelled, or when it is cut in the `room`.
    pub(crate) fn new(listener: TcpListener, closed: CancellationToken, room: Room) -> Door {
        Door { listener, seats: Arc::new(Semaphore::new(CONNECTIONS_MAX)), closed, room }
    }
}

impl Acceptor for Door {
    type Io = Connection<TcpStream>;

    fn local_addr(&self) -> Vec<LocalAddr> {
        self.listener.local_addr().map(|address| LocalAddr(address.into())).into_iter().collect()
    }

    async fn accept(&mut self) -> io::Result<(Self::Io, LocalAddr, RemoteAddr, Scheme)> {
        let seat = self.seats.clone().acquire_owned().await.map_err(io::Error::other)?;
        let accepted = self.listener.accept().await;
        match accepted.and_then(|(stream, peer)| Ok((stream.local_addr()?, stream.set_nodelay(true), stream, peer))) {
            Ok((local, _, stream, peer)) => {
                let cut = self.closed.child_token();
                let entry = self.room.enter(peer, cut.clone());
                let connection = Connection::new(stream, seat, cut, Some(entry));
                Ok((connection, LocalAddr(local.into()), RemoteAddr(peer.into()), Scheme::HTTP))
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
                Err(error)
            }
        }
    }
}

/// A connection, which gives its seat back when it ends.
pub(crate) struct Connection<S> {
    stream: S,
    /// Until the first head is whole: how much of its end was seen, and how long it may still take.
    head: Option<(usize, Pin<Box<Sleep>>)>,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    _seat: OwnedSemaphorePermit,
    _entry: Option<Entry>,
}

impl<S> Connection<S> {
    fn new(stream: S, seat: OwnedSemaphorePermit, cut: CancellationToken, entry: Option<Entry>) -> Connection<S> {
        let closed = Box::pin(cut.cancelled_owned());
        Connection { stream, head: Some((0, Box::pin(sleep(HEAD_TIMEOUT)))), closed, _seat: seat, _entry: entry }
    }

    /// Whether the server is gone, or this connection was cut. If not, the task is woken when it is.
    fn orphaned(&mut self, cx: &mut Context<'_>) -> bool {
        self.closed.as_mut().poll(cx).is_ready()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.orphaned(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let Some((seen, deadline)) = &mut self.head else { return read };
        for byte in &buf.filled()[before..] {
            *seen = if *byte == HEAD_END[*seen] { *seen + 1 } else { usize::from(*byte == HEAD_END[0]) };
            if *seen == HEAD_END.len() {
                self.head = None;
                return read;
            }
        }
        match deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => read,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.orphaned(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    async fn connection() -> (Connection<tokio::io::DuplexStream>, tokio::io::DuplexStream) {
        let (near, far) = duplex(1024);
        let seat = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        (Connection::new(near, seat, CancellationToken::new(), None), far)
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_head_is_given_up_after_its_deadline() {
        let (mut connection, mut client) = connection().await;
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").await.unwrap();
        let mut bytes = [0; 64];
        assert_eq!(connection.read(&mut bytes).await.unwrap(), 25);
        let error = connection.read(&mut bytes).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_whole_head_the_connection_may_take_its_time() {
        let (mut connection, mut client) = connection().await;
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r").await.unwrap();
        let mut bytes = [0; 64];
        connection.read_exact(&mut bytes[..24]).await.unwrap();
        client.write_all(b"\n\r\n").await.unwrap();
        connection.read_exact(&mut bytes[..3]).await.unwrap();
        tokio::time::advance(HEAD_TIMEOUT * 3).await;
        client.write_all(b"more").await.unwrap();
        assert_eq!(connection.read(&mut bytes).await.unwrap(), 4);
    }
}
