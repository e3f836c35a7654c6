//! The connections of one node: at most one for each peer, dialled on demand, admitted by key, closed at once.
//!
//! It knows keys and addresses, not membership: [`Gate`] says who may speak, and whoever holds [`Incoming`] hears
//! of ups, downs and datagrams. What travels inside the actor link is [`crate::link`]'s.
//!
//! ```text
//! connect / ask / datagram -> dial  -> TLS: the key that was dialled -> their link stream = admitted -> Up
//!                 anyone   -> door  -> member? -> tie with our own dial -> open the link stream -----> Up
//!                                  `-> skep-join/1 -> one stream -> Gate::joiner
//! ```

mod book;
mod carrier;
mod dial;
mod door;
mod error;
mod event;
mod gate;
mod ration;
mod shared;
mod silence;
mod tie;
mod visitors;

pub use error::Error;
pub use event::{Cause, Event, Incoming, Reason};
pub use gate::{Gate, Protocol, Streams};
pub(crate) use visitors::Visitors;

use crate::{
    Env, Identity,
    defaults::{EVENTS_MAX, GOODBYE_TIMEOUT, HANDSHAKES_MAX, JOINERS_MAX, JOINERS_PER_ADDRESS_MAX, PEERS_MAX},
    endpoint::Endpoint,
};
use bytes::Bytes;
use carrier::Wires;
use event::Code;
use shared::{Peers, Shared, State};
use skep_runtime::{Directory, NodeId, Tasks};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// The connections of one node. Cheap to clone; when the last clone is dropped, everything closes.
#[derive(Clone)]
pub struct Mesh {
    shared: Arc<Shared>,
    owner: Arc<Owner>,
}

/// Ends with the last [`Mesh`], and everything with it.
struct Owner {
    tasks: Mutex<Option<Tasks>>,
    endpoint: quinn::Endpoint,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.endpoint.close(quinn::VarInt::from_u32(Code::Goodbye as u32), Code::Goodbye.reason().as_bytes());
    }
}

impl Mesh {
    /// The largest datagram that surely passes: QUIC's smallest packet less its headers.
    pub const DATAGRAM_BYTES_MAX: usize = 1150;

    /// Listens on `listen` (port 0: the system chooses) and connects `directory` to the other nodes. Must run
    /// inside the tokio runtime.
    pub fn start(
        env: &Env,
        identity: &Identity,
        directory: Directory,
        gate: Arc<dyn Gate>,
        listen: SocketAddr,
    ) -> Result<(Mesh, Incoming), Error> {
        let endpoint = Endpoint::bind(env, identity, listen)?;
        let tasks = env.base.tasks();
        let (events, incoming) = mpsc::channel(EVENTS_MAX);
        let shared = Arc::new(Shared {
            id: identity.id(),
            endpoint,
            directory,
            gate,
            spawner: tasks.spawner(),
            events,
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
            visitors: Visitors::new(JOINERS_MAX, JOINERS_PER_ADDRESS_MAX),
            stopping: CancellationToken::new(),
            peers: Mutex::new(Peers::new()),
        });
        shared.directory.connect(Arc::new(Wires(Arc::downgrade(&shared))));
        shared.spawner.spawn(shared.clone().listen());
        let owner = Arc::new(Owner { tasks: Mutex::new(Some(tasks)), endpoint: shared.endpoint.quic.clone() });
        Ok((Mesh { shared, owner }, Incoming(incoming)))
    }

    /// Who this is.
    pub fn id(&self) -> NodeId {
        self.shared.id
    }

