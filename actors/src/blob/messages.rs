//! What the BlobsActor can be told and asked.

use crate::digest::Digest;
use ractor::RpcReplyPort;
use ractor_cluster_derive::RactorClusterMessage;
use serde::{Deserialize, Serialize};
use skep_runtime::{Error, NodeId, Ticket, Wire};

/// What the BlobsActor understands.
#[derive(RactorClusterMessage)]
pub enum Message {
    /// Keep what comes over the stream of this ticket, to its end. Answered when it has begun; once it is on disk here and
    /// on one other node that is up, one frame comes back over the stream: `Result<Blob, BlobError>`. `NodeId` is who
    /// expects the stream.
    #[rpc]
    Put(Wire<(NodeId, Ticket)>, RpcReplyPort<Wire<Result<(), BlobError>>>),
    /// Have it here, from wherever it is. Fetching may take longer than a question: ask again and go on waiting.
    #[rpc]
    Fetch(Wire<Digest>, RpcReplyPort<Wire<Result<Blob, BlobError>>>),
    /// What lies here, the one that was used last first, at most this many.
    #[rpc]
    List(Wire<u32>, RpcReplyPort<Wire<Vec<Held>>>),
    /// Remove the copy that lies here. Refused while a command that has not ended needs it.
    #[rpc]
    Delete(Wire<Digest>, RpcReplyPort<Wire<Result<(), BlobError>>>),
    /// How many bytes it has, if it lies here.
    #[rpc]
    Has(Wire<Digest>, RpcReplyPort<Wire<Option<u64>>>),
    /// Send it over the stream of this ticket: raw bytes from an offset. Answered with its whole length.
    #[rpc]
    Send(Wire<(Digest, u64, NodeId, Ticket)>, RpcReplyPort<Wire<Result<u64, BlobError>>>),
    /// Between nodes: keep a copy of what that node has. Answered when it is on disk; ask again and go on waiting.
    #[rpc]
    Keep(Wire<(Digest, NodeId)>, RpcReplyPort<Wire<Result<(), BlobError>>>),
}

/// A blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// What it is called.
    pub digest: Digest,
    /// How large it is.
    pub bytes: u64,
}

/// A copy on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Of what.
    pub blob: Blob,
    /// When it was stored or used last, in milliseconds since 1970.
    pub used_ms: u64,
}

/// Why a blob was not stored, found or sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum BlobError {
    /// Nobody who answers has it.
    #[error("no machine that answers has a file {0}: store it again, or wait for the machine that has it")]
    NoSuchBlob(Digest),
    /// It is larger than any may be.
    #[error("the file has more than {0} bytes, the most that one may have")]
    TooLarge(u64),
    /// It doesn't fit. For people.
    #[error("{0}")]
    NoRoom(String),
    /// A command needs it yet.
    #[error("a task that has not ended needs the file {0}")]
    InUse(Digest),
    /// What came is something else.
    #[error(
        "what came is not the file {0}: a machine has a damaged copy; remove that (`DELETE /api/blobs/DIGEST`) and try again"
    )]
    Differs(Digest),
    /// The disk refused.
    #[error("the disk: {0}")]
    Disk(String),
    /// It could not be sent, or not to its end.
    #[error("the file did not come over: {0}; try again")]
    Cut(String),
    /// No other node took a copy.
    #[error("no other machine took a copy of the file {digest}: {why}; it is here alone, try again")]
    Alone {
        /// Of what.
        digest: Digest,
        /// What the last one said.
        why: String,
    },
    /// The other node could not be asked.
    #[error(transparent)]
    Link(#[from] Error),
}
