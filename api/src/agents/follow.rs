//! `/api/agents/:id/events`: a run and its sub-agents, step by step, and where their budget stands.

use super::{run::AgentRun, runs::run_id};
use crate::{
    Reply,
    caller::Caller,
    events::{Events, await_from, events},
    limits::FOLLOW_TIMEOUT,
    tag::Tag,
};
use futures::StreamExt;
use poem_openapi::{Object, OpenApi, Union, param::Path};
use skep_actors::{
    Context,
    agent::{self, Message, messages::Event},
    budget::Warning,
    runtime::{self, Wire},
};

/// Endpoints of following a run.
#[derive(Clone)]
pub struct Follow(pub Context);

#[OpenApi(prefix_path = "/api/agents", tag = "Tag::Agents")]
impl Follow {
    /// Follow a run and its sub-agents
    ///
    /// Until it has ended. Events: `run` (each time one of them moved on), `budget`, `warning` (the budget has passed 75, 90
    /// or 95 hundredths, once each), `end`, `failed`.
    #[oai(path = "/:id/events", method = "get", operation_id = "agents_events")]
    async fn events(&self, _caller: Caller, id: Path<String>) -> Reply<Events<AgentEvent>> {
        let id = run_id(&id.0)?;
        let agents = self.0.directory.here::<Message>(agent::NAME);
        let stream = await_from(&self.0, agents.node())?;
        let whom = (id, stream.me, stream.ticket);
        agents.ask(FOLLOW_TIMEOUT, |port| Message::Follow(Wire(whom), port)).await??;
        let frames = stream.frames::<Event>().await?;
        Ok(events(frames.map(AgentEvent::from), AgentEvent::name))
    }
}

/// Something happened to a run or a sub-agent of it.
#[derive(Debug, Union)]
#[oai(discriminator_name = "type", rename_all = "lowercase", one_of)]
#[expect(clippy::large_enum_variant, reason = "an event is made, written and gone: a box would save nothing")]
pub enum AgentEvent {
    /// It, or a sub-agent at any depth, as it is now.
    Run(AgentRun),
    /// Where the budget stands.
    Budget(AgentBudget),
    /// The budget has passed a threshold.
    Warning(AgentWarning),
    /// It has ended; nothing follows.
    End(AgentEnd),
    /// It can't be followed any more, though it may go on; nothing follows.
    Failed(AgentFailed),
}

impl AgentEvent {
    fn name(&self) -> &'static str {
        match self {
            AgentEvent::Run(_) => "run",
            AgentEvent::Budget(_) => "budget",
            AgentEvent::Warning(_) => "warning",
            AgentEvent::End(_) => "end",
            AgentEvent::Failed(_) => "failed",
        }
    }
}

impl From<Result<Event, runtime::Error>> for AgentEvent {
    fn from(frame: Result<Event, runtime::Error>) -> AgentEvent {
        match frame {
            Ok(Event::Run(run)) => AgentEvent::Run((*run).into()),
            Ok(Event::Budget { spent, held, max }) => AgentEvent::Budget(AgentBudget { spent, held, max }),
            Ok(Event::Warning(warning)) => AgentEvent::Warning(warning.into()),
            Ok(Event::End) => AgentEvent::End(AgentEnd {}),
            Err(e) => AgentEvent::Failed(AgentFailed { error: e.to_string() }),
        }
    }
}

/// Where a run's budget stands, in tokens.
#[derive(Debug, Object)]
pub struct AgentBudget {
    /// Spent.
    pub spent: u64,
    /// Set aside, or out on lease to other machines.
    pub held: u64,
    /// The budget.
    pub max: u64,
}

/// A thread has used so much of its budget.
#[derive(Debug, Object)]
pub struct AgentWarning {
    /// The thread.
    pub thread_id: String,
    /// Hundredths that are used, of tokens or of money, whichever is more; to one decimal.
    pub percent_used: f64,
    /// Tokens used.
    pub tokens_used: u64,
    /// Tokens that remain.
    pub tokens_remaining: u64,
    /// The budget of tokens.
    pub max_tokens: u64,
    /// `warning`, `critical` or `final`.
    pub severity: String,
    /// For people.
    pub message: String,
}

impl From<Warning> for AgentWarning {
    fn from(warning: Warning) -> AgentWarning {
        AgentWarning {
            thread_id: warning.thread.to_string(),
            percent_used: f64::from(warning.per_mille) / 10.0,
            tokens_used: warning.tokens_used,
            tokens_remaining: warning.tokens_remaining,
            max_tokens: warning.max_tokens,
            severity: warning.severity.word().into(),
            message: warning.message,
        }
    }
}

/// The end of a run.
#[derive(Debug, Object)]
pub struct AgentEnd {}

/// Why the stream broke.
#[derive(Debug, Object)]
pub struct AgentFailed {
    /// For people.
    pub error: String,
}
