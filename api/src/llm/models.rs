//! `/api/llm/models`: the models on this machine and on the others, and whether the swarm has room for each.

use super::plans::Plan;
use crate::{Reply, caller::Caller, tag::Tag};
use futures::future::join_all;
use poem_openapi::{Object, OpenApi, payload::Json};
use skep_actors::{
    Context,
    model::{self, Message, messages::Serve},
    node::{self, messages::Listed},
    runtime::{Wire, defaults::ASK_TIMEOUT, member::State},
};
use std::collections::BTreeMap;

/// Endpoints of the models.
#[derive(Clone)]
pub struct Models(pub Context);

#[OpenApi(prefix_path = "/api/llm/models", tag = "Tag::Llm")]
impl Models {
    /// List models and whether they fit
    #[oai(path = "/", method = "get", operation_id = "models_list")]
    async fn list(&self, _caller: Caller) -> Reply<Json<Vec<Model>>> {
        let models = self.0.directory.here::<Message>(model::NAME);
        let node = self.0.directory.here::<node::Message>(node::NAME);
        let local = models.ask(ASK_TIMEOUT, Message::List).await?;
        let nodes = node.ask(ASK_TIMEOUT, node::Message::List).await?;
        let mut rows = rows(local, &nodes);
        let plan = |name: &str| {
            let serve = Serve { model: Some(name.into()), stages: None };
            models.ask(ASK_TIMEOUT, |port| Message::Plan(Wire(serve), port))
        };
        let plans = join_all(rows.iter().map(|row| plan(&row.model))).await;
        rows.iter_mut().zip(plans).for_each(|(row, plan)| {
            let plan = plan.ok().and_then(Result::ok);
            row.plan(plan.map(|plan| Plan::new(plan, &self.0.members)));
        });
        Ok(Json(rows))
    }
}

/// A model, and whether the swarm has room for it.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct Model {
    /// The name to ask for it by.
    pub model: String,
    /// What it is, for people.
    pub description: String,
    /// `Q4_1`, `Q8_0`, ...; absent if its file isn't on this machine.
    pub quantization: Option<String>,
    /// Bytes of its weights.
    pub required_ram: u64,
    /// Bytes of memory that are free on the machines that answer.
    pub cluster_ram: u64,
    /// There is a way to serve it now.
    pub can_run: bool,
    /// How it would be served.
    pub shard_plan: Option<Plan>,
    /// One machine has room for all of it.
    pub fits_single_node: bool,
    /// The key of that machine.
    pub single_node_id: Option<String>,
    /// Its file is on this machine.
    pub is_downloaded: bool,
    /// An engine is ready for it. The documented name: Skep needs no Ollama.
    pub ollama_ready: bool,
    /// SHA-256 of its file: equal digests are equal weights.
    pub digest: String,
    /// Transformer layers.
    pub layers: u32,
    /// The longest context, in tokens; absent if its file isn't on this machine.
    pub context: Option<u32>,
    /// The keys of the machines whose disks have it.
    pub nodes: Vec<String>,
}

impl Model {
    fn plan(&mut self, plan: Option<Plan>) {
        self.can_run = plan.is_some();
        self.ollama_ready = self.can_run;
        let alone = plan.as_ref().filter(|plan| plan.shards.len() == 1);
        self.single_node_id = alone.map(|plan| plan.coordinator.clone());
        self.fits_single_node = plan.as_ref().is_some_and(|p| p.shards.len() == 1 || p.predicted_alone.is_some());
        self.shard_plan = plan;
    }
}

/// One row for each model that lies on any disk, by name.
fn rows(local: Vec<model::Model>, nodes: &[Listed]) -> Vec<Model> {
    let up = || nodes.iter().filter(|n| n.member.state == State::Up);
    let cluster_ram = up().filter_map(|n| n.card.as_ref()).map(|card| card.memory_free_bytes).sum();
    let mut rows: BTreeMap<String, Model> = BTreeMap::new();
    for (node, found) in up().flat_map(|n| n.card.iter().flat_map(|card| &card.models).map(|m| (n.member.id, m))) {
        let row = rows.entry(found.name.clone()).or_insert_with(|| Model {
            model: found.name.clone(),
            description: format!("{} layers on another machine", found.layers),
            quantization: None,
            required_ram: found.bytes,
            cluster_ram,
            can_run: false,
            shard_plan: None,
            fits_single_node: false,
            single_node_id: None,
            is_downloaded: false,
            ollama_ready: false,
            digest: found.digest.clone(),
            layers: found.layers,
            context: None,
            nodes: Vec::new(),
        });
        row.nodes.push(node.to_string());
    }
    for model in local {
        let nodes = rows.remove(&model.name).map(|row| row.nodes).unwrap_or_default();
        rows.insert(
            model.name.clone(),
            Model {
                description: format!(
                    "{} {}, {} layers, from {}",
                    model.architecture, model.quantization, model.layers, model.source
                ),
                model: model.name,
                quantization: Some(model.quantization),
                required_ram: model.bytes,
                cluster_ram,
                can_run: false,
                shard_plan: None,
                fits_single_node: false,
                single_node_id: None,
                is_downloaded: true,
                ollama_ready: false,
                digest: model.digest,
                layers: model.layers,
                context: Some(model.context),
                nodes,
            },
        );
    }
    rows.into_values().collect()
}
