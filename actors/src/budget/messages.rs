//! What the ThreadBudgetActor can be told and asked.

use super::{
    amount::{Amount, COST_MAX, money},
    local::Local,
    prices::Price,
    warning::{Severity, Warning},
};
use ractor::RpcReplyPort;
use ractor_cluster_derive::RactorClusterMessage;
use serde::{Deserialize, Serialize};
use skep_runtime::{NodeId, Wire};
use tokio::sync::mpsc;
use uuid::Uuid;

/// What the ThreadBudgetActor understands.
#[derive(RactorClusterMessage)]
pub enum Message {
    /// Make a thread with this budget; its owner is this node. Answered when it is on disk.
    #[rpc]
    Open(Wire<(Uuid, Limit)>, RpcReplyPort<Wire<Result<Budget, BudgetError>>>),
    /// Set the tokens of a call aside that is about to be made, and what they may cost, from what this node holds of the
    /// thread (all of it on the owner; a lease elsewhere, which is fetched or enlarged from the owner when it is too
    /// small).
    #[rpc]
    Reserve(Wire<(Uuid, Call)>, RpcReplyPort<Wire<Result<Reservation, BudgetError>>>),
    /// The call was made and cost this. More than was reserved is charged too, and said so in the thread. Answered when it
    /// is on disk.
    #[rpc]
    Settle(Wire<(Reservation, Spent)>, RpcReplyPort<Wire<Result<Budget, BudgetError>>>),
    /// The call was not made.
    #[rpc]
    Release(Wire<Reservation>, RpcReplyPort<Wire<()>>),
    /// Where a thread stands, asked of any node.
    #[rpc]
    Get(Wire<Uuid>, RpcReplyPort<Wire<Result<Budget, BudgetError>>>),
    /// All threads that this node owns, hottest first.
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
    /// Totals of what was metered on this node, since its last reset.
    #[rpc]
    Usage(RpcReplyPort<Wire<Usage>>),
    /// What each node that answers metered in all, since its own last reset.
    #[rpc]
    ByNode(RpcReplyPort<Wire<Vec<(NodeId, Sum)>>>),
    /// Start counting anew: a mark, nothing is deleted. Answered when it is on disk.
    #[rpc]
    ResetUsage(RpcReplyPort<Wire<Result<(), BudgetError>>>),
    /// What models' tokens cost, by the beginnings of their names.
    #[rpc]
    Prices(RpcReplyPort<Wire<Vec<Price>>>),
    /// Have these prices in the whole swarm, and no others. Calls that are reserved keep theirs.
    #[rpc]
    SetPrices(Wire<Vec<Price>>, RpcReplyPort<Wire<Result<(), BudgetError>>>),
    /// Tell this reader of every threshold that a thread of this node passes: see [`super::watch`].
    Watch(Local<mpsc::Sender<Warning>>),
    /// A pipeline of this node served a call of another node's, of a thread that may be kept here: its lease costs no less,
    /// whatever its holder reports.
    Served(Wire<Served>),
    /// Between nodes: where a thread stands that this node owns; nobody else is asked.
    #[rpc]
    Look(Wire<Uuid>, RpcReplyPort<Wire<Result<Budget, BudgetError>>>),
    /// Between nodes: what the node that is asked metered in all, since its last reset.
    #[rpc]
    Total(RpcReplyPort<Wire<Sum>>),
    /// Between nodes, to the owner: a lease; answered with what it holds in all. The id makes a repeated request the same
    /// request.
    #[rpc]
    Lease(Wire<Lease>, RpcReplyPort<Wire<Result<Amount, BudgetError>>>),
    /// Between nodes, to the owner: of this lease so much was spent in all; with `closed`, the rest is returned.
    /// Repeatable: amounts are totals of the lease, not differences.
    #[rpc]
    Report(Wire<LeaseReport>, RpcReplyPort<Wire<Result<Budget, BudgetError>>>),
    /// This node keeps the budget of a thread that outlives its node, from now on. Answered when it is on disk.
    #[rpc]
    Keep(Wire<Estate>, RpcReplyPort<Wire<Result<Budget, BudgetError>>>),
    /// Another node keeps a thread's budget from now on: what is needed of it here is asked of that one.
    #[rpc]
    Follow(Wire<(Uuid, NodeId)>, RpcReplyPort<Wire<()>>),
    /// From this actor's own tasks: so much of this thread is on record, or nothing more.
    Charged(Local<(Uuid, Option<Amount>)>),
    /// From this actor's own tasks: the write that was under way has ended.
    Flushed(Local<Result<(), BudgetError>>),
    /// From this actor's own tasks: the owner answered a request for a lease.
    Granted(Local<Granted>),
    /// From this actor's own tasks: the owner of this thread was told what was spent, or was not.
    Told(Local<Uuid>),
    /// From this actor's own tasks: the owner of this thread has this lease back.
    Returned(Local<(Uuid, Uuid)>),
    /// From this actor's own tasks: time has passed in which threads may have become quiet.
    Rest(Local<()>),
    /// From this actor's own tasks: the prices may have changed.
    Priced(Local<()>),
}

