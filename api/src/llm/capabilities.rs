//! `/api/llm/inference/capabilities`: which machine could run what.

use crate::{Reply, caller::Caller, tag::Tag, when::rfc3339};
use poem_openapi::{Object, OpenApi, payload::Json};
use skep_actors::{
    Context,
    node::{self, messages::Listed},
    runtime::{defaults::ASK_TIMEOUT, member::State},
};

/// Endpoints of the capabilities.
#[derive(Clone)]
pub struct Capabilities(pub Context);

#[OpenApi(prefix_path = "/api/llm/inference/capabilities", tag = "Tag::Llm")]
impl Capabilities {
    /// List which machine runs what
    #[oai(path = "/", method = "get", operation_id = "capabilities_list")]
    async fn list(&self, _caller: Caller) -> Reply<Json<Vec<Capability>>> {
        let node = self.0.directory.here::<node::Message>(node::NAME);
        let nodes = node.ask(ASK_TIMEOUT, node::Message::List).await?;
        let up = nodes.into_iter().filter(|n| n.member.state == State::Up);
        Ok(Json(up.map(Capability::from).collect()))
    }
}

/// What a machine could run.
#[derive(Debug, Object)]
pub struct Capability {
    /// Its key.
    pub node_id: String,
    /// Its name.
    pub node_name: String,
    /// Names of the models on its disk.
    pub models: Vec<String>,
    /// Names of the models that are served from it.
    pub serving: Vec<String>,
    /// Bytes of memory that are free for work.
    pub free_ram: u64,
    /// An engine is ready there. The documented name: Skep needs no Ollama.
    pub ollama_ready: bool,
    /// When it was last known to be up.
    pub last_seen: String,
}

impl From<Listed> for Capability {
    fn from(listed: Listed) -> Capability {
        let Listed { member, card } = listed;
        let ready = card.is_some();
        let card = card.unwrap_or_default();
        Capability {
            node_id: member.id.to_string(),
            node_name: member.name,
            models: card.models.into_iter().map(|m| m.name).collect(),
            serving: card.pipelines.into_iter().map(|p| p.model).collect(),
            free_ram: card.memory_free_bytes,
            ollama_ready: ready && !member.load.draining,
            last_seen: rfc3339(member.seen_ms),
        }
    }
}
