//! What the ThreadBudgetActor can be told and asked.

use super::local::Local;
use ractor::RpcReplyPort;
use ractor_cluster_derive::RactorClusterMessage;
use serde::{Deserialize, Serialize};
use skep_runtime::{NodeId, Wire};
use uuid::Uuid;

/// What the ThreadBudgetActor understands.
#[derive(RactorClusterMessage)]
pub enum Message {
    /// Make a thread with this budget of tokens; its owner is this node. Answered when it is on disk.
    #[rpc]
    Open(Wire<(Uuid, u64)>, RpcReplyPort<Wire<Result<Budget, BudgetError>>>),
    /// Set tokens aside for a call that is about to be made, from what this node holds of the thread (all of it
    /// on the owner; a lease elsewhere, which is fetched or enlarged from the owner when it is too small).
    #[rpc]
    Reserve(Wire<(Uuid, u64)>, RpcReplyPort<Wire<Result<Reservation, BudgetError>>>),
    /// The call was made and cost this. More than was reserved is charged too, and said so in the thread.
    #[rpc]
    Settle(Wire<(Reservation, Spent)>, RpcReplyPort<Wire<Result<Budget, BudgetError>>>),
    /// The call was not made.
    #[rpc]
    Release(Wire<Reservation>, RpcReplyPort<Wire<()>>),
    /// Where a thread stands, asked of any node.
    #[rpc]
    Get(Wire<Uuid>, RpcReplyPort<Wire<Result<Budget, BudgetError>>>),
    /// All threads that this node knows, hottest first.
    #[rpc]
    List(RpcReplyPort<Wire<Vec<Budget>>>),
    /// This node will do a piece of work for a thread that lives on another: remember its owner.
    #[rpc]
    Adopt(Wire<(Uuid, NodeId)>, RpcReplyPort<Wire<()>>),
    /// One piece of this node's work for a thread ended: (thread, whose work). With the work that the thread was
    /// opened for, which has the thread's own id, the thread is over. On another node than the owner, when as many
    /// were done as adopted, what is held goes back to the owner: answered when the owner has it, or when it is noted
    /// to be returned later.
    #[rpc]
    Done(Wire<(Uuid, Uuid)>, RpcReplyPort<Wire<Result<(), BudgetError>>>),
    /// Totals of what was metered on this node, since the last reset.
    #[rpc]
    Usage(RpcReplyPort<Wire<Usage>>),
    /// Start counting anew: a mark, nothing is deleted.
    #[rpc]
    ResetUsage(RpcReplyPort<Wire<Result<(), BudgetError>>>),
    /// Between nodes: where a thread stands that this node owns; nobody else is asked.
    #[rpc]
    Look(Wire<Uuid>, RpcReplyPort<Wire<Result<Budget, BudgetError>>>),
    /// Between nodes, to the owner: a lease of this many tokens for (thread, lease id, tokens). The id makes a
    /// repeated request the same request.
    #[rpc]
    Lease(Wire<Lease>, RpcReplyPort<Wire<Result<u64, BudgetError>>>),
    /// Between nodes, to the owner: of this lease so much was spent in all; with `closed`, the rest is returned.
    /// Repeatable: amounts are totals of the lease, not differences.
    #[rpc]
    Report(Wire<LeaseReport>, RpcReplyPort<Wire<Result<Budget, BudgetError>>>),
    /// This node keeps a thread's budget from now on, which another one kept that is gone. Answered when it is on disk.
    #[rpc]
    Inherit(Wire<Estate>, RpcReplyPort<Wire<Result<Budget, BudgetError>>>),
    /// Another node keeps a thread's budget from now on: what is known of it here is forgotten.
    #[rpc]
    Yield(Wire<Uuid>, RpcReplyPort<Wire<()>>),
    /// From this actor's own tasks: the owner answered a request for a lease.
    Granted(Local<Granted>),
    /// From this actor's own tasks: the owner of this thread has this lease back.
    Returned(Local<(Uuid, Uuid)>),
}

/// What the owner said to a request for a lease, and for whom it was made.
pub struct Granted {
    pub(super) lease: Uuid,
    pub(super) answer: Result<u64, BudgetError>,
    pub(super) want: Want,
}

/// Somebody waits for a reservation.
pub(super) struct Want {
    pub(super) thread: Uuid,
    pub(super) tokens: u64,
    pub(super) rounds: u32,
    pub(super) reply: RpcReplyPort<Wire<Result<Reservation, BudgetError>>>,
}