/// What the owner said to a request for a lease.
pub struct Granted {
    pub(super) thread: Uuid,
    pub(super) lease: Uuid,
    pub(super) answer: Result<Amount, BudgetError>,
}

/// What a thread may spend in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Tokens.
    pub tokens: u64,
    /// Money, in millionths; `None` is as much as the tokens cost.
    pub cost: Option<u64>,
}

impl Limit {
    /// The same, as what is counted. Without a limit of money it is as much as may be said.
    pub(super) fn amount(self) -> Amount {
        Amount::new(self.tokens, self.cost.unwrap_or(COST_MAX)).bounded()
    }

    /// What is put on record of a thread with this limit before anything of it is spent, and again when another node takes it
    /// over that takes `spent` for spent.
    pub fn charge(self, spent: Amount) -> Amount {
        super::thread::next_charge(self.amount(), spent)
    }
}

impl From<u64> for Limit {
    /// So many tokens, whatever they cost.
    fn from(tokens: u64) -> Limit {
        Limit { tokens, cost: None }
    }
}

/// A call that is about to be made: the most that it can take.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Call {
    /// The model that is asked, which says what its tokens cost.
    pub model: String,
    /// Tokens of the prompt.
    pub prompt: u64,
    /// Tokens of the completion, at most.
    pub completion: u64,
}

impl Call {
    /// A prompt of so many tokens for this model, and an answer of at most so many.
    pub fn new(model: impl Into<String>, prompt: u64, completion: u64) -> Call {
        Call { model: model.into(), prompt, completion }
    }
}

impl From<u64> for Call {
    /// So many tokens that cost nothing.
    fn from(tokens: u64) -> Call {
        Call::new("", 0, tokens)
    }
}

/// A thread's budget, as one node sees it. Amounts are tokens unless they say otherwise.
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
    /// What may be spent in money, in millionths; `None` is as much as the tokens cost.
    pub max_cost: Option<u64>,
    /// Spent, in millionths of money.
    pub cost: u64,
    /// Set aside for calls in flight here, in millionths.
    pub reserved_cost: u64,
    /// Out on leases and not known to be spent, in millionths.
    pub leased_cost: u64,
    /// The last threshold that it has passed.
    pub warned: Option<Severity>,
}

impl Budget {
    /// A budget of so many tokens of which nothing is spent.
    pub fn new(thread: Uuid, owner: NodeId, max: u64) -> Budget {
        Budget {
            thread,
            owner,
            max,
            prompt: 0,
            completion: 0,
            reserved: 0,
            leased: 0,
            max_cost: None,
            cost: 0,
            reserved_cost: 0,
            leased_cost: 0,
            warned: None,
        }
    }

    /// Tokens spent.
    pub fn spent(&self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }

