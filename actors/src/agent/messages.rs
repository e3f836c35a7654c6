//! What a node's AgentsActor can be told and asked, and the record of a run.

use super::{Told, Warrant};
use crate::{
    budget::{BudgetError, Warning},
    digest::Digest,
    pipeline::Turn,
    task::Level,
    thread::ThreadError,
};
use ractor::RpcReplyPort;
use ractor_cluster_derive::RactorClusterMessage;
use serde::{Deserialize, Serialize};
use skep_runtime::{NodeId, Ticket, Wire};
use uuid::Uuid;

/// What the AgentsActor understands.
#[derive(RactorClusterMessage)]
#[expect(clippy::large_enum_variant, reason = "a message moves once, into a mailbox that boxes it")]
pub enum Message {
    /// Work on a goal that a person or a client gives, here or on the node that it names, and go on with it on another when that
    /// one dies. Answered when it is on record here and on another member, if one answers. What is asked about it is asked
    /// by the id that it is answered with, whichever run works on it ([`Run::given`]).
    #[rpc]
    Give(Wire<Goal>, RpcReplyPort<Wire<Result<Run, AgentError>>>),
    /// Between nodes: work on a goal on the node that is asked. Answered when its record is on disk and its budget is open.
    #[rpc]
    Start(Wire<Goal>, RpcReplyPort<Wire<Result<Run, AgentError>>>),
    /// One run, wherever it lives.
    #[rpc]
    Get(Wire<Uuid>, RpcReplyPort<Wire<Result<Run, AgentError>>>),
    /// The newest runs of the whole swarm, at most this many.
    #[rpc]
    List(Wire<u32>, RpcReplyPort<Wire<Vec<Run>>>),
    /// The runs that live on this node.
    #[rpc]
    Own(Wire<u32>, RpcReplyPort<Wire<Vec<Run>>>),
    /// End a run and its sub-agents; what it has so far is kept.
    #[rpc]
    Cancel(Wire<Uuid>, RpcReplyPort<Wire<Result<Run, AgentError>>>),
    /// Start a sub-agent of a run, as if the run had: which run, and the arguments of its tool as JSON text. It may have what
    /// the run has, and ends with it. Answered when it is on its way.
    #[rpc]
    Spawn(Wire<(Uuid, String)>, RpcReplyPort<Wire<Result<Spawned, AgentError>>>),
    /// Follow a run and its sub-agents: [`Event`] frames on the stream of this ticket until the run has ended.
    /// `NodeId` is who expects the stream.
    #[rpc]
    Follow(Wire<(Uuid, NodeId, Ticket)>, RpcReplyPort<Wire<Result<(), AgentError>>>),
    /// Between nodes: a run that lives on the node that is asked; it asks nobody else.
    #[rpc]
    Find(Wire<Uuid>, RpcReplyPort<Wire<Result<Run, AgentError>>>),
    /// Between nodes, to where a tree's root lives: may this run (the second) be one of the tree of that one? Repeatable.
    #[rpc]
    Admit(Wire<(Uuid, Uuid)>, RpcReplyPort<Wire<Result<(), AgentError>>>),
    /// Between nodes: a sub-agent moved on; to the node where its parent lives. Repeated until it is answered.
    #[rpc]
    Moved(Wire<Told>, RpcReplyPort<Wire<()>>),
}

/// A goal, as it was given.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Goal {
    /// What is wanted, in words. At most 32 KiB.
    pub goal: String,
    /// How it is worked on.
    pub strategy: Strategy,
    /// The tools that it may use, by name; a sub-agent's are a subset of its parent's.
    pub tools: Vec<String>,
    /// At least this strong a fence is around its commands, and those of its sub-agents. `None` is as strong a one as the
    /// node has that it starts on.
    pub sandbox: Option<Level>,
    /// The model, or `None` for the node's default.
    pub model: Option<String>,
    /// Where it shall live: key, unique prefix or name; `None` leaves the choice open.
    pub node: Option<String>,
    /// The tokens that it and its sub-agents may spend in all. For a sub-agent: the most it may lease.
    pub budget: u64,
    /// The money that it and its sub-agents may spend in all, in millionths; `None` is as much as the tokens cost. Of the
    /// thread alone: a sub-agent has none of its own.
    pub budget_cost: Option<u64>,
    /// Whose sub-agent it is; `None` for a goal that a person or a client gave.
    pub parent: Option<Parent>,
    /// Documents for `map_reduce`: name and text. 4 MiB in all; larger goes by `folder`.
    pub documents: Vec<(String, String)>,
    /// The same, as one of the swarm's files.
    pub kept: Option<Digest>,
    /// A folder on the node that it starts on, whose text files are its documents.
    pub folder: Option<String>,
    /// What gives a sub-agent its rights; empty for a goal that a person or a client gave.
    pub warrant: Warrant,
    /// The turn of a thread that this is; `None` for a goal that is a thread of its own.
    pub seat: Option<Box<Seat>>,
    /// Of a sub-agent: the agent that the swarm has defined and that its whole tree works for, if it is one. Rules about that
    /// agent are rules about its sub-agents, too.
    pub agent: Option<String>,
}

