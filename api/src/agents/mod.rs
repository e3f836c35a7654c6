//! Goals, worked on by agents within a budget of tokens. Messages to the AgentsActor.

pub mod follow;
pub mod log;
pub mod run;
pub mod runs;
pub mod shown;
pub mod spawn;
pub mod templates;

use skep_actors::Context;

/// The resources of this area.
pub type Routes = (runs::Agents, templates::Templates, log::Log, follow::Follow, spawn::Spawn);

/// The resources of this area, in this node.
pub fn routes(context: &Context) -> Routes {
    (
        runs::Agents(context.clone()),
        templates::Templates,
        log::Log(context.clone()),
        follow::Follow(context.clone()),
        spawn::Spawn(context.clone()),
    )
}
