//! `/api/v1/usage`: everything that was metered on this node, and a new start of the counting.

use super::sums::{AgentUsage, ModelUsage, NodeUsage, Sums};
use crate::{Reply, caller::Caller, tag::Tag};
use poem_openapi::{Object, OpenApi, payload::Json};
use skep_actors::{
    Context,
    budget::{self, Message, messages::Sum},
    runtime::{Handle, NodeId, defaults::ASK_TIMEOUT},
};

/// Endpoints of the whole usage.
#[derive(Clone)]
pub struct Usage(pub Context);

#[OpenApi(prefix_path = "/api/v1/usage", tag = "Tag::Usage")]
impl Usage {
    /// Sum up everything
    #[oai(path = "/", method = "get", operation_id = "usage_get")]
    async fn get(&self, _caller: Caller) -> Reply<Json<UsageAnswer>> {
        let usage = self.budgets().ask(ASK_TIMEOUT, Message::Usage).await?;
        let nodes = self.budgets().ask(ASK_TIMEOUT, Message::ByNode).await?;
        Ok(Json(UsageAnswer { usage: Overview::new(&usage, &nodes) }))
    }

    /// Start counting anew
    ///
    /// A mark: nothing is deleted, and the threads' budgets stay.
    #[oai(path = "/reset", method = "post", operation_id = "usage_reset")]
    async fn reset(&self, _caller: Caller) -> Reply<Json<Reset>> {
        self.budgets().ask(ASK_TIMEOUT, Message::ResetUsage).await??;
        Ok(Json(Reset { success: true, message: "Usage tracking reset".into() }))
    }

    fn budgets(&self) -> Handle<Message> {
        self.0.directory.here(budget::NAME)
    }
}

/// What was used.
#[derive(Debug, Object)]
pub struct UsageAnswer {
    /// What was used.
    pub usage: Overview,
}

/// What was used on this node since the last reset.
#[derive(Debug, Object)]
#[oai(rename = "UsageOverview")]
pub struct Overview {
    /// All calls.
    pub totals: Sums,
    /// By agent.
    pub by_agent: Vec<AgentUsage>,
    /// By model.
    pub by_model: Vec<ModelUsage>,
    /// By machine, this one and all others that answer, each since its own last reset.
    pub by_node: Vec<NodeUsage>,
    /// Threads with a budget that is not exhausted.
    pub active_threads: u32,
    /// `by_agent`.
    #[oai(rename = "byAgent")]
    pub camel_by_agent: Vec<AgentUsage>,
    /// `by_model`.
    #[oai(rename = "byModel")]
    pub camel_by_model: Vec<ModelUsage>,
    /// `by_node`.
    #[oai(rename = "byNode")]
    pub camel_by_node: Vec<NodeUsage>,
    /// `active_threads`.
    #[oai(rename = "activeThreads")]
    pub camel_active_threads: u32,
}

impl Overview {
    fn new(usage: &budget::Usage, nodes: &[(NodeId, Sum)]) -> Overview {
        let agents = || usage.by_agent.iter().map(|(name, sum)| AgentUsage::new(name.clone(), sum)).collect();
        let models = || usage.by_model.iter().map(|(name, sum)| ModelUsage::new(name.clone(), sum)).collect();
        let nodes = || nodes.iter().map(|(node, sum)| NodeUsage::new(*node, sum)).collect();
        Overview {
            totals: (&usage.total).into(),
            by_agent: agents(),
            by_model: models(),
            by_node: nodes(),
            active_threads: usage.active_threads,
            camel_by_agent: agents(),
            camel_by_model: models(),
            camel_by_node: nodes(),
            camel_active_threads: usage.active_threads,
        }
    }
}

/// Counting starts anew.
#[derive(Debug, Object)]
#[oai(rename = "UsageReset")]
pub struct Reset {
    /// Always true.
    pub success: bool,
    /// For people.
    pub message: String,
}
