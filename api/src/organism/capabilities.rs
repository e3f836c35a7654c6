//! `/api/v1/capabilities`: who can be told something, and what such a message looks like.

use super::state::{self, Known};
use crate::{Reply, caller::Caller, tag::Tag};
use poem_openapi::{Object, OpenApi, param::Path, payload::Json};
use skep_actors::{Context, organism};

/// Endpoints of the capabilities.
#[derive(Clone)]
pub struct Capabilities(pub Context);

#[OpenApi(prefix_path = "/api/v1/capabilities", tag = "Tag::Organism")]
impl Capabilities {
    /// List who can be told something
    #[oai(path = "/", method = "get", operation_id = "agent_capabilities_list")]
    async fn list(&self, _caller: Caller) -> Reply<Json<CapabilityList>> {
        let (_, agents) = state::all(&self.0).await?;
        let capabilities: Vec<Capability> = agents.iter().map(Capability::from).collect();
        Ok(Json(CapabilityList { count: capabilities.len(), capabilities }))
    }

    /// Show what a message to one looks like
    #[oai(path = "/:name", method = "get", operation_id = "agent_capabilities_get")]
    async fn get(&self, _caller: Caller, name: Path<String>) -> Reply<Json<CapabilityDetail>> {
        let known = state::one(&self.0, &name.0, "Capability not found").await?;
        let Capability { name, description, is_agent, peers, root_tag } = Capability::from(&known);
        Ok(Json(CapabilityDetail {
            name,
            description,
            is_agent,
            peers,
            root_tag,
            payload_class: known.agent.payload.clone(),
            schema_xsd: organism::xsd(&known.agent),
            example_xml: organism::example(&known.agent),
        }))
    }
}

/// Who can be told something.
#[derive(Debug, Object)]
pub struct CapabilityList {
    /// Each of them, by name.
    pub capabilities: Vec<Capability>,
    /// How many they are.
    pub count: usize,
}

/// One who can be told something.
#[derive(Debug, Object)]
#[oai(rename = "AgentCapability", rename_all = "camelCase")]
pub struct Capability {
    /// Its name.
    pub name: String,
    /// What it is good for.
    pub description: String,
    /// It thinks: all do.
    pub is_agent: bool,
    /// Whom it may ask.
    pub peers: Vec<String>,
    /// The name of a message to it.
    pub root_tag: String,
}

impl From<&Known> for Capability {
    fn from(known: &Known) -> Capability {
        Capability {
            name: known.agent.name.clone(),
            description: known.agent.description.clone(),
            is_agent: true,
            peers: known.agent.peers.clone(),
            root_tag: known.agent.payload.clone(),
        }
    }
}

/// One who can be told something, and what such a message looks like.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub struct CapabilityDetail {
    /// Its name.
    pub name: String,
    /// What it is good for.
    pub description: String,
    /// It thinks: all do.
    pub is_agent: bool,
    /// Whom it may ask.
    pub peers: Vec<String>,
    /// The name of a message to it.
    pub root_tag: String,
    /// The same.
    pub payload_class: String,
    /// What a message to it has, as an XML Schema.
    pub schema_xsd: String,
    /// Such a message.
    pub example_xml: String,
}
