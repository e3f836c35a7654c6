//! What a node's owner decides about its transport, and why it may not start.

use crate::{defaults::INVITE_VALID, join::Secret, mesh};
use std::{net::SocketAddr, time::Duration};

/// The owner's choices.
#[derive(Debug, Clone)]
pub struct TransportConfig {
    /// The name shown to people; the machine's host name is a good one. At most 64 characters, the rest is cut.
    pub name: String,
    /// Where to listen for QUIC. Port 0 lets the system choose, and other machines then depend on discovery.
    pub listen: SocketAddr,
    /// Where members or a swarm may be found when discovery doesn't bring them: networks without multicast.
    pub peers: Vec<SocketAddr>,
    /// Whether to announce this node on the local network and to look for others (mDNS).
    pub mdns: bool,
    /// The key that unattended machines share: whoever holds it is one swarm, without hands.
    pub swarm_key: Option<Secret>,
    /// Whether this machine, while alone, goes along with whoever approves its knock, without its own owner's
    /// approval. Anyone on the network can then take it in and run commands on it, so `false` unless every
    /// device there is trusted and the machine has no screen.
    pub knock_is_consent: bool,
    /// How long an invite is valid. Ten minutes; tests take less.
    pub invite_valid: Duration,
}

impl TransportConfig {
    /// Listens on `listen` as `name`, announces itself, knows no one.
    pub fn new(name: impl Into<String>, listen: SocketAddr) -> TransportConfig {
        TransportConfig {
            name: name.into(),
            listen,
            peers: Vec::new(),
            mdns: true,
            swarm_key: None,
            knock_is_consent: false,
            invite_valid: INVITE_VALID,
        }
    }
}

/// Why a node's transport did not start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The socket or TLS.
    #[error(transparent)]
    Mesh(#[from] mesh::Error),
    /// The roster on the disk.
    #[error(transparent)]
    Roster(#[from] skep_runtime::swarm::Error),
}
