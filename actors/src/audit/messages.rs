//! What the AuditActor can be told and asked.

use super::{
    chain::Fault,
    entry::{Entry, Head, What},
};
use crate::digest::Digest;
use ractor::RpcReplyPort;
use ractor_cluster_derive::RactorClusterMessage;
use serde::{Deserialize, Serialize};
use skep_runtime::{NodeId, Wire};
use uuid::Uuid;

/// What the AuditActor understands.
#[derive(RactorClusterMessage)]
pub enum Message {
    /// These happened, in this order. Answered when they are on the disk, with the last one's number: all of them, or none.
    #[rpc]
    Append(Wire<Vec<What>>, RpcReplyPort<Wire<Result<u64, AuditError>>>),
    /// What the swarm has about a turn, in the order of time. Of machines that don't answer it is left out.
    #[rpc]
    Turn(Wire<Uuid>, RpcReplyPort<Wire<Vec<Entry>>>),
    /// The newest entries of the swarm, at most this many, the newest first.
    #[rpc]
    List(Wire<u32>, RpcReplyPort<Wire<Vec<Entry>>>),
    /// Every member of the swarm: one that is up checks its log, and is compared with what this node has seen of it.
    #[rpc]
    VerifyAll(RpcReplyPort<Wire<Vec<Verified>>>),
    /// Between nodes: what that node has about a turn.
    #[rpc]
    OfTurn(Wire<Uuid>, RpcReplyPort<Wire<Vec<Entry>>>),
    /// Between nodes: that node's newest entries.
    #[rpc]
    Newest(Wire<u32>, RpcReplyPort<Wire<Vec<Entry>>>),
    /// Between nodes: the hash of one entry of that node's log, if it is there.
    #[rpc]
    At(Wire<u64>, RpcReplyPort<Wire<Option<Digest>>>),
    /// Between nodes: the nodes in whose logs that node has seen an entry.
    #[rpc]
    Seen(RpcReplyPort<Wire<Vec<NodeId>>>),
    /// Between nodes: check your log. The asking node has seen this of it.
    #[rpc]
    Verify(Wire<Option<Head>>, RpcReplyPort<Wire<Report>>),
}

/// What the check of a log came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// How many entries were checked.
    pub entries: u64,
    /// Where the log stands: its last good entry.
    pub head: Head,
    /// The first thing that is wrong with it.
    pub fault: Option<Fault>,
}

/// A node's log, checked; or why it could not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Whose.
    pub node: NodeId,
    /// What the node is called.
    pub name: String,
    /// What came of it; `Err`, and why, if it was not looked at.
    pub report: Result<Report, String>,
    /// A member that answers, and whose log it is not, has seen an entry of it. Without one nobody else could tell if all of it
    /// was written anew.
    pub anchored: bool,
}

/// Why something is not in the log. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The disk did not take it.
    #[error("the audit log could not be written: {0}")]
    Store(String),
    /// More is waiting to be written than is kept in memory.
    #[error("the audit log can't keep up: {0} entries wait for the disk")]
    Busy(usize),
    /// The node is stopping.
    #[error("this node is stopping")]
    Closed,
}
