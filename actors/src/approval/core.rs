//! What one node decides about requests for approval: what an earlier answer means for a call, which answer counts, what
//! is too late.
//!
//! No clock, disk or link. Each decision gives the request as it is to be written; it counts once [`Core::put`] has it, and
//! whoever drives this decides one at a time.
//!
//! ```text
//! Pending --Decide(yes)--> Approved --its call is made--> used: never again
//!    |------Decide(no)---> Denied     (and stays so for this call in this turn)
//!    |------time---------> TimedOut   (asked anew if the call is made again)
//!    `------run ended----> Withdrawn
//! ```

use super::messages::{ApprovalError, Call, Decide, Decision, Request, State};
use crate::agent::bounded;
use skep_runtime::NodeId;
use std::collections::BTreeMap;
use uuid::Uuid;

/// How long an answer is waited for: long enough to walk to a screen, and less than a run's quarter of an hour. An approval
/// can be used for as long again.
pub const ANSWER_MS_MAX: u64 = 5 * 60_000;
/// Requests of one node that wait: a run has one at most, and those of an earlier process stay until their time is over.
pub const PENDING_MAX: usize = 256;
/// Bytes of arguments that somebody can be asked about: all of them have to be seen, by every member.
pub const ARGS_BYTES_MAX: usize = 32 << 10;
/// How long a request is kept that has come to its end, for people to see.
pub const KEPT_MS: u64 = 24 * 3_600_000;
/// Requests of one node that are kept in all; beyond that the oldest that have ended go.
pub const KEPT_MAX: usize = 200;
/// Bytes of whoever decided and of what they said.
pub const SAID_BYTES_MAX: usize = 256;

/// What a call that needs an approval comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stand {
    /// It was approved: this is to be written, then it may be made.
    Granted(Box<Request>),
    /// It was refused, and why.
    Refused(String),
    /// Its request is not answered yet.
    Waits(Uuid),
    /// Nobody was asked yet.
    New,
}

/// The requests of one node's runs.
#[derive(Debug)]
pub struct Core {
    me: NodeId,
    requests: BTreeMap<Uuid, Request>,
}

impl Core {
    /// The core of `me`, which knows of nothing.
    pub fn new(me: NodeId) -> Core {
        Core { me, requests: BTreeMap::new() }
    }

    /// A request as it is on this node's disk now.
    pub fn put(&mut self, request: Request) {
        if request.owner == self.me {
            self.requests.insert(request.id, request);
        }
    }

    /// What the swarm's records say of a request of this node, where any member may write. It counts only as far as it takes
    /// something away: a node whose disk has forgotten that it used an approval doesn't use it again.
    pub fn heard(&mut self, said: &Request) {
        if let Some(request) = self.requests.get_mut(&said.id)
            && request.state == State::Approved
            && request.used.is_none()
        {
            request.used = said.used;
        }
    }

    /// All requests of this node.
    pub fn all(&self) -> impl Iterator<Item = &Request> {
        self.requests.values()
    }

    /// A request of this node.
    pub fn get(&self, id: Uuid) -> Option<&Request> {
        self.requests.get(&id)
    }

    /// What an approval that is needed comes to. `waited`: the request that this call has waited for.
    pub fn stand(&self, call: &Call, waited: Option<Uuid>, now_ms: u64) -> Stand {
        if let Some(request) = waited.and_then(|id| self.requests.get(&id)).filter(|request| request.call.is_like(call))
        {
            let timed_out =
                || Stand::Refused(format!("not done: nobody approved it within {} s", ANSWER_MS_MAX / 1000));
            return match request.state_at(now_ms) {
                State::Pending => Stand::Waits(request.id),
                State::Approved if is_good(request, now_ms) => granted(request, call),
                // Another call like it was faster.
                State::Approved if request.used.is_some() => self.earlier(call, now_ms),
                State::Approved | State::TimedOut => timed_out(),
                State::Denied => denied(request),
                State::Withdrawn => Stand::Refused("not done: the run has ended".into()),
            };
        }
        self.earlier(call, now_ms)
    }

    /// What was said about calls like this one before.
    fn earlier(&self, call: &Call, now_ms: u64) -> Stand {
        let like = || self.requests.values().filter(|request| request.call.is_like(call));
        let pending = like().find(|request| request.state_at(now_ms) == State::Pending);
        let approved = like().find(|request| is_good(request, now_ms));
        let refused = like().find(|request| request.state == State::Denied);
        match (refused, approved, pending) {
            (Some(request), ..) => denied(request),
            (_, Some(request), _) => granted(request, call),
            (.., Some(request)) => Stand::Waits(request.id),
            _ => Stand::New,
        }
    }

