//! A UDP socket of the simulated network, as quinn wants it. Always writable: what the network can't carry is lost.

use super::Network;
use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use std::{
    collections::VecDeque,
    fmt,
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

/// Datagrams that wait for their reader: what Linux's default receive buffer (208 KiB) holds of full ones.
const WAITING_DATAGRAMS_MAX: usize = 144;

/// Where datagrams arrive. The network knows it as long as it is plugged in.
pub(super) struct Port(Mutex<State>);

struct State {
    /// The machine may get another address while the port is bound.
    at: SocketAddr,
    arrived: VecDeque<(SocketAddr, Vec<u8>)>,
    reader: Option<Waker>,
}

impl Port {
    pub(super) fn new(at: SocketAddr) -> Arc<Port> {
        Arc::new(Port(Mutex::new(State { at, arrived: VecDeque::new(), reader: None })))
    }

    /// Its address.
    pub(super) fn at(&self) -> SocketAddr {
        self.state().at
    }

    /// The machine has another address now.
    pub(super) fn renumber(&self, at: SocketAddr) {
        self.state().at = at;
    }

    /// Hands over a datagram; a full buffer loses it.
    pub(super) fn deliver(&self, from: SocketAddr, bytes: Vec<u8>) {
        let mut state = self.state();
        if state.arrived.len() < WAITING_DATAGRAMS_MAX {
            state.arrived.push_back((from, bytes));
        }
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The node's end of a [`Port`]; dropping it frees the address.
pub(super) struct Socket {
    pub(super) network: Network,
    pub(super) port: Arc<Port>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.network.unbind(&self.port);
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Socket({})", self.port.at())
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Always)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let segment_bytes = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for datagram in transmit.contents.chunks(segment_bytes) {
            self.network.send(&self.port, transmit.destination, datagram);
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.port.state();
        let mut count = 0;
        for (buffer, meta) in buffers.iter_mut().zip(meta) {
            let Some((from, bytes)) = state.arrived.pop_front() else { break };
            let bytes_read = bytes.len().min(buffer.len());
            buffer[..bytes_read].copy_from_slice(&bytes[..bytes_read]);
            let to = Some(state.at.ip());
            *meta = RecvMeta { addr: from, len: bytes_read, stride: bytes_read, ecn: None, dst_ip: to };
            count += 1;
        }
        if count == 0 {
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.port.at())
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct Always;

impl UdpPoller for Always {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
