//! What the NodeActor can be told and asked, and the card by which others know a node.

use crate::task::Level;
use ractor::RpcReplyPort;
use ractor_cluster_derive::RactorClusterMessage;
use serde::{Deserialize, Serialize};
use skep_runtime::{
    Load, Member, NodeId, Wire,
    swarm::{self, Finding, Invite, Waiting},
};
use std::{collections::BTreeMap, net::SocketAddr};

/// What the NodeActor understands.
#[derive(RactorClusterMessage)]
pub enum Message {
    /// Everything about this node.
    #[rpc]
    Status(RpcReplyPort<Wire<Status>>),
    /// The swarm in a few numbers, from this node's picture.
    #[rpc]
    Summary(RpcReplyPort<Wire<Summary>>),
    /// Everyone on the roster with their cards, this node included.
    #[rpc]
    List(RpcReplyPort<Wire<Vec<Listed>>>),
    /// One member, by key, unique prefix of the key, or name.
    #[rpc]
    Get(Wire<String>, RpcReplyPort<Wire<Result<Listed, NodeError>>>),
    /// Checks of this node, each with what was found.
    #[rpc]
    Health(RpcReplyPort<Wire<Health>>),
    /// Every metric by name.
    #[rpc]
    Metrics(RpcReplyPort<Wire<BTreeMap<String, i64>>>),
    /// The metrics as OpenMetrics text.
    #[rpc]
    MetricsText(RpcReplyPort<Wire<String>>),
    /// Take no new work, or take work again. Answered when that is saved and announced.
    #[rpc]
    Drain(Wire<Duty>, RpcReplyPort<Wire<Result<(), NodeError>>>),
    /// Give this machine labels, or take them away (`None`), all or none of them; they survive restarts. Answered with its
    /// owner's labels once they are saved and announced; others pull them a moment later.
    #[rpc]
    Label(Wire<Labelling>, RpcReplyPort<Wire<Result<BTreeMap<String, String>, NodeError>>>),
    /// Open an invitation. Only for this node's owner: refused when it comes from another node.
    #[rpc]
    Invite(RpcReplyPort<Wire<Result<Invite, NodeError>>>),
    /// Whether this is the line of an invitation of this node's that still lets a machine in.
    #[rpc]
    Opens(Wire<String>, RpcReplyPort<Wire<bool>>),
    /// Join a swarm by an invite line or `CODE@HOST:PORT`.
    #[rpc]
    Join(Wire<String>, RpcReplyPort<Wire<Result<(), NodeError>>>),
    /// The machines that wait to be let in.
    #[rpc]
    Waiting(RpcReplyPort<Wire<Vec<Waiting>>>),
    /// Let in the machine whose screen shows this code.
    #[rpc]
    Approve(Wire<String>, RpcReplyPort<Wire<Result<NodeId, NodeError>>>),
    /// Take a member off the roster: key, prefix or name; by force without a majority.
    #[rpc]
    Evict(Wire<(String, bool)>, RpcReplyPort<Wire<Result<NodeId, NodeError>>>),
    /// Say goodbye; with `true`, also forget the swarm.
    #[rpc]
    Leave(Wire<bool>, RpcReplyPort<Wire<Result<(), NodeError>>>),
    /// What stands between this node and its peers.
    #[rpc]
    Diagnose(RpcReplyPort<Wire<Vec<Finding>>>),
    /// A model on this node came or went: the card changes.
    Models(Wire<Vec<CardModel>>),
    /// A pipeline on this node came or went: the card changes.
    Pipelines(Wire<Vec<CardPipeline>>),
    /// Work on this node came or went: (running, queued).
    Work(Wire<(u16, u16)>),
}

/// What a machine does for the swarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Duty {
    /// It takes work.
    #[default]
    Work,
    /// It takes no new work; what runs there goes on to its end.
    NoNewWork,
    /// It takes no new work, and what still runs after so many seconds is ended there and run elsewhere from its beginning.
    /// What must run there fails.
    NoWork {
        /// Seconds from now.
        within_s: u64,
    },
}

/// Labels by key; without a value, one that is to go.
pub type Labelling = BTreeMap<String, Option<String>>;

