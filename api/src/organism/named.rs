//! `/api/v1/agents`: the agents that the swarm has defined, by name.

use super::state::{self, Doing, Known};
use crate::{Reply, caller::Caller, tag::Tag, when::rfc3339};
use poem_openapi::{Enum, Object, OpenApi, param::Path, payload::Json};
use skep_actors::{
    Context,
    organism::{self, Standing},
};

/// Endpoints of the defined agents.
#[derive(Clone)]
pub struct Named(pub Context);

/// What the document says of one that there isn't.
const NONE: &str = "Agent not found";

#[OpenApi(prefix_path = "/api/v1/agents", tag = "Tag::Organism")]
impl Named {
    /// List the defined agents
    #[oai(path = "/", method = "get", operation_id = "named_list")]
    async fn list(&self, _caller: Caller) -> Reply<Json<NamedList>> {
        let (_, agents) = state::all(&self.0).await?;
        let agents: Vec<NamedAgent> = agents.into_iter().map(NamedAgent::from).collect();
        Ok(Json(NamedList { count: agents.len(), agents }))
    }

    /// Show a defined agent
    #[oai(path = "/:name", method = "get", operation_id = "named_get")]
    async fn get(&self, _caller: Caller, name: Path<String>) -> Reply<Json<NamedAgent>> {
        Ok(Json(state::one(&self.0, &name.0, NONE).await?.into()))
    }

    /// Show how an agent is defined
    #[oai(path = "/:name/config", method = "get", operation_id = "named_config")]
    async fn config(&self, _caller: Caller, name: Path<String>) -> Reply<Json<NamedConfig>> {
        let agent = state::one(&self.0, &name.0, NONE).await?.agent;
        Ok(Json(NamedConfig {
            name: agent.name,
            description: agent.description,
            is_agent: true,
            peers: agent.peers,
            payload_class: agent.payload,
            tools: agent.tools,
            model: agent.model,
            budget: agent.budget,
        }))
    }

    /// Show what an agent takes
    #[oai(path = "/:name/schema", method = "get", operation_id = "named_schema")]
    async fn schema(&self, _caller: Caller, name: Path<String>) -> Reply<Json<Schema>> {
        let known = state::one(&self.0, &name.0, "Schema not found for agent").await?;
        Ok(Json(Schema { schema: organism::xsd(&known.agent), content_type: "application/xml".into() }))
    }

    /// Let an agent begin nothing new
    ///
    /// What it is told waits.
    #[oai(path = "/:name/pause", method = "post", operation_id = "named_pause")]
    async fn pause(&self, _caller: Caller, name: Path<String>) -> Reply<Json<Paused>> {
        state::set(&self.0, &name.0, Standing::Paused).await?;
        Ok(Json(Paused { success: true, agent: name.0, state: AgentWord::Paused }))
    }

    /// Let a paused agent go on
    #[oai(path = "/:name/resume", method = "post", operation_id = "named_resume")]
    async fn resume(&self, _caller: Caller, name: Path<String>) -> Reply<Json<Paused>> {
        state::set(&self.0, &name.0, Standing::Ready).await?;
        Ok(Json(Paused { success: true, agent: name.0, state: AgentWord::Idle }))
    }
}

/// The defined agents.
#[derive(Debug, Object)]
pub struct NamedList {
    /// Each of them, by name.
    pub agents: Vec<NamedAgent>,
    /// How many they are.
    pub count: usize,
}

/// What an agent does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
pub enum AgentWord {
    /// It has nothing to do.
    Idle,
    /// It works on an answer.
    Processing,
    /// Something waits for it.
    Waiting,
    /// Its last answer failed.
    Error,
    /// It begins nothing new.
    Paused,
}

/// A defined agent.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct NamedAgent {
    /// Its name.
    pub name: String,
    /// What it is good for.
    pub description: String,
    /// It thinks: all do.
    pub is_agent: bool,
    /// Whom it may ask.
    pub peers: Vec<String>,
    /// What a message to it is called.
    pub payload_class: String,
    /// What it does.
    pub state: AgentWord,
    /// The thread that it works on.
    pub current_thread: Option<String>,
    /// Messages that wait for it.
    pub queue_depth: u32,
    /// When it said something or was told something last.
    pub last_activity: Option<String>,
    /// Messages from it and to it, of the newest that are kept.
    pub message_count: u64,
}

impl From<Known> for NamedAgent {
    fn from(known: Known) -> NamedAgent {
        let state = match known.doing() {
            Doing::Stopped | Doing::Paused => AgentWord::Paused,
            Doing::Working => AgentWord::Processing,
            Doing::Waiting => AgentWord::Waiting,
            Doing::Failed => AgentWord::Error,
            Doing::Nothing => AgentWord::Idle,
        };
        let Known { agent, activity, .. } = known;
        NamedAgent {
            name: agent.name,
            description: agent.description,
            is_agent: true,
            peers: agent.peers,
            payload_class: agent.payload,
            state,
            current_thread: activity.thread.map(|thread| thread.to_string()),
            queue_depth: activity.waiting,
            last_activity: activity.last_ms.map(rfc3339),
            message_count: activity.messages,
        }
    }
}

/// How an agent is defined.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct NamedConfig {
    /// Its name.
    pub name: String,
    /// What it is good for.
    pub description: String,
    /// It thinks: all do.
    pub is_agent: bool,
    /// Whom it may ask.
    pub peers: Vec<String>,
    /// What a message to it is called.
    pub payload_class: String,
    /// The tools that it may use.
    pub tools: Vec<String>,
    /// The model that it thinks with; the default one if absent.
    pub model: Option<String>,
    /// The most tokens that one answer of it may cost, if there is a bound.
    pub budget: Option<u64>,
}

/// What a message looks like.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub struct Schema {
    /// As an XML Schema.
    pub schema: String,
    /// `application/xml`.
    pub content_type: String,
}

/// An agent was paused, or goes on.
#[derive(Debug, Object)]
pub struct Paused {
    /// True.
    pub success: bool,
    /// Its name.
    pub agent: String,
    /// What it does now.
    pub state: AgentWord,
}
