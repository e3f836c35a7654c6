//! What the OrganismActor can be told and asked.

use super::draft::{Agent, Frame, Problem};
use crate::ledger;
use ractor::RpcReplyPort;
use ractor_cluster_derive::RactorClusterMessage;
use serde::{Deserialize, Serialize};
use skep_runtime::Wire;

/// What the OrganismActor understands. All of it is the owner's of this node: definitions reach others by the ledger.
#[derive(RactorClusterMessage)]
pub enum Message {
    /// Take this definition in place of what there is. Answered when it is on disk here and on another member, if one
    /// answers.
    #[rpc]
    Load(Wire<String>, RpcReplyPort<Wire<Result<Change, OrganismError>>>),
    /// The same with the file in this node's folder: `organism.toml` or `organism.yaml`.
    #[rpc]
    Reload(RpcReplyPort<Wire<Result<Change, OrganismError>>>),
    /// What holds for all, and all agents by name, each with whether it works.
    #[rpc]
    List(RpcReplyPort<Wire<Result<Listed, OrganismError>>>),
    /// Let an agent work, or not.
    #[rpc]
    Set(Wire<(String, Standing)>, RpcReplyPort<Wire<Result<(), OrganismError>>>),
    /// Let an agent think with this model; `None` for the default one.
    #[rpc]
    Model(Wire<(String, Option<String>)>, RpcReplyPort<Wire<Result<ModelChange, OrganismError>>>),
}

/// Whether an agent works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Standing {
    /// It answers what it is told.
    #[default]
    Ready,
    /// It begins nothing new; what comes waits.
    Paused,
    /// It begins nothing new, and nothing is taken for it.
    Stopped,
}

/// An organism.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Listed {
    /// What holds for all.
    pub frame: Frame,
    /// The agents by name.
    pub agents: Vec<(Agent, Standing)>,
}

/// What a definition changed: names of agents.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Change {
    /// New ones.
    pub added: Vec<String>,
    /// Those that it no longer names.
    pub removed: Vec<String>,
    /// Those that are defined otherwise now.
    pub updated: Vec<String>,
}

/// An agent's model was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelChange {
    /// The one before.
    pub old: Option<String>,
    /// The one now.
    pub new: Option<String>,
}

/// Why it was not done; nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum OrganismError {
    /// The definition makes no sense, for these reasons.
    #[error("the definition was not taken: {}", told(.0))]
    Wrong(Vec<Problem>),
    /// There is no such agent.
    #[error("Agent not found: {0}")]
    NoSuchAgent(String),
    /// There is no file to read.
    #[error(
        "there is no organism.toml, organism.yaml or organism.yml in this node's folder; `skep organism load FILE` loads any"
    )]
    NoFile,
    /// The file can't be read.
    #[error("the definition can't be read: {0}")]
    Unreadable(String),
    /// It could not be written.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// It could not be read.
    #[error("the definitions can't be read: {0}")]
    Store(String),
}

fn told(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; ")
}

impl From<skep_runtime::store::Error> for OrganismError {
    fn from(error: skep_runtime::store::Error) -> OrganismError {
        OrganismError::Store(error.to_string())
    }
}
