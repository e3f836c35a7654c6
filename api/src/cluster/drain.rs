//! `/api/nodes/:id/drain`: a machine that takes no new work, so that it can be switched off.

use crate::{Reply, caller::Caller, reply::Done, tag::Tag};
use poem_openapi::{OpenApi, param::Path};
use skep_actors::{
    Context,
    node::{self, Message},
    runtime::{Wire, defaults::ASK_TIMEOUT},
};

/// Endpoints of the drain of a machine.
#[derive(Clone)]
pub struct Drain(pub Context);

#[OpenApi(prefix_path = "/api/nodes", tag = "Tag::Cluster")]
impl Drain {
    /// Give a machine no new work
    ///
    /// What runs there goes on. Answered when the other machines are told.
    #[oai(path = "/:id/drain", method = "post", operation_id = "nodes_drain")]
    async fn drain(
        &self,
        _caller: Caller,
        /// Its key, the beginning of it, or its name
        id: Path<String>,
    ) -> Reply<Done> {
        self.set(id.0, true).await
    }

    /// Give a machine work again
    #[oai(path = "/:id/drain", method = "delete", operation_id = "nodes_undrain")]
    async fn undrain(
        &self,
        _caller: Caller,
        /// Its key, the beginning of it, or its name
        id: Path<String>,
    ) -> Reply<Done> {
        self.set(id.0, false).await
    }

    async fn set(&self, id: String, draining: bool) -> Reply<Done> {
        let here = self.0.directory.here::<Message>(node::NAME);
        let listed = here.ask(ASK_TIMEOUT, |port| Message::Get(Wire(id), port)).await??;
        let there = self.0.directory.at::<Message>(listed.member.id, node::NAME);
        there.ask(ASK_TIMEOUT, |port| Message::Drain(Wire(draining), port)).await??;
        Ok(Done::Done)
    }
}
