//! `/api/llm/plan` and `/api/llm/serve`: how a model would be split over machines, and the doing of it.

use crate::{Reply, caller::Caller, input::Input, limits::SERVE_TIMEOUT, tag::Tag};
use poem_openapi::{Object, OpenApi, payload::Json};
use skep_actors::{
    Context,
    model::{self, Message, messages},
    runtime::{Handle, Members, Wire, defaults::ASK_TIMEOUT},
};

/// Endpoints of the plans.
#[derive(Clone)]
pub struct Plans(pub Context);

#[OpenApi(prefix_path = "/api/llm", tag = "Tag::Llm")]
impl Plans {
    /// Predict how a model would run
    #[oai(path = "/plan", method = "post", operation_id = "models_plan")]
    async fn plan(&self, _caller: Caller, body: Input<Wish>) -> Reply<Json<Plan>> {
        let serve = body.0.into();
        let plan = self.models().ask(ASK_TIMEOUT, |port| Message::Plan(Wire(serve), port)).await??;
        Ok(Json(Plan::new(plan, &self.0.members)))
    }

    /// Serve a model
    ///
    /// Answered when it is loaded; a model that is served already is not loaded again.
    #[oai(path = "/serve", method = "post", operation_id = "models_serve")]
    async fn serve(&self, _caller: Caller, body: Input<Wish>) -> Reply<Json<ServedModel>> {
        let serve = body.0.into();
        let served = self.models().ask(SERVE_TIMEOUT, |port| Message::Serve(Wire(serve), port)).await??;
        Ok(Json(ServedModel::new(served, &self.0.members)))
    }

    fn models(&self) -> Handle<Message> {
        self.0.directory.here(model::NAME)
    }
}

/// What to serve.
#[derive(Debug, Object)]
pub struct Wish {
    /// The model's name or source; the node's default if absent.
    pub model: Option<String>,
    /// Split it over exactly this many machines; if absent, over as few as it needs.
    #[oai(validator(minimum(value = "1"), maximum(value = "65535")))]
    pub stages: Option<u16>,
}

impl From<Wish> for messages::Serve {
    fn from(wish: Wish) -> messages::Serve {
        messages::Serve { model: wish.model.filter(|m| m != "auto"), stages: wish.stages }
    }
}

/// A way to place a model, with its prediction.
#[derive(Debug, Object)]
#[oai(rename = "ShardPlan", skip_serializing_if_is_none)]
pub struct Plan {
    /// The model's name.
    pub model: String,
    /// SHA-256 of its file.
    pub digest: String,
    /// The key of the machine of the first stage.
    pub coordinator: String,
    /// Its stages in order.
    pub shards: Vec<Stage>,
    /// Tokens a second for one request, predicted.
    pub predicted: f64,
    /// The same for the best single machine, if one has room.
    pub predicted_alone: Option<f64>,
    /// Why this plan, and what would be faster.
    pub reason: String,
}

/// One stage: some layers on one machine.
#[derive(Debug, Object)]
#[oai(rename = "Shard")]
pub struct Stage {
    /// The machine's key.
    pub node_id: String,
    /// Its name; empty if it has left the roster.
    pub node_name: String,
    /// Its first layer.
    pub layer_start: u32,
    /// One past its last layer.
    pub layer_end: u32,
    /// Bytes of weights.
    pub assigned_ram: u64,
}

/// A served model.
#[derive(Debug, Object)]
pub struct ServedModel {
    /// Its name.
    pub model: String,
    /// The key of the machine that takes its requests.
    pub node_id: String,
    /// The published name of the actor there.
    pub actor: String,
    /// How it is split.
    pub plan: Plan,
}

impl Plan {
    pub(crate) fn new(plan: messages::Plan, members: &Members) -> Plan {
        Plan {
            model: plan.model,
            digest: plan.digest,
            coordinator: plan.stages.first().map(|stage| stage.node.to_string()).unwrap_or_default(),
            shards: plan.stages.into_iter().map(|stage| Stage::new(stage, members)).collect(),
            predicted: plan.predicted,
            predicted_alone: plan.predicted_alone,
            reason: plan.reason,
        }
    }
}

impl Stage {
    fn new(stage: messages::Stage, members: &Members) -> Stage {
        Stage {
            node_id: stage.node.to_string(),
            node_name: members.get(&stage.node).map(|member| member.name.clone()).unwrap_or_default(),
            layer_start: stage.from,
            layer_end: stage.to,
            assigned_ram: stage.weight_bytes,
        }
    }
}

impl ServedModel {
    fn new(served: messages::Served, members: &Members) -> ServedModel {
        ServedModel {
            model: served.model,
            node_id: served.node.to_string(),
            actor: served.actor,
            plan: Plan::new(served.plan, members),
        }
    }
}
