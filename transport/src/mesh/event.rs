//! What the mesh tells its owner, and the codes that connections close with.

use bytes::Bytes;
use quinn::{ConnectionError, VarInt};
use skep_runtime::NodeId;
use std::net::SocketAddr;
use tokio::sync::mpsc;

/// Something happened to a connection. For one peer `Up`, datagrams, `Down` come in that order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A member is connected, whoever dialled; both sides have admitted each other.
    Up {
        /// Its key.
        peer: NodeId,
        /// Where it is.
        addr: SocketAddr,
    },
    /// The connection is gone. Every call in flight on it has failed already.
    Down {
        /// Its key.
        peer: NodeId,
        /// Why.
        cause: Cause,
    },
    /// A datagram of a connected member. Lost when its reader is behind.
    Datagram {
        /// Who sent it.
        peer: NodeId,
        /// Its content, at most one packet.
        bytes: Bytes,
    },
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The peer shuts down and said so.
    Goodbye,
    /// The peer says that this node is not (or no longer) on its roster.
    NotMember,
    /// This node closed it: see [`super::Mesh::close`].
    Closed,
    /// The peer went silent, was restarted, or closed without a known reason: evidence that it may be down.
    Lost(String),
}

/// The reason that [`super::Mesh::close`] gives to the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It is off the roster.
    Evicted,
    /// Membership declared it down. It may dial again when it is back.
    Down,
}

/// The mesh's events. Whoever holds it reads it: when it is full, datagrams are lost and ups and downs wait.
#[derive(Debug)]
pub struct Incoming(pub(super) mpsc::Receiver<Event>);

impl Incoming {
    /// The next event; `None` when the mesh has ended.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.recv().await
    }
}

/// Why one side closes a connection, as both sides read it. The numbers are the wire's: don't change them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Code {
    /// Not 0: that is what QUIC itself says for a connection that was dropped.
    Goodbye = 1,
    NotMember = 2,
    /// The pair has another connection.
    Duplicate = 3,
    Down = 4,
    /// The other side broke the protocol.
    Protocol = 5,
    /// Too many strangers at the door.
    Busy = 6,
    /// The join conversation is over.
    Done = 7,
    /// Nothing came back on this connection for a while.
    Silent = 8,
}

impl Code {
    pub(crate) fn close(self, connection: &quinn::Connection) {
        connection.close(VarInt::from_u32(self as u32), self.reason().as_bytes());
    }

    pub(crate) fn reason(self) -> &'static str {
        match self {
            Code::Goodbye => "goodbye",
            Code::NotMember => "not a member of this swarm: `skep join` first",
            Code::Duplicate => "the pair is connected already",
            Code::Down => "declared down",
            Code::Protocol => "protocol violated",
            Code::Busy => "too many machines are at the door: try again",
            Code::Done => "done",
            Code::Silent => "nothing came back for a while",
        }
    }

    /// The code that the *peer* closed with, if it did.
    pub(crate) fn of(error: &ConnectionError) -> Option<Code> {
        let ConnectionError::ApplicationClosed(close) = error else { return None };
        let known = [
            Code::Goodbye,
            Code::NotMember,
            Code::Duplicate,
            Code::Down,
            Code::Protocol,
            Code::Busy,
            Code::Done,
            Code::Silent,
        ];
        known.into_iter().find(|code| u64::from(*code as u32) == close.error_code.into_inner())
    }
}

impl From<&ConnectionError> for Cause {
    fn from(error: &ConnectionError) -> Cause {
        match (Code::of(error), error) {
            (Some(Code::Goodbye), _) => Cause::Goodbye,
            (Some(Code::NotMember), _) => Cause::NotMember,
            (_, ConnectionError::LocallyClosed) => Cause::Closed,
            (_, other) => Cause::Lost(other.to_string()),
        }
    }
}
