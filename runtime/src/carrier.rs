//! The seam to other nodes: what carries envelopes and streams. Implemented by `transport` and by nobody else.
//!
//! Not here: how (QUIC, frames, credits). This crate never opens a socket.

use crate::{Error, NodeId, Stream, Ticket, trace::Trace};
use futures::future::BoxFuture;
use std::time::Duration;

/// One message on its way to an actor on another node: ractor's serialised form, addressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The target's published name.
    pub to: String,
    /// The message's variant, by name, so that variants can be added without breaking older nodes.
    pub kind: String,
    /// How long the sender still waits; the receiver stops working on it then. `None` for a tell.
    pub deadline: Option<Duration>,
    /// Which request this hop belongs to.
    pub trace: Trace,
    /// It comes from a guest, a program beside some node: the node says so where it enters, and each that passes it on.
    pub guest: bool,
    /// The arguments, as ractor's derive packs them. At most [`crate::defaults::MESSAGE_BYTES_MAX`].
    pub body: Vec<u8>,
}

/// Carries envelopes and bulk streams to other nodes. Every method has a deadline of its own or is given one,
/// and fails with [`Error::LinkDown`] at once when the link goes.
pub trait Carrier: Send + Sync + 'static {
    /// Sends without an answer. Ready when the link has taken it: waiting is the push-back.
    fn tell(&self, node: NodeId, envelope: Envelope) -> BoxFuture<'_, Result<(), Error>>;

    /// Sends and waits for the answer's bytes, at most `envelope.deadline`.
    fn ask(&self, node: NodeId, envelope: Envelope) -> BoxFuture<'_, Result<Vec<u8>, Error>>;

    /// Opens a bulk stream that presents `ticket`.
    fn open(&self, node: NodeId, ticket: Ticket) -> BoxFuture<'_, Result<Stream, Error>>;
}
