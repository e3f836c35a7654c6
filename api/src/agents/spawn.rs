//! `/api/agents/:id/spawn`: a sub-agent of a run, without its model having asked for it.

use super::runs::run_id;
use crate::{Reply, caller::Caller, input::Input, limits::FOLLOW_TIMEOUT, tag::Tag};
use poem_openapi::{Object, OpenApi, param::Path, payload::Json};
use skep_actors::{
    Context,
    agent::{self, Message},
    runtime::Wire,
};

/// Endpoints of starting sub-agents.
#[derive(Clone)]
pub struct Spawn(pub Context);

#[OpenApi(prefix_path = "/api/agents", tag = "Tag::Agents")]
impl Spawn {
    /// Start a sub-agent of a run
    ///
    /// On another machine, if there is one. It may have the tools that the run has, and no more (403); it spends the run's
    /// budget, and ends with the run.
    #[oai(path = "/:id/spawn", method = "post", operation_id = "agents_spawn")]
    async fn spawn(&self, _caller: Caller, id: Path<String>, body: Input<NewSubAgent>) -> Reply<Json<Spawned>> {
        let id = run_id(&id.0)?;
        let NewSubAgent { goal, tools, node_id } = body.0;
        let args = serde_json::json!({ "goal": goal, "tools": tools, "node_id": node_id }).to_string();
        let agents = self.0.directory.here::<Message>(agent::NAME);
        let spawned = agents.ask(FOLLOW_TIMEOUT, |port| Message::Spawn(Wire((id, args)), port)).await??;
        let (own, node) = (spawned.id.to_string(), spawned.node.to_string());
        Ok(Json(Spawned { id: own, node_id: node, parent_id: id.to_string() }))
    }
}

/// A sub-agent to start.
#[derive(Debug, Object)]
pub struct NewSubAgent {
    /// What is wanted, in words.
    #[oai(validator(min_length = 1, max_length = 8192))]
    pub goal: String,
    /// The tools that it may use, of those that the run has; without any it only thinks.
    #[oai(validator(max_items = 64))]
    pub tools: Option<Vec<String>>,
    /// The machine that it shall live on: key, beginning of the key, or name.
    pub node_id: Option<String>,
}

/// A sub-agent is on its way.
#[derive(Debug, Object)]
#[oai(rename = "SpawnedSubAgent")]
pub struct Spawned {
    /// Its run.
    pub id: String,
    /// The key of the machine that it shall live on.
    pub node_id: String,
    /// The run that it works for.
    pub parent_id: String,
}
