//! What a node's ModelsActor can be told and asked.

use ractor::RpcReplyPort;
use ractor_cluster_derive::RactorClusterMessage;
use serde::{Deserialize, Serialize};
use skep_runtime::{NodeId, Ticket, Wire};
use uuid::Uuid;

/// What the ModelsActor understands.
#[derive(RactorClusterMessage)]
pub enum Message {
    /// The models whose weights lie on this node.
    #[rpc]
    List(RpcReplyPort<Wire<Vec<Model>>>),
    /// One of them, by name.
    #[rpc]
    Get(Wire<String>, RpcReplyPort<Wire<Result<Model, ModelError>>>),
    /// Fetch a model (see [`Source`](crate::model::Source)): [`PullEvent`] frames on the stream of this ticket, the last
    /// is `Done` or `Failed`. Two pulls of one model are one; closing the stream doesn't end the pull. `NodeId` is who
    /// expects the stream. A path, or a server on loopback, only for this node's owner: when this node itself expects it.
    #[rpc]
    Pull(Wire<(String, NodeId, Ticket)>, RpcReplyPort<Wire<Result<(), ModelError>>>),
    /// Remove a model's file. Refused while a shard of it is loaded here.
    #[rpc]
    Delete(Wire<String>, RpcReplyPort<Wire<Result<(), ModelError>>>),
    /// The pipeline that serves a model, started if there is none: (node, published name). `None` is the default
    /// model, fetched if it isn't anywhere. Repeated requests are one: after a timeout, ask again and go on waiting.
    #[rpc]
    Serve(Wire<Serve>, RpcReplyPort<Wire<Result<Served, ModelError>>>),
    /// How a model would be split now, and how fast each way is predicted to be.
    #[rpc]
    Plan(Wire<Serve>, RpcReplyPort<Wire<Result<Plan, ModelError>>>),
    /// Between nodes: the same for the file with this digest, which lies on the node that is asked: (digest, stages).
    /// It fetches nothing and asks nobody else who has it.
    #[rpc]
    ServeDigest(Wire<(String, Option<u16>)>, RpcReplyPort<Wire<Result<Served, ModelError>>>),
    /// Between nodes: how it would be split now.
    #[rpc]
    PlanDigest(Wire<(String, Option<u16>)>, RpcReplyPort<Wire<Result<Plan, ModelError>>>),
    /// Between nodes: what this node could give a shard of the model with this digest.
    #[rpc]
    Room(Wire<String>, RpcReplyPort<Wire<Room>>),
    /// Between nodes: load layers [from, to) of the model with this digest as a shard for a pipeline.
    #[rpc]
    Load(Wire<LoadShard>, RpcReplyPort<Wire<Result<Loaded, ModelError>>>),
    /// Between nodes: that pipeline has ended, free its shard.
    #[rpc]
    Unload(Wire<Uuid>, RpcReplyPort<Wire<()>>),
    /// Between nodes: send the file with this digest over the stream of this ticket: raw bytes from an offset.
    #[rpc]
    Send(Wire<(String, u64, NodeId, Ticket)>, RpcReplyPort<Wire<Result<u64, ModelError>>>),
}

/// A model on this node's disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// The name to ask for it by.
    pub name: String,
    /// SHA-256 of the file, in hex.
    pub digest: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// `llama`.
    pub architecture: String,
    /// `Q4_1`, `Q8_0`, ...
    pub quantization: String,
    /// Transformer layers.
    pub layers: u32,
    /// Width of the hidden states.
    pub hidden: u32,
    /// The longest context, in tokens.
    pub context: u32,
    /// Tokens in the vocabulary.
    pub vocabulary: u32,
    /// Where it came from.
    pub source: String,
    /// When it was added, in milliseconds since 1970.
    pub added_ms: u64,
}

/// Progress of a pull.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullEvent {
    /// What is being done now, for people.
    Stage(String),
    /// Bytes so far and in all, if known.
    Bytes {
        /// So far.
        done: u64,
        /// In all, 0 if the source doesn't tell.
        total: u64,
    },
    /// It is here, verified, under this name.
    Done(String),
    /// It is not; why, and what to do.
    Failed(String),
}

