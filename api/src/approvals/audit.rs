//! `/api/audit/policy` and `/api/audit/tools`: what was decided about a turn's calls of tools, and what came of them.

use super::entry::{decisions, tool_calls};
use crate::{Problem, Reply, caller::Caller, limits::GATHER_TIMEOUT, tag::Tag};
use poem_openapi::{Object, OpenApi, param::Path, payload::Json};
use skep_actors::{
    Context,
    audit::{self, Entry, Message},
    runtime::Wire,
};
use uuid::Uuid;

pub use super::entry::{PolicyDecision, ToolCall};

/// Endpoints of what the audit has about turns.
#[derive(Clone)]
pub struct Audit(pub Context);

#[OpenApi(prefix_path = "/api/audit", tag = "Tag::Approvals")]
impl Audit {
    /// Show what was decided in a turn
    ///
    /// By the policy and by people, in the order of time. Machines that don't answer are left out.
    #[oai(path = "/policy/:turn_id", method = "get", operation_id = "audit_policy")]
    async fn policy(&self, _caller: Caller, turn_id: Path<String>) -> Reply<Json<TurnPolicy>> {
        let entries = self.entries(&turn_id.0).await?;
        Ok(Json(TurnPolicy { turn_id: turn_id.0, decisions: decisions(entries) }))
    }

    /// Show the calls of a turn
    ///
    /// With what they were given and what they gave: the beginning of it, if it is long.
    #[oai(path = "/tools/:turn_id", method = "get", operation_id = "audit_tools")]
    async fn tools(&self, _caller: Caller, turn_id: Path<String>) -> Reply<Json<TurnTools>> {
        let entries = self.entries(&turn_id.0).await?;
        Ok(Json(TurnTools { turn_id: turn_id.0, tool_calls: tool_calls(entries) }))
    }

    async fn entries(&self, turn: &str) -> Reply<Vec<Entry>> {
        let turn: Uuid = turn.parse().map_err(|_| Problem::not_found(format!("Turn not found: {turn}")))?;
        let audit = self.0.directory.here::<Message>(audit::NAME);
        Ok(audit.ask(GATHER_TIMEOUT, |port| Message::Turn(Wire(turn), port)).await?)
    }
}

/// What was decided in a turn.
#[derive(Debug, Object)]
pub struct TurnPolicy {
    /// The turn.
    pub turn_id: String,
    /// Each decision.
    pub decisions: Vec<PolicyDecision>,
}

/// The calls of tools of a turn.
#[derive(Debug, Object)]
pub struct TurnTools {
    /// The turn.
    pub turn_id: String,
    /// Each call.
    pub tool_calls: Vec<ToolCall>,
}
