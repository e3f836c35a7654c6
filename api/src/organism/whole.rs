//! `/api/v1/organism`: all agents together: how many there are, where their definition comes from, how to end the node.

use super::state;
use crate::{Reply, caller::Caller, input::Input, limits, tag::Tag};
use poem_openapi::{Object, OpenApi, payload::Json};
use skep_actors::{
    Context, node,
    organism::{self, Message},
    runtime::{Handle, Wire, defaults::ASK_TIMEOUT},
    thread::{self, Status, Wanted},
};

/// Endpoints of the whole.
#[derive(Clone)]
pub struct Organism(pub Context, pub u16);

#[OpenApi(prefix_path = "/api/v1/organism", tag = "Tag::Organism")]
impl Organism {
    /// Show what there is
    #[oai(path = "/", method = "get", operation_id = "organism_get")]
    async fn get(&self, _caller: Caller) -> Reply<Json<OrganismInfo>> {
        let (frame, agents) = state::all(&self.0).await?;
        let node = self.0.directory.here::<node::Message>(node::NAME).ask(ASK_TIMEOUT, node::Message::Status).await?;
        let threads = self.0.directory.here::<thread::Message>(thread::NAME);
        let active = Wanted { status: Some(Status::Active), limit: 0, ..Wanted::default() };
        let active = threads.ask(ASK_TIMEOUT, |port| thread::Message::List(Wire(active), port)).await?;
        Ok(Json(OrganismInfo {
            name: frame.name,
            status: OrganismStatus::Running,
            uptime_seconds: node.uptime_ms as f64 / 1000.0,
            agent_count: agents.len(),
            active_threads: active.total,
            total_messages: agents.iter().map(|known| known.activity.messages).sum(),
            identity_configured: true,
        }))
    }

    /// Show how it is set up
    #[oai(path = "/config", method = "get", operation_id = "organism_config")]
    async fn config(&self, _caller: Caller) -> Reply<Json<OrganismConfig>> {
        let (frame, agents) = state::all(&self.0).await?;
        Ok(Json(OrganismConfig {
            name: frame.name,
            port: self.1,
            thread_scheduling: "breadth-first".into(),
            max_concurrent_pipelines: skep_actors::agent::LIVE_MAX,
            max_concurrent_handlers: skep_actors::agent::LIVE_MAX,
            max_concurrent_per_agent: frame.at_once,
            thread_budget: frame.thread_tokens,
            listeners: agents.into_iter().map(|known| known.agent.name).collect(),
        }))
    }

    /// Read the definition in this node's folder again
    ///
    /// `organism.toml` or `organism.yaml`. What is new is added, what it no longer names is removed, what is defined
    /// otherwise is changed; what agents have begun goes on. All that is wrong with it is told at once.
    #[oai(path = "/reload", method = "post", operation_id = "organism_reload")]
    async fn reload(&self, _caller: Caller) -> Reply<Json<Reloaded>> {
        let change = self.organism().ask(limits::CANCEL_TIMEOUT, Message::Reload).await??;
        Ok(Json(change.into()))
    }

    /// Take this definition
    ///
    /// In place of what there is, in the whole swarm, as `reload` does with a file.
    #[oai(path = "/definition", method = "put", operation_id = "organism_load")]
    async fn load(&self, _caller: Caller, body: Input<NewDefinition, DEFINITION_BYTES_MAX>) -> Reply<Json<Reloaded>> {
        let text = body.0.definition;
        let change = self.organism().ask(limits::CANCEL_TIMEOUT, |port| Message::Load(Wire(text), port)).await??;
        Ok(Json(change.into()))
    }

    /// End this node
    ///
    /// In good order: it takes nothing new, lets others go on, and exits.
    #[oai(path = "/stop", method = "post", operation_id = "organism_stop")]
    async fn stop(&self, _caller: Caller) -> Reply<Json<Stopping>> {
        self.0.stop.cancel();
        Ok(Json(Stopping { success: true, status: "stopping".into() }))
    }

    fn organism(&self) -> Handle<Message> {
        self.0.directory.here(organism::NAME)
    }
}

/// Bytes of a body with a definition: what JSON's quoting adds at worst.
const DEFINITION_BYTES_MAX: usize = 2 * organism::FILE_BYTES_MAX;

/// All agents together.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub struct OrganismInfo {
    /// What people call it.
    pub name: String,
    /// Whether it works.
    pub status: OrganismStatus,
    /// Seconds since this node started.
    pub uptime_seconds: f64,
    /// How many agents there are.
    pub agent_count: usize,
    /// Threads in which something is to be answered.
    pub active_threads: u64,
    /// Messages from and to agents, of the newest that are kept.
    pub total_messages: u64,
    /// The node has a key: it always does.
    pub identity_configured: bool,
}

/// Whether it works.
#[derive(Debug, Clone, Copy, poem_openapi::Enum)]
#[oai(rename_all = "lowercase")]
pub enum OrganismStatus {
    /// It starts.
    Starting,
    /// It does.
    Running,
    /// It ends.
    Stopping,
    /// It has ended.
    Stopped,
}

/// How it is set up. No secret is part of it.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct OrganismConfig {
    /// What people call it.
    pub name: String,
    /// The port of this API.
    pub port: u16,
    /// In which order turns begin: the oldest first, over all threads.
    pub thread_scheduling: String,
    /// Turns and goals at work at once on a node.
    pub max_concurrent_pipelines: usize,
    /// The same.
    pub max_concurrent_handlers: usize,
    /// Turns of one agent at work at once, on each node that keeps threads.
    pub max_concurrent_per_agent: u32,
    /// Tokens of a thread that nobody gave a budget, if the definition says so.
    pub thread_budget: Option<u64>,
    /// The agents.
    pub listeners: Vec<String>,
}

/// A definition.
#[derive(Debug, Object)]
pub struct NewDefinition {
    /// The text of the file, in TOML or YAML.
    pub definition: String,
}

/// What a definition changed.
#[derive(Debug, Object)]
pub struct Reloaded {
    /// True.
    pub success: bool,
    /// New agents.
    pub added: Vec<String>,
    /// Agents that it no longer names.
    pub removed: Vec<String>,
    /// Agents that are defined otherwise now.
    pub updated: Vec<String>,
}

impl From<organism::Change> for Reloaded {
    fn from(change: organism::Change) -> Reloaded {
        let organism::Change { added, removed, updated } = change;
        Reloaded { success: true, added, removed, updated }
    }
}

/// The node ends.
#[derive(Debug, Object)]
pub struct Stopping {
    /// True.
    pub success: bool,
    /// `stopping`.
    pub status: String,
}
