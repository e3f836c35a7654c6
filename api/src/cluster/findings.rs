//! `/api/cluster/doctor`: what stands between this node and its peers.

use crate::{Reply, caller::Caller, limits::JOIN_TIMEOUT, tag::Tag};
use poem_openapi::{Object, OpenApi, payload::Json};
use skep_actors::{Context, node, runtime::swarm};

/// Endpoints of the diagnosis.
#[derive(Clone)]
pub struct Findings(pub Context);

#[OpenApi(prefix_path = "/api/cluster/doctor", tag = "Tag::Cluster")]
impl Findings {
    /// Diagnose this node's network
    #[oai(path = "/", method = "get", operation_id = "doctor_get")]
    async fn get(&self, _caller: Caller) -> Reply<Json<Vec<Finding>>> {
        let node = self.0.directory.here::<node::Message>(node::NAME);
        let findings = node.ask(JOIN_TIMEOUT, node::Message::Diagnose).await?;
        Ok(Json(findings.into_iter().map(Finding::from).collect()))
    }
}

/// What was looked at, and what to do if it is not well.
#[derive(Object)]
pub struct Finding {
    /// What was looked at.
    pub check: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found, and the next step if it isn't well.
    pub detail: String,
}

impl From<swarm::Finding> for Finding {
    fn from(finding: swarm::Finding) -> Finding {
        Finding { check: finding.check, ok: finding.ok, detail: finding.detail }
    }
}
