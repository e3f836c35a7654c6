//! `/api/v1/usage/agents/:id` and `/api/v1/usage/models/:model`: what one agent or one model used.
//!
//! Who is not known has used nothing: zeros, no 404.

use super::money;
use crate::{Reply, caller::Caller, tag::Tag};
use poem_openapi::{Object, OpenApi, param::Path, payload::Json};
use skep_actors::{
    Context,
    budget::{self, messages::Sum},
    runtime::{NodeId, defaults::ASK_TIMEOUT},
};

/// Endpoints of the agents' sums.
#[derive(Clone)]
pub struct Agents(pub Context);

#[OpenApi(prefix_path = "/api/v1/usage/agents", tag = "Tag::Usage")]
impl Agents {
    /// Sum up one agent
    #[oai(path = "/:agent_id", method = "get", operation_id = "usage_agent")]
    async fn get(&self, _caller: Caller, agent_id: Path<String>) -> Reply<Json<AgentUsage>> {
        let budgets = self.0.directory.here::<budget::Message>(budget::NAME);
        let usage = budgets.ask(ASK_TIMEOUT, budget::Message::Usage).await?;
        Ok(Json(AgentUsage::new(agent_id.0.clone(), &find(usage.by_agent, &agent_id.0))))
    }
}

/// Endpoints of the models' sums.
#[derive(Clone)]
pub struct Models(pub Context);

#[OpenApi(prefix_path = "/api/v1/usage/models", tag = "Tag::Usage")]
impl Models {
    /// Sum up one model
    #[oai(path = "/:model", method = "get", operation_id = "usage_model")]
    async fn get(
        &self,
        _caller: Caller,
        /// Its name, which may hold slashes
        model: Path<String>,
    ) -> Reply<Json<ModelUsage>> {
        let budgets = self.0.directory.here::<budget::Message>(budget::NAME);
        let usage = budgets.ask(ASK_TIMEOUT, budget::Message::Usage).await?;
        Ok(Json(ModelUsage::new(model.0.clone(), &find(usage.by_model, &model.0))))
    }
}

fn find(sums: Vec<(String, Sum)>, name: &str) -> Sum {
    sums.into_iter().find(|(known, _)| known == name).map(|(_, sum)| sum).unwrap_or_default()
}

/// What one agent used.
#[derive(Debug, Object)]
pub struct AgentUsage {
    /// The agent.
    pub agent_id: String,
    /// `agent_id`.
    #[oai(rename = "agentId")]
    pub camel_agent_id: String,
    /// The sums.
    #[oai(flatten)]
    pub sums: Sums,
}

/// What one machine metered.
#[derive(Debug, Object)]
pub struct NodeUsage {
    /// The key of the machine.
    pub node_id: String,
    /// `node_id`.
    #[oai(rename = "nodeId")]
    pub camel_node_id: String,
    /// The sums.
    #[oai(flatten)]
    pub sums: Sums,
}

/// What one model used.
#[derive(Debug, Object)]
pub struct ModelUsage {
    /// The model.
    pub model: String,
    /// The sums.
    #[oai(flatten)]
    pub sums: Sums,
}

impl AgentUsage {
    pub(crate) fn new(agent: String, sum: &Sum) -> AgentUsage {
        AgentUsage { camel_agent_id: agent.clone(), agent_id: agent, sums: sum.into() }
    }
}

impl NodeUsage {
    pub(crate) fn new(node: NodeId, sum: &Sum) -> NodeUsage {
        NodeUsage { node_id: node.to_string(), camel_node_id: node.to_string(), sums: sum.into() }
    }
}

impl ModelUsage {
    pub(crate) fn new(model: String, sum: &Sum) -> ModelUsage {
        ModelUsage { model, sums: sum.into() }
    }
}

/// Sums over calls.
#[derive(Debug, Object)]
#[oai(rename = "UsageSums")]
pub struct Sums {
    /// Tokens in all.
    pub total_tokens: u64,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Tokens of completions.
    pub completion_tokens: u64,
    /// Calls.
    pub request_count: u64,
    /// Money spent, to four places: by `/api/prices`, of the moment in which each call was reserved.
    pub total_cost: f64,
    /// Milliseconds that a call took on average.
    pub avg_latency_ms: f64,
    /// `total_tokens`.
    #[oai(rename = "totalTokens")]
    pub camel_total_tokens: u64,
    /// `prompt_tokens`.
    #[oai(rename = "promptTokens")]
    pub camel_prompt_tokens: u64,
    /// `completion_tokens`.
    #[oai(rename = "completionTokens")]
    pub camel_completion_tokens: u64,
    /// `request_count`.
    #[oai(rename = "requestCount")]
    pub camel_request_count: u64,
    /// `total_cost`.
    #[oai(rename = "totalCost")]
    pub camel_total_cost: f64,
    /// `avg_latency_ms`.
    #[oai(rename = "avgLatencyMs")]
    pub camel_avg_latency_ms: f64,
}

impl From<&Sum> for Sums {
    fn from(sum: &Sum) -> Sums {
        let (total, cost) = (sum.prompt.saturating_add(sum.completion), money::sum(sum.cost));
        let latency = if sum.requests == 0 { 0.0 } else { sum.latency_ms as f64 / sum.requests as f64 };
        Sums {
            total_tokens: total,
            prompt_tokens: sum.prompt,
            completion_tokens: sum.completion,
            request_count: sum.requests,
            total_cost: cost,
            avg_latency_ms: latency,
            camel_total_tokens: total,
            camel_prompt_tokens: sum.prompt,
            camel_completion_tokens: sum.completion,
            camel_request_count: sum.requests,
            camel_total_cost: cost,
            camel_avg_latency_ms: latency,
        }
    }
}
