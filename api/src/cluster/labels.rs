//! `/api/nodes/:id/labels`: what the owner says of a machine, for placement to ask about.

use crate::{Reply, caller::Caller, tag::Tag};
use poem_openapi::{Object, OpenApi, param::Path, payload::Json};
use skep_actors::{
    Context,
    node::{self, Message},
    runtime::{Wire, defaults::ASK_TIMEOUT},
};
use std::collections::BTreeMap;

/// Endpoints of a machine's labels.
#[derive(Clone)]
pub struct Labels(pub Context);

/// Labels to give and to take away, all or none of them.
#[derive(Debug, Object)]
pub struct LabelChange {
    /// Labels by key.
    #[oai(validator(max_properties = 64))]
    pub set: Option<BTreeMap<String, String>>,
    /// Keys of those to take away.
    #[oai(validator(max_items = 64))]
    pub remove: Option<Vec<String>>,
}

/// The labels of a machine.
#[derive(Debug, Object)]
pub struct NodeLabels {
    /// What its owner says of it.
    pub labels: BTreeMap<String, String>,
}

#[OpenApi(prefix_path = "/api/nodes", tag = "Tag::Cluster")]
impl Labels {
    /// Give a machine labels, or take them away
    ///
    /// They survive its restarts. Commands ask for them with `labels`; the other machines know them a moment later.
    #[oai(path = "/:id/labels", method = "post", operation_id = "nodes_label")]
    async fn label(
        &self,
        _caller: Caller,
        /// Its key, the beginning of it, or its name
        id: Path<String>,
        change: Json<LabelChange>,
    ) -> Reply<Json<NodeLabels>> {
        let LabelChange { set, remove } = change.0;
        let gone = remove.unwrap_or_default().into_iter().map(|key| (key, None));
        let given = set.unwrap_or_default().into_iter().map(|(key, value)| (key, Some(value)));
        let labelling = gone.chain(given).collect();
        let here = self.0.directory.here::<Message>(node::NAME);
        let listed = here.ask(ASK_TIMEOUT, |port| Message::Get(Wire(id.0), port)).await??;
        let there = self.0.directory.at::<Message>(listed.member.id, node::NAME);
        let labels = there.ask(ASK_TIMEOUT, |port| Message::Label(Wire(labelling), port)).await??;
        Ok(Json(NodeLabels { labels }))
    }
}
