//! Whether all is well, and the numbers. Messages to the NodeActor.

pub mod alive;
pub mod checks;
pub mod metrics;

use skep_actors::Context;

/// The resources of this area.
pub type Routes = (alive::Alive, checks::Health, metrics::Metrics);

/// The resources of this area, in this node.
pub fn routes(context: &Context) -> Routes {
    (alive::Alive(context.clone()), checks::Health(context.clone()), metrics::Metrics(context.clone()))
}
