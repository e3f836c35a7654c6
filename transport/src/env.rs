//! What a node takes from outside, the network included: sockets, discovery, QUIC's timers, cryptography.
//!
//! Production builds it from the machine, simulation from a seed; the code in between is the same, without a
//! branch. There is no clock: tokio's time is the clock. The half that needs no socket is [`skep_runtime::Env`].

use futures::stream::BoxStream;
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use skep_runtime::NodeId;
use std::{io, net::SocketAddr, sync::Arc};

/// The seam between a node and the world. Cheap to clone.
#[derive(Clone)]
pub struct Env {
    /// Randomness and the wall clock.
    pub base: skep_runtime::Env,
    /// Sockets and discovery.
    pub net: Arc<dyn Net>,
    /// Timers and tasks of QUIC. The simulation's remembers the tasks, so that a crash can end them.
    pub quic: Arc<dyn Runtime>,
    /// TLS: one provider, X25519 alone (see [`crate::tls`]). The simulation's draws from its seed.
    pub crypto: Arc<CryptoProvider>,
}

/// The wire: the one trait of the network.
pub trait Net: Send + Sync + 'static {
    /// Opens a UDP socket. Port 0 lets the system choose.
    fn bind(&self, at: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>>;

    /// Shows `beacon` to the neighbourhood for as long as the stream is held, and yields who else is there.
    /// What it yields are hints that anyone can forge: a dial proves the key, membership proves life.
    fn discover(&self, beacon: Beacon) -> BoxStream<'static, Sighting>;
}

/// What a node shows to its neighbourhood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beacon {
    /// Its key.
    pub node: NodeId,
    /// The UDP port where it listens for QUIC, on every address it has.
    pub port: u16,
    /// The swarm that it is in: others don't see it. At most 64 characters of a URL path.
    pub swarm: String,
}

/// What discovery says about another node. A hint, never a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sighting {
    /// A node says that it listens there.
    Here(NodeId, SocketAddr),
    /// It has not been heard at that address for its time to live. It may well be alive.
    Gone(NodeId, SocketAddr),
}

impl Env {
    /// The machine's: its sockets, its multicast, its randomness.
    pub fn machine() -> Env {
        Env { base: skep_runtime::Env::machine(), net: Arc::new(Lan), quic: Arc::new(TokioRuntime), crypto: provider() }
    }
}

/// The machine's cryptography. X25519 is named, so that no other crate's feature can put something larger in
/// front of it: with raw keys and X25519 the first flight stays in one datagram.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { kx_groups: vec![aws_lc_rs::kx_group::X25519], ..aws_lc_rs::default_provider() })
}

/// The machine's own network.
struct Lan;

impl Net for Lan {
    fn bind(&self, at: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(std::net::UdpSocket::bind(at)?)
    }

    fn discover(&self, beacon: Beacon) -> BoxStream<'static, Sighting> {
        crate::discovery::discover(beacon)
    }
}
