//! `/api/nodes`: the machines of the swarm.

use super::node::Node;
use crate::{Reply, caller::Caller, reply::Done, tag::Tag};
use poem_openapi::{
    OpenApi,
    param::{Path, Query},
    payload::Json,
};
use skep_actors::{
    Context,
    node::{self, Message},
    runtime::{Handle, Wire, defaults::ASK_TIMEOUT},
};

/// Endpoints of the machines.
#[derive(Clone)]
pub struct Nodes(pub Context);

#[OpenApi(prefix_path = "/api/nodes", tag = "Tag::Cluster")]
impl Nodes {
    /// List the machines
    #[oai(path = "/", method = "get", operation_id = "nodes_list")]
    async fn list(&self, _caller: Caller) -> Reply<Json<Vec<Node>>> {
        let listed = self.node().ask(ASK_TIMEOUT, Message::List).await?;
        Ok(Json(listed.into_iter().map(Node::from).collect()))
    }

    /// Show one machine
    #[oai(path = "/:id", method = "get", operation_id = "nodes_get")]
    async fn get(
        &self,
        _caller: Caller,
        /// Its key, the beginning of it, or its name
        id: Path<String>,
    ) -> Reply<Json<Node>> {
        let listed = self.node().ask(ASK_TIMEOUT, |port| Message::Get(Wire(id.0), port)).await??;
        Ok(Json(listed.into()))
    }

    /// Take a machine off the roster
    ///
    /// Its connections close and no message of it is obeyed again. Needs more than half of the roster to answer.
    #[oai(path = "/:id", method = "delete", operation_id = "nodes_delete")]
    async fn delete(
        &self,
        _caller: Caller,
        /// Its key, the beginning of it, or its name
        id: Path<String>,
        /// Go on without a majority: two halves of a cut network may then disagree about the roster
        force: Query<Option<bool>>,
    ) -> Reply<Done> {
        let who = (id.0, force.0.unwrap_or(false));
        self.node().ask(ASK_TIMEOUT, |port| Message::Evict(Wire(who), port)).await??;
        Ok(Done::Done)
    }

    fn node(&self) -> Handle<Message> {
        self.0.directory.here(node::NAME)
    }
}