/// A turn of a thread: an agent that the swarm has defined answers a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// The turn, and which attempt at it this is: its run's id, so that a repeated request is one request.
    pub run: Uuid,
    /// The turn.
    pub turn: Uuid,
    /// The thread, whose budget it spends.
    pub thread: Uuid,
    /// The node that keeps the thread and its budget, and is told how the run goes.
    pub owner: NodeId,
    /// The agent's name; empty for a goal that is no agent's.
    pub agent: String,
    /// What the agent is told about itself: the head of its system prompt.
    pub instructions: String,
    /// The agents that it may ask, and what for.
    pub peers: Vec<(String, String)>,
    /// What was said in the thread before, oldest first. Dropped from the record.
    pub history: Vec<Turn>,
    /// What an earlier attempt had come to, on a node that is gone: done steps are not done again.
    pub done: Vec<Step>,
    /// How many agents wait for its answer, one for the other's: 0 if a person or a client asks.
    pub waiting: u8,
}

/// A sub-agent that is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spawned {
    /// Its run.
    pub id: Uuid,
    /// Where it shall live.
    pub node: NodeId,
}

/// Whose sub-agent a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// The parent's run.
    pub run: Uuid,
    /// Where it lives.
    pub node: NodeId,
    /// The thread whose budget both spend.
    pub thread: Uuid,
    /// The node that owns the thread's budget.
    pub budget_owner: NodeId,
    /// The run at the root of the tree.
    pub root: Uuid,
    /// Where that lives.
    pub root_node: NodeId,
    /// The turn that the whole tree works for: the root's, or the root run itself.
    pub turn: Uuid,
    /// How deep the tree is here; the goal that a person gave is 0.
    pub depth: u8,
    /// The sub-agent's id, chosen by its parent: a repeated request is one request.
    pub child: Uuid,
    /// What it does in its tree: one that takes a lost one's place does the same, so that what the lost one had done is known.
    pub errand: Digest,
}

/// How a goal is worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// One prompt, one answer.
    #[default]
    Answer,
    /// Each document is worked on by a sub-agent, the parts are put together.
    MapReduce,
    /// The model thinks, calls tools, sees their results, until it answers.
    React,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It waits for a place.
    Pending,
    /// It is worked on.
    Running,
    /// It has its answer.
    Completed,
    /// It could not finish; `error` says why, `output` has what there is.
    Failed,
    /// Somebody ended it; `output` has what there is.
    Cancelled,
    /// The node that it lived on died. Its parent was told and may have started it elsewhere.
    Lost,
}

impl RunState {
    /// Whether nothing more will come of it.
    pub fn ended(self) -> bool {
        !matches!(self, RunState::Pending | RunState::Running)
    }
}

/// One step of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// From 1.
    pub number: u32,
    /// `think`, `map`, `reduce`, or a tool's name.
    pub tool: String,
    /// What it was called with, as JSON text; bounded.
    pub args: String,
    /// What came of it; bounded.
    pub result: Option<String>,
    /// Where it stands.
    pub state: RunState,
    /// Milliseconds that it took so far.
    pub elapsed_ms: u64,
    /// Tokens that it spent.
    pub tokens: u64,
}

/// The record of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its id.
    pub id: Uuid,
    /// What was asked for; its documents are dropped here, only their names remain.
    pub goal: Goal,
    /// Where it lives.
    pub node: NodeId,
    /// The thread whose budget it spends: the one that it is a turn of, or the root run's id.
    pub thread: Uuid,
    /// Where it stands.
    pub state: RunState,
    /// Its steps so far; at most 64, the oldest fall out.
    pub steps: Vec<Step>,
    /// Its sub-agents: (run, node).
    pub children: Vec<(Uuid, NodeId)>,
    /// Its answer, or what there is of it.
    pub output: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// It failed because the thread's budget, or its own share, is used up.
    pub exhausted: bool,
    /// Tokens that it spent itself, without its sub-agents.
    pub tokens: u64,
    /// Those of them that its prompts had.
    pub prompt_tokens: u64,
    /// The model that answered last.
    pub answered_by: Option<String>,
    /// What its first prompt was made of.
    pub context: Option<Snapshot>,
    /// Times in milliseconds since 1970.
    pub created_ms: u64,
    /// When it ended.
    pub completed_ms: Option<u64>,
}

impl Run {
    /// What it is known by to people and clients: the goal that it is an attempt at, or itself.
    pub fn given(&self) -> Uuid {
        let goal = self.goal.seat.as_ref().filter(|seat| seat.agent.is_empty());
        goal.map_or(self.id, |seat| seat.turn)
    }

