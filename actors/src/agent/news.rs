//! What listeners are told of a run. Decides nothing.

use super::{Run, RunState};
use crate::event::what::Agent;

/// A run, as listeners are told of it.
pub(super) fn told(run: &Run) -> Agent {
    let status = match run.state {
        RunState::Pending => "pending",
        RunState::Running => "running",
        RunState::Completed => "completed",
        RunState::Failed => "failed",
        RunState::Cancelled => "cancelled",
        RunState::Lost => "lost",
    };
    Agent {
        id: run.given(),
        agent_id: run.given().to_string().into(),
        thread_id: run.thread.to_string().into(),
        parent_id: run.goal.parent.map(|parent| parent.run),
        goal: run.goal.goal.as_str().into(),
        status: status.into(),
        steps: run.steps.last().map_or(0, |step| step.number),
        step: run.steps.last().map(|step| step.tool.as_str().into()),
        tokens: run.tokens,
        error: run.error.as_deref().map(Into::into),
    }
}