    /// The request for a call about which nobody was asked yet.
    ///
    /// # Errors
    /// Nobody can be asked.
    pub fn ask(
        &self,
        id: Uuid,
        call: Call,
        rule: Option<String>,
        reason: Option<String>,
        now_ms: u64,
    ) -> Result<Request, ApprovalError> {
        let pending = self.requests.values().filter(|request| request.state_at(now_ms) == State::Pending).count();
        if pending >= PENDING_MAX {
            return Err(ApprovalError::Full(pending));
        }
        Ok(Request {
            id,
            owner: self.me,
            call,
            rule,
            reason,
            created_ms: now_ms,
            until_ms: now_ms + ANSWER_MS_MAX,
            state: State::Pending,
            decision: None,
            used: None,
        })
    }

    /// An answer: the request as it is with it. The first one counts.
    ///
    /// # Errors
    /// It counts for nothing, and why.
    pub fn decide(&self, answer: &Decide, now_ms: u64) -> Result<Request, ApprovalError> {
        let request = self.requests.get(&answer.request).ok_or(ApprovalError::NoSuchRequest(answer.request))?;
        undecided(request, now_ms)?;
        let decision = Decision {
            by: bounded(&answer.by, SAID_BYTES_MAX),
            because: answer.because.as_deref().map(|said| bounded(said, SAID_BYTES_MAX)),
            via: answer.via,
            at_ms: now_ms,
        };
        let state = if answer.approve { State::Approved } else { State::Denied };
        let until_ms = if answer.approve { now_ms + ANSWER_MS_MAX } else { request.until_ms };
        Ok(Request { state, until_ms, decision: Some(decision), ..request.clone() })
    }

    /// Those whose time is over, as they are then.
    pub fn overdue(&self, now_ms: u64) -> Vec<Request> {
        let over = |request: &&Request| request.state == State::Pending && request.state_at(now_ms) == State::TimedOut;
        let timed_out = |request: &Request| Request { state: State::TimedOut, ..request.clone() };
        self.requests.values().filter(over).map(timed_out).collect()
    }

    /// Those of a run that has ended, as they are then.
    pub fn withdrawn(&self, run: Uuid) -> Vec<Request> {
        let waits = |request: &&Request| request.state == State::Pending && request.call.who.run == run;
        let withdrawn = |request: &Request| Request { state: State::Withdrawn, ..request.clone() };
        self.requests.values().filter(waits).map(withdrawn).collect()
    }

    /// Those that are kept for nobody any more.
    pub fn forgettable(&self, now_ms: u64) -> Vec<Uuid> {
        let mut ended: Vec<&Request> = self.requests.values().filter(|r| r.state != State::Pending).collect();
        ended.sort_by_key(|request| (request.created_ms, request.id));
        let over = self.requests.len().saturating_sub(KEPT_MAX);
        let old = |request: &Request| now_ms >= request.until_ms.saturating_add(KEPT_MS);
        ended.iter().enumerate().filter(|(n, request)| *n < over || old(request)).map(|(_, r)| r.id).collect()
    }

    /// It is no longer on the disk.
    pub fn forget(&mut self, id: Uuid) {
        self.requests.remove(&id);
    }

    /// When something of it is due next.
    pub fn wake_ms(&self) -> Option<u64> {
        let due = |request: &Request| match request.state {
            State::Pending => request.until_ms,
            _ => request.until_ms.saturating_add(KEPT_MS),
        };
        self.requests.values().map(due).min()
    }
}

/// Whether a request can be answered still.
///
/// # Errors
/// Why not.
pub fn undecided(request: &Request, now_ms: u64) -> Result<(), ApprovalError> {
    match request.state_at(now_ms) {
        State::Pending => Ok(()),
        State::TimedOut => Err(ApprovalError::Late(ANSWER_MS_MAX / 1000)),
        State::Withdrawn => Err(ApprovalError::Withdrawn),
        state @ (State::Approved | State::Denied) => {
            let by = request.decision.as_ref().map(|decision| decision.by.clone()).unwrap_or_default();
            Err(ApprovalError::Decided { approved: state == State::Approved, by })
        }
    }
}

/// Whether a call can be made on it: it was approved, lately, and none was made yet.
fn is_good(request: &Request, now_ms: u64) -> bool {
    request.state == State::Approved && request.used.is_none() && now_ms < request.until_ms
}

fn granted(request: &Request, call: &Call) -> Stand {
    Stand::Granted(Box::new(Request { used: Some(call.id), ..request.clone() }))
}

fn denied(request: &Request) -> Stand {
    let (by, because) = match &request.decision {
        Some(decision) => (decision.by.as_str(), decision.because.as_deref()),
        None => ("its owner", None),
    };
    Stand::Refused(match because {
        Some(because) => format!("not done: {by} denied it: {because}"),
        None => format!("not done: {by} denied it"),
    })
}
