//! Language models: on disk, planned, served, and what runs on them. Messages to the ModelsActor and to pipelines.

pub mod capabilities;
pub mod chat;
pub mod models;
pub mod plans;
pub mod pull;
pub mod removal;
pub mod sessions;
pub mod status;

use crate::greedy::Greedy;
use skep_actors::Context;

/// The resources of this area.
pub type Routes = (
    models::Models,
    Greedy<removal::Removal>,
    status::Status,
    pull::Pull,
    chat::Chat,
    plans::Plans,
    sessions::Sessions,
    capabilities::Capabilities,
);

/// The resources of this area, in this node.
pub fn routes(context: &Context) -> Routes {
    (
        models::Models(context.clone()),
        Greedy(removal::Removal(context.clone())),
        status::Status(context.clone()),
        pull::Pull(context.clone()),
        chat::Chat(context.clone()),
        plans::Plans(context.clone()),
        sessions::Sessions(context.clone()),
        capabilities::Capabilities(context.clone()),
    )
}