    /// Tokens that can still be reserved or leased.
    pub fn remaining(&self) -> u64 {
        self.max.saturating_sub(self.spent()).saturating_sub(self.reserved).saturating_sub(self.leased)
    }

    /// Money that can still be reserved or leased, in millionths; `None` is no limit.
    pub fn remaining_cost(&self) -> Option<u64> {
        let out = self.cost.saturating_add(self.reserved_cost).saturating_add(self.leased_cost);
        self.max_cost.map(|max| max.saturating_sub(out))
    }

    /// Whether no call can be paid for any more.
    pub fn is_exhausted(&self) -> bool {
        self.remaining() == 0 || self.remaining_cost() == Some(0)
    }

    /// Thousandths that are spent, of tokens or of money, whichever is more.
    pub fn per_mille(&self) -> u32 {
        let of = |spent: u64, max: u64| match max {
            0 => 1000,
            max => u32::try_from(u128::from(spent) * 1000 / u128::from(max)).unwrap_or(u32::MAX),
        };
        of(self.spent(), self.max).max(self.max_cost.map_or(0, |max| of(self.cost, max)))
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
    /// What the lease has to hold in all; asking again with more enlarges it.
    pub need: Amount,
    /// What it had better hold in all, so that not each call asks: given as far as others have enough.
    pub wish: Amount,
}

/// What a pipeline served to another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// The thread that pays.
    pub thread: Uuid,
    /// The node that has the text.
    pub holder: NodeId,
    /// The model that answered.
    pub model: String,
    /// Tokens of the prompt.
    pub prompt: u64,
    /// Tokens of the completion.
    pub completion: u64,
}

/// A budget as its thread's record tells of it to whoever is to keep it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estate {
    /// The thread.
    pub thread: Uuid,
    /// What may be spent in all.
    pub max: Limit,
    /// Tokens known to be spent on prompts.
    pub prompt: u64,
    /// Tokens known to be spent on completions.
    pub completion: u64,
    /// Money known to be spent, in millionths.
    pub cost: u64,
    /// What may have been spent by those who kept it before, known or not.
    pub spent: Amount,
    /// What may be spent in all before more has to be put on record.
    pub charged: Amount,
    /// The last threshold that the thread was told of.
    pub warned: Option<Severity>,
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
    /// What those tokens cost, in millionths.
    pub cost: u64,
    /// Nothing more will be spent of it.
    pub closed: bool,
}

/// Sums over calls.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sum {
    /// Tokens of prompts.
    pub prompt: u64,
    /// Tokens of completions.
    pub completion: u64,
    /// Calls.
    pub requests: u64,
    /// Milliseconds of all calls together.
    pub latency_ms: u64,
    /// What they cost, in millionths of money: by the prices of the moment in which each was reserved.
    pub cost: u64,
}

/// What was metered on one node since its last reset.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
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
    /// Enough tokens are left, but not the money that they may cost.
    #[error(
        "the budget is exhausted: the call may cost {}, {} of {} remain",
        money(*.wanted), money(*.remaining), money(*.max)
    )]
    ExhaustedCost {
        /// What the call may cost, in millionths.
        wanted: u64,
        /// What is left.
        remaining: u64,
        /// The whole budget.
        max: u64,
    },
    /// More of it has to be put on record first.
    #[error("more of the budget of thread {0} is being put on record: try again in a moment")]
    Charging(Uuid),
    /// A field is out of its bounds.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field's name.
        field: String,
        /// What is wrong with it.
        reason: String,
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

impl BudgetError {
    /// Whether the budget's keeper is away, or is changing: it may be had in a while.
    pub fn is_passing(&self) -> bool {
        matches!(self, BudgetError::OwnerUnreachable(_) | BudgetError::NoSuchThread(_) | BudgetError::Charging(_))
    }

    /// Whether nothing but a larger budget would help.
    pub fn is_exhausted(&self) -> bool {
        matches!(self, BudgetError::Exhausted { .. } | BudgetError::ExhaustedCost { .. })
    }
}