/// What to serve.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Serve {
    /// The model's name or source; `None` is the default model.
    pub model: Option<String>,
    /// Split over exactly this many nodes; `None` lets the planner choose (one, if it fits).
    pub stages: Option<u16>,
}

/// A served model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Served {
    /// The model's name.
    pub model: String,
    /// Where its pipeline lives.
    pub node: NodeId,
    /// The pipeline's published name there.
    pub actor: String,
    /// How it is split.
    pub plan: Plan,
}

/// A way to place a model, with its prediction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The model's name.
    pub model: String,
    /// Its digest.
    pub digest: String,
    /// Its stages in order.
    pub stages: Vec<Stage>,
    /// Tokens a second for one request, predicted for these stages.
    pub predicted: f64,
    /// The same for the best single node, if one has room.
    pub predicted_alone: Option<f64>,
    /// For people: why this plan, and what would be faster.
    pub reason: String,
}

/// One stage of a plan: layers [from, to) on a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Where.
    pub node: NodeId,
    /// First layer.
    pub from: u32,
    /// One past the last layer.
    pub to: u32,
    /// Bytes of weights.
    pub weight_bytes: u64,
}

/// A request to load a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadShard {
    /// The shard's id, chosen by the pipeline; repeated requests are one.
    pub id: Uuid,
    /// The model's name, for people.
    pub model: String,
    /// Its digest.
    pub digest: String,
    /// A node that has the file, should this one lack it.
    pub source: NodeId,
    /// First layer.
    pub from: u32,
    /// One past the last layer.
    pub to: u32,
    /// Tokens of context, all sequences together, to set memory aside for.
    pub cache_tokens: u64,
    /// The node of its pipeline: when that is gone, the shard ends.
    pub pipeline: NodeId,
}

/// What a node could give a shard.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Room {
    /// Bytes of memory that a shard may take.
    pub memory_bytes: u64,
    /// Bytes of this model's weights that it reads a second, if that was measured there.
    pub bytes_per_second: Option<f64>,
    /// Whether the file lies there.
    pub has_file: bool,
}

/// A loaded shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    /// The published name of its actor on the node that was asked.
    pub actor: String,
    /// Bytes of weights in memory.
    pub weight_bytes: u64,
    /// Bytes of cache for each token of context.
    pub cache_bytes_per_token: u64,
}

/// Why a model could not be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// Not on this node, nor anywhere in the swarm.
    #[error("no such model: {0} (`skep models` lists them, `skep pull` fetches one)")]
    NoSuchModel(String),
    /// The source's text is none of the known forms.
    #[error("{0}: not a path, an https URL, hf:OWNER/REPO/FILE or pypi:PACKAGE==VERSION")]
    BadSource(String),
    /// The source did not give it.
    #[error("the model could not be fetched: {0}")]
    Fetch(String),
    /// The pull that was waited for ended like this.
    #[error("{0}")]
    Pull(String),
    /// The file is damaged, hostile or of an unknown kind.
    #[error("the model file is not usable: {0}")]
    BadFile(String),
    /// The disk or the memory does not suffice.
    #[error("no room: {0}")]
    NoRoom(String),
    /// It is loaded.
    #[error("the model {0} is in use: end what serves it first")]
    InUse(String),
    /// A plan with that many stages is impossible.
    #[error("can't split over {wanted} nodes: {reason}")]
    NoPlan {
        /// What was asked for.
        wanted: u16,
        /// Why not.
        reason: String,
    },
    /// The disk refused.
    #[error("the disk: {0}")]
    Store(String),
    /// A stage was lost before the model could be served.
    #[error("the model could not be started: {0}; ask again, it will be placed anew")]
    Start(String),
    /// Another node did not answer.
    #[error("{0}")]
    Link(#[from] skep_runtime::Error),
}
