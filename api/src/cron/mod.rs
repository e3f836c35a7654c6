//! Commands that run at times. Messages to the CronActor.

pub mod job;
pub mod jobs;
pub mod runs;

use skep_actors::Context;

/// The resources of this area.
pub type Routes = (jobs::Jobs, runs::Runs);

/// The resources of this area, in this node.
pub fn routes(context: &Context) -> Routes {
    (jobs::Jobs(context.clone()), runs::Runs(context.clone()))
}
