//! What ledgers say to each other. Owners of records write through [`super::Ledger`], which needs no message.

use super::{
    core::{Line, TooLarge},
    entry::{Entry, Key},
};
use ractor::RpcReplyPort;
use ractor_cluster_derive::RactorClusterMessage;
use serde::{Deserialize, Serialize};
use skep_runtime::Wire;

/// Bytes of records in one message: half of what a message may have, since estimates are rough.
pub(super) const PARCEL_BYTES_MAX: usize = 512 << 10;
/// Keys that are asked for at once, and lines of one page of a list.
pub(super) const LINES_MAX: usize = 1024;

/// What the LedgerActor understands.
#[derive(RactorClusterMessage)]
pub enum Message {
    /// Have these. Answered once what is news is on the disk.
    #[rpc]
    Push(Wire<Vec<Entry>>, RpcReplyPort<Wire<Result<Taken, Error>>>),
    /// The digest of everything there: the digests of the branches here, or none if it is the same.
    #[rpc]
    Branches(Wire<u64>, RpcReplyPort<Wire<Vec<u64>>>),
    /// The digests of these branches' leaves, in the same order.
    #[rpc]
    Leaves(Wire<Vec<u8>>, RpcReplyPort<Wire<Vec<Vec<u64>>>>),
    /// What there is in a leaf, behind a key: at most [`LINES_MAX`] lines; fewer mean that no more follow.
    #[rpc]
    List(Wire<(u16, Option<Key>)>, RpcReplyPort<Wire<Vec<Line>>>),
    /// These records, as many as a message holds: those at the end of the list are asked for again.
    #[rpc]
    Fetch(Wire<Vec<Key>>, RpcReplyPort<Wire<Vec<Entry>>>),
    /// Everyone has heard of these deletions: they may be forgotten.
    Settled(Wire<Vec<Line>>),
}

/// What became of records that were sent: so many of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// There is a later version there.
    pub later: usize,
    /// They were not taken: too large, or stamped too far in the future.
    pub missing: usize,
    /// Another node owns them there, or that node has voted for another: it has them, but it doesn't count.
    pub fenced: usize,
}

/// Why the ledger did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Error {
    /// Nothing was written.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// The disk did not take it; nothing was written.
    #[error("the ledger's disk: {0}")]
    Store(String),
    /// It is on this node's disk, but no other member that seems to be up has confirmed it. It may be lost with this
    /// machine; it will reach the others when they answer.
    #[error("it is written here, but no other node has confirmed it: if this machine is lost now, so is this")]
    Alone,
    /// It is on this node's disk, but too many of the others have it from another owner by now, or have voted for one.
    #[error("another node has taken it over, or is about to")]
    Fenced,
    /// The node has just changed swarms and puts its records in order.
    #[error("this node has just changed swarms: it takes records in a moment")]
    Moving,
    /// The node is stopping.
    #[error("this node is stopping")]
    Closed,
}

impl From<skep_runtime::store::Error> for Error {
    fn from(error: skep_runtime::store::Error) -> Error {
        Error::Store(error.to_string())
    }
}
