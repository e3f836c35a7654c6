//! Why the mesh could not start, connect or open a stream.

use skep_runtime::NodeId;
use std::{io, net::SocketAddr};

/// A failure of the mesh. No variant leaves a connection behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The UDP socket could not be opened.
    #[error("can't listen on UDP {at}: {source}; is another node running here? Choose another port with --listen")]
    Listen {
        /// Where.
        at: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// TLS does not accept this node's key or the provider lacks a needed algorithm.
    #[error("this node's TLS could not be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// No address is known for the node; discovery or membership will bring one.
    #[error("no address of node {0:?} is known yet")]
    NoAddress(NodeId),
    /// Nobody answered at any known address, or the connection broke.
    #[error("node {0:?} can't be reached: {1}")]
    Unreachable(NodeId, String),
    /// Nobody answered there.
    #[error("nobody answers at {0}: is `skep up` running there, and is UDP open between the machines?")]
    Nobody(SocketAddr),
    /// Whoever answers at that address holds another key.
    #[error("the machine at {0} is another one than expected")]
    WrongKey(SocketAddr),
    /// This node doesn't have the peer on its roster, or the peer doesn't have this node.
    #[error("node {0:?} and this one are not members of the same swarm")]
    NotMember(NodeId),
    /// The other side closed with this reason.
    #[error("refused by the other side: {0}")]
    Refused(String),
    /// The deadline passed.
    #[error("no answer within the deadline")]
    Timeout,
    /// This mesh has been shut down.
    #[error("this node is shutting down")]
    Stopped,
}

impl Error {
    /// The same as what became of a message to `node`.
    pub(crate) fn of_message(self, node: NodeId) -> skep_runtime::Error {
        match self {
            Error::NotMember(_) | Error::Refused(_) => skep_runtime::Error::refused(self.to_string()),
            Error::Timeout => skep_runtime::Error::Timeout,
            _ => skep_runtime::Error::LinkDown(node),
        }
    }
}
