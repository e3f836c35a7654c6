//! Who may speak, and where streams go that are not the mesh's own. Implemented by the swarm's trust.

use futures::future::BoxFuture;
use skep_runtime::NodeId;
use std::net::SocketAddr;

/// Both halves of a QUIC stream. Dropping the sender ends it cleanly; dropping the receiver stops the other side.
pub type Streams = (quinn::SendStream, quinn::RecvStream);

/// The first byte of every stream between members: who is to read the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Protocol {
    /// The actor link, one for each connection, opened by the side that was dialled.
    Link = 1,
    /// Bytes for whoever expects a ticket.
    Bulk = 2,
    /// A pull of a node's card.
    Card = 3,
    /// An exchange of roster records.
    Roster = 4,
}

impl Protocol {
    /// The protocol of a stream's first byte.
    pub fn of(byte: u8) -> Option<Protocol> {
        [Protocol::Link, Protocol::Bulk, Protocol::Card, Protocol::Roster].into_iter().find(|p| *p as u8 == byte)
    }
}

/// What the mesh asks of trust.
pub trait Gate: Send + Sync + 'static {
    /// Whether `who` is on the roster now. Asked when a connection begins and when it is taken, on both
    /// sides; when it changes to no later, call [`super::Mesh::close`]. Must not block, nor call the mesh.
    fn is_member(&self, who: &NodeId) -> bool;

    /// Someone, member or not, speaks the join protocol to this node. `who` is proven, nothing else is. It has
    /// this one stream, 64 KiB of unread bytes and [`crate::defaults::JOINER_TIMEOUT`]; the connection closes
    /// when the future ends.
    fn joiner(&self, who: NodeId, from: SocketAddr, streams: Streams) -> BoxFuture<'static, ()>;

    /// A member opened a stream of `protocol` ([`Protocol::Card`] or [`Protocol::Roster`]); its first byte is
    /// consumed. Has [`crate::defaults::CONTROL_TIMEOUT`].
    fn control(&self, peer: NodeId, protocol: Protocol, streams: Streams) -> BoxFuture<'static, ()>;
}
