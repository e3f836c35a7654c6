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
    runtime::{self, Wire},
};

/// Endpoints of following a run.
#[derive(Clone)]
pub struct Follow(pub Context);

#[OpenApi(prefix_path = "/api/agents", tag = "Tag::Agents")]
impl Follow {
    /// Follow a run and its sub-agents
    ///
    /// Until it has ended. Events: `run` (each time one of them moved on), `budget`, `end`, `failed`.
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

/// The end of a run.
#[derive(Debug, Object)]
pub struct AgentEnd {}

/// Why the stream broke.
#[derive(Debug, Object)]
pub struct AgentFailed {
    /// For people.
    pub error: String,
}
