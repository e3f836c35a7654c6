//! `/api/nodes/:id/drain`: a machine that takes no new work, so that it can be switched off.

use crate::{Reply, caller::Caller, reply::Done, tag::Tag};
use poem_openapi::{
    OpenApi,
    param::{Path, Query},
};
use skep_actors::{
    Context,
    node::{self, Message, messages::Duty},
    runtime::{Wire, defaults::ASK_TIMEOUT},
};

/// Endpoints of the drain of a machine.
#[derive(Clone)]
pub struct Drain(pub Context);

#[OpenApi(prefix_path = "/api/nodes", tag = "Tag::Cluster")]
impl Drain {
    /// Give a machine no new work
    ///
    /// What runs there goes on to its end, or only for `within_s` seconds: what is left then is ended and run elsewhere,
    /// from its beginning. Answered when the other machines are told.
    #[oai(path = "/:id/drain", method = "post", operation_id = "nodes_drain")]
    async fn drain(
        &self,
        _caller: Caller,
        /// Its key, the beginning of it, or its name
        id: Path<String>,
        /// Seconds after which what still runs there is sent elsewhere; at most 30 days
        #[oai(validator(minimum(value = "0"), maximum(value = "2592000")))]
        within_s: Query<Option<u64>>,
    ) -> Reply<Done> {
        self.set(id.0, within_s.0.map_or(Duty::NoNewWork, |within_s| Duty::NoWork { within_s })).await
    }

    /// Give a machine work again
    #[oai(path = "/:id/drain", method = "delete", operation_id = "nodes_undrain")]
    async fn undrain(
        &self,
        _caller: Caller,
        /// Its key, the beginning of it, or its name
        id: Path<String>,
    ) -> Reply<Done> {
        self.set(id.0, Duty::Work).await
    }

    async fn set(&self, id: String, duty: Duty) -> Reply<Done> {
        let here = self.0.directory.here::<Message>(node::NAME);
        let listed = here.ask(ASK_TIMEOUT, |port| Message::Get(Wire(id), port)).await??;
        let there = self.0.directory.at::<Message>(listed.member.id, node::NAME);
        there.ask(ASK_TIMEOUT, |port| Message::Drain(Wire(duty), port)).await??;
        Ok(Done::Done)
    }
}
