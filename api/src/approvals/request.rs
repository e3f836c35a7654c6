//! A request for approval, as the API takes an answer to it and shows it.

use crate::{limits::LISTED_INPUT_BYTES_MAX, when::rfc3339};
use poem_openapi::{Enum, Object};
use skep_actors::approval::{Request, State};

/// An answer.
#[derive(Debug, Default, Object)]
pub struct NewDecision {
    /// Who decides; `api` if absent. Whoever has the node's token may say any name.
    #[oai(validator(min_length = 1, max_length = 256))]
    pub decided_by: Option<String>,
    /// What the agent is told about it.
    #[oai(validator(max_length = 256))]
    pub because: Option<String>,
}

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum ApprovalStatus {
    /// It waits for an answer.
    Pending,
    /// The call may be made.
    Approved,
    /// It may not.
    Denied,
    /// Nobody answered before its time was over or its agent had ended: it may not.
    TimedOut,
}

/// A call that needs an approval.
#[derive(Debug, Object)]
#[oai(rename = "ToolApproval", skip_serializing_if_is_none)]
pub struct Approval {
    /// Its id.
    pub id: String,
    /// The tool.
    pub tool_name: String,
    /// Its exact arguments: JSON in a text, in the form whose SHA-256 is decided about. A list has the beginning of long ones.
    pub tool_input: String,
    /// How many bytes they have, if only the beginning is here: the call by itself has all.
    pub tool_input_bytes: Option<usize>,
    /// The thread that the agent works in.
    pub session_id: Option<String>,
    /// Whose rights the call has: `agent`, or `agent:NAME` of one that the swarm has defined.
    pub requested_authority: String,
    /// Where it stands.
    pub status: ApprovalStatus,
    /// Who decided.
    pub decided_by: Option<String>,
    /// When.
    pub decided_at: Option<String>,
    /// Until when it can be answered; once it is approved, until when the call can be made.
    pub timeout_at: String,
    /// When it was asked for.
    pub created_at: String,
}

/// The same, with all that is known of it.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct ApprovalDetail {
    /// The request as a list shows it.
    #[oai(flatten)]
    pub approval: Approval,
    /// The rule of the policy that wants somebody to be asked.
    pub rule_name: Option<String>,
    /// Why, in the rule's words.
    pub reason: Option<String>,
    /// The SHA-256 of the arguments.
    pub input_sha256: String,
    /// The run that wants to make the call.
    pub run_id: String,
    /// The turn that it works for.
    pub turn_id: String,
    /// The key of the machine that it lives on.
    pub node_id: String,
    /// What whoever decided said about it.
    pub because: Option<String>,
    /// The key of the machine that they asked.
    pub decided_via: Option<String>,
    /// The call was made.
    pub used: bool,
}

impl From<State> for ApprovalStatus {
    fn from(state: State) -> ApprovalStatus {
        match state {
            State::Pending => ApprovalStatus::Pending,
            State::Approved => ApprovalStatus::Approved,
            State::Denied => ApprovalStatus::Denied,
            State::TimedOut | State::Withdrawn => ApprovalStatus::TimedOut,
        }
    }
}

impl Approval {
    /// A request, as it stands at this moment.
    pub(super) fn of(request: Request, now_ms: u64) -> Approval {
        let status = request.state_at(now_ms).into();
        let (by, at_ms) = request.decision.map(|decision| (decision.by, decision.at_ms)).unzip();
        let agent = request.call.who.agent;
        Approval {
            id: request.id.to_string(),
            tool_name: request.call.tool,
            tool_input: request.call.args.text().to_owned(),
            tool_input_bytes: None,
            session_id: Some(request.call.who.thread.to_string()),
            requested_authority: if str::is_empty(&agent) { "agent".into() } else { format!("agent:{agent}") },
            status,
            decided_by: by,
            decided_at: at_ms.map(rfc3339),
            timeout_at: rfc3339(request.until_ms),
            created_at: rfc3339(request.created_ms),
        }
    }

    /// As one of many.
    pub(super) fn listed(mut self) -> Approval {
        let bytes = self.tool_input.len();
        if bytes > LISTED_INPUT_BYTES_MAX {
            self.tool_input.truncate(self.tool_input.floor_char_boundary(LISTED_INPUT_BYTES_MAX));
            self.tool_input_bytes = Some(bytes);
        }
        self
    }
}

impl ApprovalDetail {
    /// The same with everything.
    pub(super) fn of(request: Request, now_ms: u64) -> ApprovalDetail {
        let decision = request.decision.clone();
        ApprovalDetail {
            rule_name: request.rule.clone(),
            reason: request.reason.clone(),
            input_sha256: request.call.args.digest().to_string(),
            run_id: request.call.who.run.to_string(),
            turn_id: request.call.who.turn.to_string(),
            node_id: request.owner.to_string(),
            because: decision.as_ref().and_then(|decision| decision.because.clone()),
            decided_via: decision.map(|decision| decision.via.to_string()),
            used: request.used.is_some(),
            approval: Approval::of(request, now_ms),
        }
    }
}
