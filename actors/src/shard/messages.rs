//! What an InferenceShardActor can be told and asked.

use ractor::RpcReplyPort;
use ractor_cluster_derive::RactorClusterMessage;
use serde::{Deserialize, Serialize};
use skep_runtime::{NodeId, Ticket, Wire};

/// What an InferenceShardActor understands.
#[derive(RactorClusterMessage)]
pub enum Message {
    /// Become a stage of a chain, once. Answered when the output is open and the input is expected.
    #[rpc]
    Attach(Wire<Attach>, RpcReplyPort<Wire<Result<(), ShardError>>>),
    /// Its figures now.
    #[rpc]
    Stats(RpcReplyPort<Wire<Stats>>),
}

/// A place in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// Which stage this is, from 0.
    pub stage: u16,
    /// Who opens the stream that brings work, and with which ticket.
    pub input: (NodeId, Ticket),
    /// Who expects the stream that takes the results, and under which ticket.
    pub output: (NodeId, Ticket),
}

/// A shard's figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stats {
    /// First layer.
    pub from: u32,
    /// One past the last layer.
    pub to: u32,
    /// Bytes of weights.
    pub weight_bytes: u64,
    /// Sequences that are open.
    pub sequences: u32,
    /// Tokens of context that they may grow to.
    pub reserved_tokens: u64,
    /// Bytes that their caches hold.
    pub cache_bytes: u64,
    /// Rows computed so far.
    pub rows: u64,
}

/// Why a shard could not become a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum ShardError {
    /// It is a stage already.
    #[error("this shard belongs to a chain already")]
    Attached,
    /// The stream to the next stage could not be opened, or the one from the stage before not be expected.
    #[error("the stage's streams can't be set up: {0}")]
    Link(#[from] skep_runtime::Error),
}
