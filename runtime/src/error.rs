//! Why a message to an actor, here or elsewhere, did not succeed. One enum for tell, ask and bulk streams.

use crate::{NodeId, defaults::REASON_CHARS_MAX};
use serde::{Deserialize, Serialize};

/// What became of a message. Unless a variant says otherwise, the target may or may not have acted on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody of that name is published on that node (any more). Nothing happened there.
    #[error("no actor named {0} on that node")]
    NoSuchActor(String),
    /// The target took the message and ended, or dropped the question, without an answer.
    #[error("the actor ended without an answer")]
    NoReply,
    /// The deadline passed.
    #[error("no answer within the deadline")]
    Timeout,
    /// The target's mailbox stayed full until the deadline. Nothing happened there; try again later.
    #[error("the actor {0} is busy: its mailbox is full")]
    Busy(String),
    /// The connection to the node is down, or went down while the call was in flight.
    #[error("the link to node {0:?} is down")]
    LinkDown(NodeId),
    /// Over [`crate::defaults::MESSAGE_BYTES_MAX`]. Nothing was sent; use a bulk stream.
    #[error("{bytes} bytes are over the limit of {max} for one message")]
    TooLarge {
        /// What was to be sent.
        bytes: usize,
        /// What fits.
        max: usize,
    },
    /// The other side would not take it: not a member, another version, an unknown message, an expired ticket.
    #[error("refused: {0}")]
    Refused(String),
}

impl Error {
    /// A refusal with a reason for people, cut to what may cross the wire.
    pub fn refused(reason: impl Into<String>) -> Error {
        let mut reason = reason.into();
        if let Some((cut, _)) = reason.char_indices().nth(REASON_CHARS_MAX) {
            reason.truncate(cut);
        }
        Error::Refused(reason)
    }
}
