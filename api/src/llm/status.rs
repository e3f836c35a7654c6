//! `/api/llm/status`: this machine's models and what runs on them, in a few numbers.

use super::sessions::running;
use crate::{Reply, caller::Caller, tag::Tag};
use poem_openapi::{Object, OpenApi, payload::Json};
use skep_actors::{
    Context,
    model::{self, Message},
    runtime::defaults::ASK_TIMEOUT,
};

/// Endpoints of the summary.
#[derive(Clone)]
pub struct Status(pub Context);

#[OpenApi(prefix_path = "/api/llm/status", tag = "Tag::Llm")]
impl Status {
    /// Sum up the models here
    #[oai(path = "/", method = "get", operation_id = "llm_status")]
    async fn get(&self, _caller: Caller) -> Reply<Json<LlmStatus>> {
        let models = self.0.directory.here::<Message>(model::NAME);
        let local = models.ask(ASK_TIMEOUT, Message::List).await?;
        let sessions = running(&self.0).await?;
        Ok(Json(LlmStatus {
            ollama_ready: true,
            local_models: local.into_iter().map(|m| m.name).collect(),
            active_sessions: sessions.len(),
            active_distrib_sessions: sessions.iter().filter(|s| s.session.nodes.len() > 1).count(),
        }))
    }
}

/// The models here in a few numbers.
#[derive(Debug, Object)]
pub struct LlmStatus {
    /// An engine is ready. The documented name: Skep needs no Ollama.
    pub ollama_ready: bool,
    /// Names of the models on this machine's disk.
    pub local_models: Vec<String>,
    /// Generations that run in the swarm.
    pub active_sessions: usize,
    /// Those that run over more than one machine.
    pub active_distrib_sessions: usize,
}