/// A thread's budget, as one node sees it. All amounts in tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// The thread.
    pub thread: Uuid,
    /// The node that keeps the truth.
    pub owner: NodeId,
    /// What may be spent in all.
    pub max: u64,
    /// Spent on prompts.
    pub prompt: u64,
    /// Spent on completions.
    pub completion: u64,
    /// Set aside for calls in flight here.
    pub reserved: u64,
    /// Out on leases and not known to be spent.
    pub leased: u64,
}

impl Budget {
    /// Tokens spent.
    pub fn spent(&self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }

    /// Tokens that can still be reserved or leased.
    pub fn remaining(&self) -> u64 {
        self.max.saturating_sub(self.spent()).saturating_sub(self.reserved).saturating_sub(self.leased)
    }
}

/// Tokens set aside on this node for one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// Its id.
    pub id: Uuid,
    /// Whose tokens.
    pub thread: Uuid,
    /// How many.
    pub tokens: u64,
}

/// What a call cost, by the server's count, and who made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Tokens of the prompt.
    pub prompt: u64,
    /// Tokens of the completion.
    pub completion: u64,
    /// Which agent asked.
    pub agent: String,
    /// Which model answered.
    pub model: String,
    /// How long it took, in milliseconds.
    pub latency_ms: u64,
}

/// A request for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The thread.
    pub thread: Uuid,
    /// The lease's id, chosen by who asks.
    pub id: Uuid,
    /// Who asks: the node that will spend it.
    pub holder: NodeId,
    /// What the lease shall hold in all; asking again with more enlarges it.
    pub tokens: u64,
}

/// A budget as its heir knows it: what was spent at least, and what may have been spent beyond that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estate {
    /// The thread.
    pub thread: Uuid,
    /// What may be spent in all.
    pub max: u64,
    /// Known to be spent on prompts.
    pub prompt: u64,
    /// Known to be spent on completions.
    pub completion: u64,
    /// Work under way: its id, where it is done, and what it may spend beyond what is known. It counts as spent.
    pub out: Vec<(Uuid, NodeId, u64)>,
}

/// How a lease stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseReport {
    /// The thread.
    pub thread: Uuid,
    /// The lease.
    pub id: Uuid,
    /// Spent of it on prompts, in all.
    pub prompt: u64,
    /// Spent of it on completions, in all.
    pub completion: u64,
    /// Nothing more will be spent of it.
    pub closed: bool,
}

/// Sums over calls.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Sum {
    /// Tokens of prompts.
    pub prompt: u64,
    /// Tokens of completions.
    pub completion: u64,
    /// Calls.
    pub requests: u64,
    /// Milliseconds of all calls together.
    pub latency_ms: u64,
}

/// What was metered on one node since its last reset.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// All calls.
    pub total: Sum,
    /// By agent.
    pub by_agent: Vec<(String, Sum)>,
    /// By model.
    pub by_model: Vec<(String, Sum)>,
    /// Threads with a budget here that are not exhausted.
    pub active_threads: u32,
}

/// Why a budget could not be had. No token was spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum BudgetError {
    /// Nobody opened it.
    #[error("No budget found for thread: {0}")]
    NoSuchThread(Uuid),
    /// Its work is over: nothing more is granted.
    #[error("thread {0} has ended: start a new one")]
    Ended(Uuid),
    /// As many threads, or leases of one, as may be are in use at once.
    #[error("{0} budgets are in use at once, which is the most: try again when some work has ended")]
    TooMany(usize),
    /// It exists already.
    #[error("thread {0} has a budget already")]
    Exists(Uuid),
    /// Not enough is left for the call.
    #[error("the budget is exhausted: {wanted} tokens are needed, {remaining} of {max} remain")]
    Exhausted {
        /// What the call would need.
        wanted: u64,
        /// What is left.
        remaining: u64,
        /// The whole budget.
        max: u64,
    },
    /// The reservation or lease is not known: settled already, or from before a restart.
    #[error("no such reservation or lease")]
    Unknown,
    /// The thread's owner can't be reached, and what is held here doesn't suffice.
    #[error("the node that keeps this thread's budget can't be reached: {0}")]
    OwnerUnreachable(skep_runtime::Error),
    /// It could not be written, so it was not granted.
    #[error("the budget could not be saved: {0}")]
    Store(String),
    /// Nobody who answers keeps the thread's budget, but a member that may is away.
    #[error(
        "the budget of thread {thread} may be kept by {away}, which is away: bring it back, or use no thread of yours"
    )]
    Unsure {
        /// The thread.
        thread: Uuid,
        /// The name of the member that could not be asked.
        away: String,
    },
}