/// A node's card: what others need to know to give it work. Pulled when its version changes; a few KiB.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Card {
    /// Skep's version.
    pub version: String,
    /// `linux`, `macos`, `windows`.
    pub os: String,
    /// The system's own words about itself.
    pub os_version: String,
    /// `x86_64`, `aarch64`.
    pub arch: String,
    /// `laptop`, `desktop`, `server`, `pi`, `unknown`.
    pub device_type: String,
    /// Logical cores.
    pub cpus: u16,
    /// The processor's name.
    pub cpu_name: String,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of memory free for work when the card was made.
    pub memory_free_bytes: u64,
    /// Bytes of the disk that holds the node's folder.
    pub disk_bytes: u64,
    /// Bytes free on it when the card was made.
    pub disk_free_bytes: u64,
    /// Graphics processors; empty is normal.
    pub gpus: Vec<Gpu>,
    /// The strongest fence that it can put around a command: tried, not assumed.
    pub sandbox: Level,
    /// Models whose weights lie here.
    pub models: Vec<CardModel>,
    /// Models that are served from here.
    pub pipelines: Vec<CardPipeline>,
    /// What its owner says of it, for placement.
    pub labels: BTreeMap<String, String>,
    /// When the node started, in milliseconds since 1970.
    pub started_ms: u64,
}

/// One graphics processor.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Gpu {
    /// The vendor's name for it.
    pub name: String,
    /// `nvidia`, `amd`, `intel`, `apple`, or the PCI vendor id.
    pub vendor: String,
    /// `cuda`, `vulkan`, `metal`: how it can be driven.
    pub backend: String,
    /// Bytes of its memory, 0 if the driver doesn't tell.
    pub memory_bytes: u64,
    /// Bytes of it in use, 0 if the driver doesn't tell.
    pub used_bytes: u64,
    /// Driver version, if told.
    pub driver: String,
}

/// A model on a node's disk, as its card tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardModel {
    /// The name to ask for it by.
    pub name: String,
    /// SHA-256 of the file, in hex: equal digests are equal weights.
    pub digest: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// Transformer layers.
    pub layers: u32,
}

/// A pipeline on a node, as its card tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardPipeline {
    /// The model that it serves.
    pub model: String,
    /// The published name of its actor.
    pub actor: String,
    /// Over how many nodes it is split.
    pub stages: u16,
}

/// Everything about one node, from itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Its key.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Its card now.
    pub card: Card,
    /// Its load now.
    pub load: Load,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// Bytes of memory that this process holds.
    pub resident_bytes: u64,
    /// Where other nodes reach it.
    pub addresses: Vec<SocketAddr>,
}

/// A member with its card decoded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    /// What membership knows of it (its `card` bytes left empty here).
    pub member: Member,
    /// Its card; `None` until it was pulled.
    pub card: Option<Card>,
}

/// How well a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// All is well.
    Healthy,
    /// It works, but something wants looking after.
    Degraded,
    /// It can't do its work: what it acknowledges would not be kept.
    Unhealthy,
}

/// What the checks of a node found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// All of them together.
    pub verdict: Verdict,
    /// Each of them, and the milliseconds that it took.
    pub checks: Vec<(Finding, u64)>,
}

/// The swarm in a few numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Nodes on the roster.
    pub nodes: u32,
    /// Nodes that answer.
    pub online: u32,
    /// Logical cores of those.
    pub cpus: u32,
    /// Bytes of memory of those.
    pub memory_bytes: u64,
    /// Bytes of it in use.
    pub memory_used_bytes: u64,
    /// Bytes of their disks.
    pub disk_bytes: u64,
    /// Bytes of those in use.
    pub disk_used_bytes: u64,
    /// Their graphics processors.
    pub gpus: u32,
}

/// Why the NodeActor could not do it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// Nobody of that key, prefix or name.
    #[error("no such node: {0} (`skep nodes` lists them)")]
    NoSuchNode(String),
    /// Several members fit.
    #[error("{0} fits several nodes: give more of the id (`skep nodes`)")]
    Ambiguous(String),
    /// Membership said no.
    #[error(transparent)]
    Swarm(#[from] swarm::Error),
    /// A label is out of bounds, or not the owner's to give.
    #[error("{0}")]
    Label(String),
    /// It could not be written, so nothing changed: it would not survive a restart.
    #[error("it could not be saved: {0}")]
    Store(String),
}
