//! `/agents`: external workers register, say that they are there, and are found.

use super::{
    agent::{Agent, AgentQuery, NewAgent, NewStatus, StatusWord},
    success, workers,
};
use crate::{Reply, caller::Caller, input::Input, limits::ROWS, tag::Tag, when::rfc3339};
use poem_openapi::{Object, OpenApi, param::Path, payload::Json};
use skep_actors::{
    Context,
    runtime::{Wire, defaults::ASK_TIMEOUT},
    worker::{Message, Word},
};

/// Endpoints of the workers.
#[derive(Clone)]
pub struct Agents(pub Context);

#[OpenApi(prefix_path = "/agents", tag = "Tag::Workers")]
impl Agents {
    /// Register a worker
    ///
    /// The machine that is asked is its home from now on: it knows when it was last heard of. Other machines pass on what
    /// the worker says to them.
    #[oai(path = "/register", method = "post", operation_id = "workers_register")]
    async fn register(&self, _caller: Caller, body: Input<NewAgent>) -> Reply<Json<Registered>> {
        let new = body.0.try_into()?;
        // It waits for another machine's disk, as long as that may take.
        let worker = workers(&self.0).ask(ASK_TIMEOUT * 3, |port| Message::Register(Wire(new), port)).await??;
        Ok(Json(Registered {
            status: success(),
            message: format!("Agent {} registered", worker.said.id),
            agent_id: worker.said.id,
            registered_at: rfc3339(worker.registered_ms),
        }))
    }

    /// Find workers
    ///
    /// All that is given has to hold. The healthiest come first.
    #[oai(path = "/discover", method = "post", operation_id = "workers_discover")]
    async fn discover(&self, _caller: Caller, body: Input<AgentQuery>) -> Reply<Json<Discovered>> {
        let filter = body.0.filter(ROWS);
        let found = workers(&self.0).ask(ASK_TIMEOUT, |port| Message::Discover(Wire(filter), port)).await?;
        Ok(Json(Discovered {
            status: success(),
            query: body.0,
            count: found.len() as u64,
            agents: found.into_iter().map(Agent::from).collect(),
            timestamp: rfc3339(self.0.env.now_ms()),
        }))
    }

    /// Show a worker
    #[oai(path = "/:agent_id", method = "get", operation_id = "workers_get")]
    async fn get(&self, _caller: Caller, agent_id: Path<String>) -> Reply<Json<Shown>> {
        let profile = workers(&self.0).ask(ASK_TIMEOUT, |port| Message::Look(Wire(agent_id.0), port)).await??;
        Ok(Json(Shown { status: success(), agent: profile.into(), timestamp: rfc3339(self.0.env.now_ms()) }))
    }

    /// Say how a worker is
    #[oai(path = "/:agent_id/status", method = "put", operation_id = "workers_set_status")]
    async fn set_status(
        &self,
        _caller: Caller,
        agent_id: Path<String>,
        body: Input<NewStatus>,
    ) -> Reply<Json<StatusSet>> {
        let (id, status) = (agent_id.0, body.0.status);
        let word = Word::Status(status.into(), body.0.load_metrics.map(Into::into));
        let at_ms =
            workers(&self.0).ask(ASK_TIMEOUT * 2, |port| Message::Say(Wire((id.clone(), word)), port)).await??;
        Ok(Json(StatusSet {
            status: success(),
            message: format!("Agent {id} status updated"),
            agent_id: id,
            new_status: status,
            updated_at: rfc3339(at_ms),
        }))
    }
}

/// A worker is registered.
#[derive(Debug, Object)]
#[oai(rename = "AgentRegistered")]
pub struct Registered {
    /// Always `success`.
    pub status: String,
    /// For people.
    pub message: String,
    /// Who.
    pub agent_id: String,
    /// When it registered first.
    pub registered_at: String,
}

/// The workers that were found.
#[derive(Debug, Object)]
#[oai(rename = "AgentsDiscovered")]
pub struct Discovered {
    /// Always `success`.
    pub status: String,
    /// What was asked for.
    pub query: AgentQuery,
    /// Who was found.
    pub agents: Vec<Agent>,
    /// How many.
    pub count: u64,
    /// When.
    pub timestamp: String,
}

/// One worker.
#[derive(Debug, Object)]
#[oai(rename = "AgentShown")]
pub struct Shown {
    /// Always `success`.
    pub status: String,
    /// The worker.
    pub agent: Agent,
    /// When.
    pub timestamp: String,
}

/// It is noted how a worker is.
#[derive(Debug, Object)]
#[oai(rename = "AgentStatusSet")]
pub struct StatusSet {
    /// Always `success`.
    pub status: String,
    /// For people.
    pub message: String,
    /// Who.
    pub agent_id: String,
    /// How it is now.
    pub new_status: StatusWord,
    /// When.
    pub updated_at: String,
}
