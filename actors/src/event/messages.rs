//! What the EventsActor can be told: by other nodes' EventsActors alone. Actors of its own node publish through
//! [`Events`](super::Events).

use ractor::RpcReplyPort;
use ractor_cluster_derive::RactorClusterMessage;
use serde::{Deserialize, Serialize};
use skep_runtime::{NodeId, Ticket, Wire};

/// What the EventsActor understands.
#[derive(RactorClusterMessage)]
pub enum Message {
    /// Tell what happens on this node from now on: [`Event`](super::Event) frames on the stream of this ticket, which
    /// `NodeId` expects. Answered when the stream is open.
    #[rpc]
    Follow(Wire<(NodeId, Ticket)>, RpcReplyPort<Wire<Result<(), FollowError>>>),
}

/// Why a node does not tell another what happens on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum FollowError {
    /// It tells as many as it may.
    #[error("{0} nodes are being told already")]
    Full(usize),
    /// The stream could not be opened.
    #[error("{0}")]
    Link(#[from] skep_runtime::Error),
}