    /// Whether it ended because its node did: another attempt may do better.
    pub fn was_interrupted(&self) -> bool {
        self.error.as_deref() == Some(super::children::RESTARTED)
    }
}

/// What a prompt was made of, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// What the agent is told about itself, and the rules.
    pub system: u32,
    /// What was said before.
    pub history: u32,
    /// How many messages that were.
    pub depth: u32,
    /// All of it.
    pub whole: u32,
}

impl Goal {
    /// The thread whose budget a run of this goal with this id spends.
    pub(super) fn thread(&self, id: Uuid) -> Uuid {
        let seated = self.seat.as_ref().map(|seat| seat.thread);
        self.parent.map(|parent| parent.thread).or(seated).unwrap_or(id)
    }

    /// The turn that a run of this goal with this id works for: what its calls of tools are told under.
    pub fn turn(&self, id: Uuid) -> Uuid {
        let seated = self.seat.as_ref().map(|seat| seat.turn);
        self.parent.map(|parent| parent.turn).or(seated).unwrap_or(id)
    }

    /// What a run of this goal with this id does in its tree: what its commands are known by, whichever attempt they are of.
    pub(super) fn errand(&self, id: Uuid) -> Digest {
        self.parent.map_or_else(|| Digest::of(self.turn(id).as_bytes()), |parent| parent.errand)
    }

    /// The weakest fence that its commands may have: none goes without.
    pub(super) fn fence(&self) -> Level {
        self.sandbox.unwrap_or_default().max(Level::Landlock)
    }

    /// The name of the defined agent that a run of this goal works for; empty if it is none.
    pub fn agent_name(&self) -> &str {
        let seated = self.seat.as_ref().map(|seat| seat.agent.as_str());
        seated.or(self.agent.as_deref()).unwrap_or_default()
    }

    /// The node that keeps that budget, for a run on `me`.
    pub(super) fn budget_owner(&self, me: NodeId) -> NodeId {
        let seated = self.seat.as_ref().map(|seat| seat.owner);
        self.parent.map(|parent| parent.budget_owner).or(seated).unwrap_or(me)
    }
}

impl Run {
    /// A run that begins on `node`, in its parent's thread or in one of its own.
    pub(super) fn new(id: Uuid, goal: Goal, node: NodeId, created_ms: u64) -> Run {
        Run {
            id,
            thread: goal.thread(id),
            goal,
            node,
            state: RunState::Running,
            steps: Vec::new(),
            children: Vec::new(),
            output: None,
            error: None,
            exhausted: false,
            tokens: 0,
            prompt_tokens: 0,
            answered_by: None,
            context: None,
            created_ms,
            completed_ms: None,
        }
    }
}

/// One frame of a followed run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The run, or a sub-agent of it at any depth, as it is now. Sent at each step.
    Run(Box<Run>),
    /// Where the thread's budget stands: spent, leased or reserved, max.
    Budget {
        /// Tokens spent.
        spent: u64,
        /// Tokens set aside or out on lease.
        held: u64,
        /// The budget.
        max: u64,
    },
    /// The thread's budget has passed a threshold: each is sent once to whoever follows, those passed before too.
    Warning(Warning),
    /// The run has ended; nothing follows.
    End,
}

impl From<ThreadError> for AgentError {
    fn from(error: ThreadError) -> AgentError {
        match error {
            ThreadError::Budget(error) => error.into(),
            ThreadError::Link(error) => error.into(),
            ThreadError::Full(why) => AgentError::Limit(why),
            ThreadError::NoSuchTurn(id) => AgentError::NoSuchRun(id),
            ThreadError::Invalid { field, reason } => AgentError::Invalid { field, reason },
            other => AgentError::Store(other.to_string()),
        }
    }
}

/// Why an agent could not be started or found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// No such run.
    #[error("Agent not found: {0}")]
    NoSuchRun(Uuid),
    /// The named node is not in the swarm, or does not answer.
    #[error("no such node, or it is down: {0} (`skep nodes` lists them)")]
    NoSuchNode(String),
    /// A field is out of its bounds, or names a tool that does not exist.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field's name.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The tree of sub-agents is as deep, or as large, as it may be.
    #[error("no more agents: {0}")]
    Limit(String),
    /// As many as may be are at work at once, or it has not begun.
    #[error("not now: {0}; try again in a moment")]
    Full(String),
    /// What a sub-agent shows for its rights doesn't hold.
    #[error("a sub-agent's warrant is refused: {0}")]
    Warrant(String),
    /// A sub-agent asked for a tool that its parent does not have.
    #[error("a sub-agent can't have {0}: its parent doesn't")]
    Rights(String),
    /// Its budget could not be opened.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// The record could not be written.
    #[error("the run could not be saved, so it was not started: {0}")]
    Store(String),
    /// Another node did not answer.
    #[error("{0}")]
    Link(#[from] skep_runtime::Error),
    /// The named node could be several.
    #[error("{0} fits several nodes: give more of the id (`skep nodes`)")]
    Ambiguous(String),
}
