//! Commands that run on whichever machine has room. Messages to the SchedulerActor.

pub mod commands;
pub mod follow;
pub mod scheduler;
pub mod task;
pub mod text;

use skep_actors::Context;

/// The resources of this area.
pub type Routes = (commands::Tasks, follow::Follow, scheduler::Scheduler);

/// The resources of this area, in this node.
pub fn routes(context: &Context) -> Routes {
    (commands::Tasks(context.clone()), follow::Follow(context.clone()), scheduler::Scheduler(context.clone()))
}
