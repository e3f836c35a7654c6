//! `/v1/models`: the names that a client may ask for.

use crate::{Problem, Reply, caller::Caller, tag::Tag};
use poem_openapi::{Object, OpenApi, param::Path, payload::Json};
use skep_actors::{
    Context,
    model::{self, Message},
    node::{self, messages::Listed},
    runtime::{defaults::ASK_TIMEOUT, member::State},
};
use std::collections::BTreeMap;

/// Endpoints of the list.
#[derive(Clone)]
pub struct Models(pub Context);

#[OpenApi(prefix_path = "/v1/models", tag = "Tag::OpenAi")]
impl Models {
    /// List the models by name
    #[oai(path = "/", method = "get", operation_id = "catalogue_list")]
    async fn list(&self, _caller: Caller) -> Reply<Json<Catalogue>> {
        Ok(Json(Catalogue { object: "list".into(), data: catalogue(&self.0).await? }))
    }
}

/// Endpoints of one name.
#[derive(Clone)]
pub struct Named(pub Context);

#[OpenApi(prefix_path = "/v1/models", tag = "Tag::OpenAi")]
impl Named {
    /// Show a model by name
    #[oai(path = "/:model", method = "get", operation_id = "catalogue_get")]
    async fn get(
        &self,
        _caller: Caller,
        /// Its name, which may hold slashes
        model: Path<String>,
    ) -> Reply<Json<Entry>> {
        let found = catalogue(&self.0).await?.into_iter().find(|entry| entry.id == model.0);
        let none = || Problem::not_found(format!("Model not found: {}", model.0)).in_field("model");
        Ok(Json(found.ok_or_else(none)?))
    }
}

async fn catalogue(context: &Context) -> Reply<Vec<Entry>> {
    let models = context.directory.here::<Message>(model::NAME);
    let node = context.directory.here::<node::Message>(node::NAME);
    let local = models.ask(ASK_TIMEOUT, Message::List).await?;
    let nodes = node.ask(ASK_TIMEOUT, node::Message::List).await?;
    Ok(entries(local, nodes, &context.name))
}

/// One entry for each name: this machine's own, then what the others' cards tell.
fn entries(local: Vec<model::Model>, nodes: Vec<Listed>, here: &str) -> Vec<Entry> {
    let mut entries = BTreeMap::new();
    for model in local {
        entries.insert(model.name.clone(), Entry::new(model.name, model.added_ms / 1000, here));
    }
    for Listed { member, card } in nodes.into_iter().filter(|n| n.member.state == State::Up) {
        let card = card.unwrap_or_default();
        let started = card.started_ms / 1000;
        let names = card.models.into_iter().map(|m| m.name).chain(card.pipelines.into_iter().map(|p| p.model));
        for name in names {
            entries.entry(name.clone()).or_insert_with(|| Entry::new(name, started, &member.name));
        }
    }
    entries.into_values().collect()
}

/// The models that a client may ask for.
#[derive(Debug, Object)]
pub struct Catalogue {
    /// `list`.
    pub object: String,
    /// Each of them.
    pub data: Vec<Entry>,
}

/// A model that a client may ask for.
#[derive(Debug, Object)]
#[oai(rename = "CatalogueEntry")]
pub struct Entry {
    /// The name to ask for it by.
    pub id: String,
    /// `model`.
    pub object: String,
    /// Since when it is there, in seconds since 1970.
    pub created: u64,
    /// The name of a machine that has it.
    pub owned_by: String,
}

impl Entry {
    fn new(id: String, created: u64, owned_by: &str) -> Entry {
        Entry { id, object: "model".into(), created, owned_by: owned_by.into() }
    }
}
