//! `/api/llm/inference/sessions`: the generations that run in the swarm, with their figures.

use crate::{Problem, Reply, caller::Caller, tag::Tag, when::rfc3339};
use futures::future::join_all;
use poem_openapi::{Enum, Object, OpenApi, param::Path, payload::Json};
use skep_actors::{
    Context,
    defaults::GATHER_TIMEOUT,
    node::{self, messages::Listed},
    pipeline::{self, messages},
    runtime::{defaults::ASK_TIMEOUT, member::State},
};

/// Endpoints of the running generations.
#[derive(Clone)]
pub struct Sessions(pub Context);

#[OpenApi(prefix_path = "/api/llm/inference/sessions", tag = "Tag::Llm")]
impl Sessions {
    /// List the running generations
    #[oai(path = "/", method = "get", operation_id = "sessions_list")]
    async fn list(&self, _caller: Caller) -> Reply<Json<Vec<Session>>> {
        let found = running(&self.0).await?;
        let me = self.0.directory.id().to_string();
        Ok(Json(found.into_iter().map(|found| Session::new(found, &me)).collect()))
    }

    /// Show a running generation
    #[oai(path = "/:id", method = "get", operation_id = "sessions_get")]
    async fn get(&self, _caller: Caller, id: Path<String>) -> Reply<Json<Session>> {
        let me = self.0.directory.id().to_string();
        let found = running(&self.0).await?.into_iter().find(|found| found.session.id.to_string() == id.0);
        let found = found.ok_or_else(|| Problem::not_found(format!("Session not found: {}", id.0)))?;
        Ok(Json(Session::new(found, &me)))
    }
}

/// A generation, and the name of the machine that takes its requests.
pub(crate) struct Found {
    pub(crate) session: messages::Session,
    node: String,
}

/// The generations that run in the swarm; pipelines that don't answer in time are left out.
pub(crate) async fn running(context: &Context) -> Reply<Vec<Found>> {
    let node = context.directory.here::<node::Message>(node::NAME);
    let nodes = node.ask(ASK_TIMEOUT, node::Message::List).await?;
    let up = nodes.iter().filter(|n| n.member.state == State::Up);
    let pipelines = up.flat_map(|n| n.card.iter().flat_map(|card| &card.pipelines).map(move |p| (n, &p.actor)));
    let asked = pipelines.map(|(Listed { member, .. }, actor)| async move {
        let pipeline = context.directory.at::<pipeline::Message>(member.id, actor.clone());
        let sessions = pipeline.ask(GATHER_TIMEOUT, pipeline::Message::Sessions).await.unwrap_or_default();
        sessions.into_iter().map(|session| Found { session, node: member.name.clone() }).collect::<Vec<_>>()
    });
    Ok(join_all(asked).await.into_iter().flatten().collect())
}

/// Where a generation stands.
#[derive(Debug, Clone, Copy, Enum)]
#[oai(rename = "SessionPhase", rename_all = "lowercase")]
pub enum Phase {
    /// No token yet.
    Routing,
    /// It speaks.
    Running,
}

/// A running generation.
#[derive(Debug, Object)]
#[oai(rename = "InferenceSession")]
pub struct Session {
    /// Its id.
    pub id: String,
    /// The model.
    pub model: String,
    /// Where it stands.
    pub phase: Phase,
    /// Its figures.
    pub shard_stat: Figures,
    /// When it began.
    pub started_at: String,
}

/// A generation's figures.
#[derive(Debug, Object)]
#[oai(rename = "SessionFigures")]
pub struct Figures {
    /// The key of the machine of its first stage.
    pub node_id: String,
    /// The name of the machine that takes its requests.
    pub node_name: String,
    /// The keys of all machines that it runs on, in order.
    pub nodes: Vec<String>,
    /// The model.
    pub model: String,
    /// When it began.
    pub started_at: String,
    /// Tokens of its prompt.
    pub prompt_tokens: u64,
    /// Tokens generated so far.
    pub token_count: u64,
    /// Tokens a second so far.
    pub tok_sec: f64,
    /// It runs on this machine alone.
    pub was_local: bool,
    /// Nanoseconds from the request to the first token; 0 before it.
    pub latency_ns: u64,
}

impl Session {
    fn new(found: Found, me: &str) -> Session {
        let Found { session, node } = found;
        let nodes: Vec<String> = session.nodes.iter().map(ToString::to_string).collect();
        let started = rfc3339(session.started_ms);
        Session {
            id: session.id.to_string(),
            model: session.model.clone(),
            phase: if session.completion_tokens == 0 { Phase::Routing } else { Phase::Running },
            started_at: started.clone(),
            shard_stat: Figures {
                node_id: nodes.first().cloned().unwrap_or_default(),
                node_name: node,
                was_local: nodes.iter().all(|node| node == me),
                nodes,
                model: session.model,
                started_at: started,
                prompt_tokens: session.prompt_tokens,
                token_count: session.completion_tokens,
                tok_sec: session.tokens_per_second,
                latency_ns: session.first_token_ms * 1_000_000,
            },
        }
    }
}
