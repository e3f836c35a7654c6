//! Goals: graphs of commands. Messages to the GoalActor.

pub mod goal;
pub mod graphs;

use skep_actors::Context;

/// The resources of this area.
pub type Routes = graphs::Goals;

/// The resources of this area, in this node.
pub fn routes(context: &Context) -> Routes {
    graphs::Goals(context.clone())
}