    /// Where the socket listens. The address may be unspecified (`0.0.0.0`); the port is the real one.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.endpoint.quic.local_addr().expect("a bound socket knows its address")
    }

    /// Notes that `peer` may be reached at `addr`. A hint: the dial proves the key. At most
    /// [`crate::defaults::ADDRESSES_MAX`] for each peer, the last good one first.
    pub fn learn(&self, peer: NodeId, addr: SocketAddr) {
        let is_member = self.shared.gate.is_member(&peer);
        let mut peers = self.shared.peers();
        if !peers.contains_key(&peer) && peers.len() >= PEERS_MAX {
            if !is_member {
                return;
            }
            peers.retain(|_, entry| !matches!(entry.state, State::Idle));
        }
        peers.entry(peer).or_default().book.hint(addr);
    }

    /// Forgets the addresses of `peer`. A connection that stands is left alone.
    pub fn forget(&self, peer: &NodeId) {
        if let Some(entry) = self.shared.peers().get_mut(peer) {
            entry.book.clear();
        }
    }

    /// The known addresses of `peer`, the last good one first.
    pub fn addresses(&self, peer: &NodeId) -> Vec<SocketAddr> {
        self.shared.peers().get(peer).map(|entry| entry.book.all().to_vec()).unwrap_or_default()
    }

    /// Whether another address of `peer` is needed: none is known, or none of them answered when they were last tried.
    pub fn is_lost(&self, peer: &NodeId) -> bool {
        let peers = self.shared.peers();
        peers.get(peer).is_none_or(|entry| entry.book.all().is_empty() || (entry.failed.is_some() && !entry.is_up()))
    }

    /// Whether there is a connection to `peer` now.
    pub fn is_up(&self, peer: &NodeId) -> bool {
        self.shared.live(peer).is_some()
    }

    /// Everyone that there is a connection to now.
    pub fn connected(&self) -> Vec<NodeId> {
        let live = |state: &State| matches!(state, State::Up(live) if !live.link.is_closed());
        self.shared.peers().iter().filter(|(_, entry)| live(&entry.state)).map(|(id, _)| *id).collect()
    }

    /// Ready when `peer` is connected and both sides have admitted each other, within
    /// [`crate::defaults::CONNECT_TIMEOUT`]. At once if it is so already.
    pub async fn connect(&self, peer: NodeId) -> Result<(), Error> {
        self.shared.connect(peer).await.map(|_| ())
    }

    /// Sends a datagram if it can: at once when connected, else it waits in a short queue for a dial in the
    /// background. `false` when it was dropped: too large for a packet, no address, or the queue is full.
    pub fn datagram(&self, peer: NodeId, bytes: Bytes) -> bool {
        match self.shared.live(&peer) {
            Some(live) => live.connection.send_datagram(bytes).is_ok(),
            None => bytes.len() <= Mesh::DATAGRAM_BYTES_MAX && self.shared.datagram_later(peer, bytes),
        }
    }

    /// Closes the connection to `peer`, if there is one: its calls in flight have failed when this returns.
    /// Doesn't keep either side from dialling again; the [`Gate`] does that.
    pub fn close(&self, peer: &NodeId, reason: Reason) {
        if let Some(live) = self.shared.live(peer) {
            self.shared.take_down(
                &live,
                match reason {
                    Reason::Evicted => Code::NotMember,
                    Reason::Down => Code::Down,
                },
            );
        }
    }

    /// Closes connections that lead nowhere any more: their calls fail, and the next one looks for another way. To be
    /// called a few times a second.
    pub fn close_silent(&self) {
        self.shared.close_silent();
    }

    /// Opens a stream of `protocol` to a member, connecting first if need be. The other side's
    /// [`Gate::control`] gets it.
    pub async fn control(&self, peer: NodeId, protocol: Protocol) -> Result<Streams, Error> {
        self.shared.connect(peer).await?.open(protocol).await
    }

    /// Opens the one stream of the join protocol to whoever listens at `addr`, and says whose key answered.
    /// With `expected` any other key is refused before anything is sent. The connection lives as long as
    /// either stream does.
    pub async fn join(&self, addr: SocketAddr, expected: Option<NodeId>) -> Result<(NodeId, Streams), Error> {
        self.shared.knock(addr, expected).await
    }

    /// Says goodbye to everyone and waits until they know, at most [`GOODBYE_TIMEOUT`]. What is in flight fails.
    pub async fn shutdown(&self) {
        self.shared.stopping.cancel();
        self.shared
            .endpoint
            .quic
            .close(quinn::VarInt::from_u32(Code::Goodbye as u32), Code::Goodbye.reason().as_bytes());
        let _ = timeout(GOODBYE_TIMEOUT, self.shared.endpoint.quic.wait_idle()).await;
        let tasks = self.owner.tasks.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(tasks) = tasks {
            tasks.stop().await;
        }
    }
}
