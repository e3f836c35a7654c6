//! What nodes say to each other about leases and votes.

use super::lease::{Ballot, Verdict};
use ractor::RpcReplyPort;
use ractor_cluster_derive::RactorClusterMessage;
use serde::{Deserialize, Serialize};
use skep_runtime::{NodeId, Wire};

/// What the OwnershipActor understands.
#[derive(RactorClusterMessage)]
pub enum Message {
    /// Does this node count in this epoch? An error is the last of its epochs in which it doesn't.
    #[rpc]
    Touch(Wire<(NodeId, u64)>, RpcReplyPort<Wire<Result<(), u64>>>),
    /// May a node take these records? Answered in the same order, once the votes are on the disk; an error says why they
    /// are not.
    #[rpc]
    Vote(Wire<Vec<Poll>>, RpcReplyPort<Wire<Result<Vec<Verdict>, String>>>),
}

/// A ballot, and whether it counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Poll {
    /// The question.
    pub ballot: Ballot,
    /// Only how the vote would be: an owner that merely seems to be gone loses nothing by the question.
    pub dry: bool,
}
