//! `/api/cluster/waiting` and `approve`: machines that ask to be let in.

use crate::{Reply, caller::Caller, input::Input, limits::JOIN_TIMEOUT, tag::Tag, when::rfc3339};
use poem_openapi::{Object, OpenApi, payload::Json};
use skep_actors::{
    Context,
    node::{self, Message},
    runtime::{Handle, Wire, defaults::ASK_TIMEOUT, swarm},
};

/// Endpoints of admission.
#[derive(Clone)]
pub struct Access(pub Context);

#[OpenApi(prefix_path = "/api/cluster", tag = "Tag::Onboarding")]
impl Access {
    /// List the machines that wait
    #[oai(path = "/waiting", method = "get", operation_id = "waiting_list")]
    async fn list(&self, _caller: Caller) -> Reply<Json<Vec<Waiting>>> {
        let waiting = self.node().ask(ASK_TIMEOUT, Message::Waiting).await?;
        Ok(Json(waiting.into_iter().map(Waiting::from).collect()))
    }

    /// Let a machine in
    ///
    /// By the six digits that its screen shows; compare them there, not here.
    #[oai(path = "/approve", method = "post", operation_id = "waiting_approve")]
    async fn approve(&self, _caller: Caller, body: Input<Approval>) -> Reply<Json<Approved>> {
        let id = self.node().ask(JOIN_TIMEOUT, |port| Message::Approve(Wire(body.0.code), port)).await??;
        Ok(Json(Approved { id: id.to_string() }))
    }

    fn node(&self) -> Handle<Message> {
        self.0.directory.here(node::NAME)
    }
}

/// A machine that asks to be let in.
#[derive(Object)]
pub struct Waiting {
    /// Its key.
    pub id: String,
    /// The name that it gives itself.
    pub name: String,
    /// Where it knocks from.
    pub address: String,
    /// Six digits that both screens show.
    pub code: String,
    /// Since when.
    pub since: String,
}

impl From<swarm::Waiting> for Waiting {
    fn from(waiting: swarm::Waiting) -> Waiting {
        Waiting {
            id: waiting.id.to_string(),
            name: waiting.name,
            address: waiting.address.to_string(),
            code: waiting.code,
            since: rfc3339(waiting.since_ms),
        }
    }
}

/// Whom to let in.
#[derive(Object)]
pub struct Approval {
    /// The six digits on its screen.
    #[oai(validator(min_length = 1, max_length = 16))]
    pub code: String,
}

/// Who was let in.
#[derive(Object)]
pub struct Approved {
    /// Its key.
    pub id: String,
}
