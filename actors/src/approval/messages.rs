//! What the ApprovalActor can be told and asked, and the record of a request.

use super::{
    Arguments,
    policy::{Mistake, Policy},
};
use crate::{
    audit::{AuditError, Who},
    ledger,
};
use ractor::RpcReplyPort;
use ractor_cluster_derive::RactorClusterMessage;
use serde::{Deserialize, Serialize};
use skep_runtime::{NodeId, Wire};
use uuid::Uuid;

/// What the ApprovalActor understands.
#[derive(RactorClusterMessage)]
pub enum Message {
    /// May this call be made? The second: the request that whoever asks has waited for. A yes is for once, and is written
    /// down before it is said.
    #[rpc]
    Judge(Wire<(Call, Option<Uuid>)>, RpcReplyPort<Wire<Result<Judged, ApprovalError>>>),
    /// Wait until this request of this node is decided, or some time has passed.
    #[rpc]
    Wait(Wire<Uuid>, RpcReplyPort<Wire<()>>),
    /// This run has ended: nobody waits for what it asked for.
    #[rpc]
    Withdraw(Wire<Uuid>, RpcReplyPort<Wire<()>>),
    /// The owner answers a request, whichever node asks. Answered when the decision is on the disk of that one.
    #[rpc]
    Decide(Wire<Decide>, RpcReplyPort<Wire<Result<Request, ApprovalError>>>),
    /// All requests that the swarm knows, the oldest first.
    #[rpc]
    List(RpcReplyPort<Wire<Result<Vec<Request>, ApprovalError>>>),
    /// One request, as this node knows it.
    #[rpc]
    Get(Wire<Uuid>, RpcReplyPort<Wire<Result<Request, ApprovalError>>>),
    /// The policy as it is.
    #[rpc]
    Policy(RpcReplyPort<Wire<Result<Policy, ApprovalError>>>),
    /// The owner sets another policy: all of it. Answered when it is on another member's disk, too, if one answers.
    #[rpc]
    SetPolicy(Wire<Policy>, RpcReplyPort<Wire<Result<Policy, ApprovalError>>>),
    /// Between nodes: the owner has answered a request of this node at the asking one.
    #[rpc]
    Answer(Wire<Decide>, RpcReplyPort<Wire<Result<Request, ApprovalError>>>),
}

/// A tool is to be called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Which call: another one each time.
    pub id: Uuid,
    /// Who wants it.
    pub who: Who,
    /// The tool's name.
    pub tool: String,
    /// With what.
    pub args: Arguments,
    /// What an answer counts within: the turn, for the run that answers it, whichever attempt at it this is; the run itself,
    /// for a sub-agent: the one beside it may have another folder before it.
    pub scope: Uuid,
    /// It may have been made before, by a run whose machine went down, and making it again may do harm: a person is asked,
    /// whatever the policy allows.
    pub doubtful: bool,
}

impl Call {
    /// Whether an answer to one counts for the other: the same tool with exactly the same arguments, called by the same agent
    /// in the same turn, and not by another sub-agent of it.
    pub fn is_like(&self, other: &Call) -> bool {
        let same = |call: &Call| (call.who.thread, call.who.turn, call.scope);
        same(self) == same(other)
            && self.who.agent == other.who.agent
            && self.tool == other.tool
            && self.args == other.args
            && self.doubtful == other.doubtful
    }
}

/// What becomes of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Judged {
    /// It may be made, once.
    May,
    /// It may not, and what the model is told.
    MayNot(String),
    /// The owner is asked by this request.
    Waits(Uuid),
}

/// An answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decide {
    /// Which one.
    pub request: Uuid,
    /// The call may be made.
    pub approve: bool,
    /// Who decides, as they call themselves.
    pub by: String,
    /// What they say about it.
    pub because: Option<String>,
    /// The node that they asked.
    pub via: NodeId,
}

/// A call that needs an approval, and what became of that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its id.
    pub id: Uuid,
    /// The node whose run asks, which alone writes this record.
    pub owner: NodeId,
    /// The call.
    pub call: Call,
    /// The rule that says that somebody has to be asked.
    pub rule: Option<String>,
    /// Why, in the rule's words.
    pub reason: Option<String>,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// Until when it can be answered; an approval, until when its call can be made.
    pub until_ms: u64,
    /// Where it stands.
    pub state: State,
    /// The decision, if it was decided.
    pub decision: Option<Decision>,
    /// The call that was made on it: there is one at most.
    pub used: Option<Uuid>,
}

impl Request {
    /// Where it stands now, also if its owner is not there to say so.
    pub fn state_at(&self, now_ms: u64) -> State {
        match self.state {
            State::Pending if now_ms >= self.until_ms => State::TimedOut,
            state => state,
        }
    }
}

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// It waits for an answer.
    Pending,
    /// Its call may be made.
    Approved,
    /// It may not.
    Denied,
    /// Nobody answered in time, which is a no.
    TimedOut,
    /// Whoever asked has ended.
    Withdrawn,
}

/// Who decided, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Who, as they call themselves.
    pub by: String,
    /// What they said about it.
    pub because: Option<String>,
    /// The node that they asked.
    pub via: NodeId,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
}

/// Why nothing was decided. Nothing was changed, unless it says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum ApprovalError {
    /// Nobody knows this one.
    #[error("Approval not found: {0}")]
    NoSuchRequest(Uuid),
    /// Somebody was first.
    #[error("it was {} already, by {by}: what was decided first counts", word(.approved))]
    Decided {
        /// The first answer was yes.
        approved: bool,
        /// Whose it was.
        by: String,
    },
    /// Its time is over.
    #[error("it is too late: nobody answered within {0} s, so the call was refused")]
    Late(u64),
    /// Nobody waits for the answer.
    #[error("whoever asked has ended: there is nothing to decide any more")]
    Withdrawn,
    /// The node whose run asks does not answer.
    #[error(
        "the node whose agent asks, {0}, does not answer: its call waits there, and is refused when its time is over"
    )]
    OwnerAway(String),
    /// More requests wait than a node keeps.
    #[error("{0} requests wait for an answer on this node: no more are taken")]
    Full(usize),
    /// A field is out of its bounds.
    #[error("{}", told(.0))]
    Invalid(Vec<Mistake>),
    /// The policy is there, and is not understood: nothing is allowed meanwhile.
    #[error(
        "the policy of this swarm is of another version of Skep, or damaged: no call is allowed until it is set again"
    )]
    Unreadable,
    /// This node has not met anybody of its swarm yet: nothing is allowed meanwhile.
    #[error(
        "no other member has answered since this node came into the swarm, so its policy is not known here: no call is \
         allowed until one does; try again in a moment, or evict the machines that are gone for good (`skep nodes`)"
    )]
    Unmet,
    /// It could not be written, so it does not count.
    #[error("{0}")]
    Audit(#[from] AuditError),
    /// It could not be written, so it does not count.
    #[error("it could not be saved: {0}")]
    Store(#[from] ledger::Error),
    /// The disk could not be read.
    #[error("it could not be read: {0}")]
    Disk(String),
    /// Another node failed.
    #[error("{0}")]
    Link(#[from] skep_runtime::Error),
}

fn word(approved: &bool) -> &'static str {
    if *approved { "approved" } else { "denied" }
}

fn told(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
