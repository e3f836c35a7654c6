//! External workers and their jobs, under the paths of the document that has no prefix: `/agents`, `/tasks`. Messages to
//! the WorkerActor.
//!
//! The document calls workers agents and jobs tasks. They are neither the agents of `/api/agents` (goals, worked on by
//! this program) nor the tasks of `/api/tasks` (commands, run by it).

pub mod agent;
pub mod agents;
pub mod job;
pub mod queues;
pub mod work;

use skep_actors::{
    Context,
    runtime::Handle,
    worker::{self, Message},
};

/// The resources of this area.
pub type Routes = (agents::Agents, work::AgentWork, job::Jobs, queues::Queues);

/// The resources of this area, in this node.
pub fn routes(context: &Context) -> Routes {
    (
        agents::Agents(context.clone()),
        work::AgentWork(context.clone()),
        job::Jobs(context.clone()),
        queues::Queues(context.clone()),
    )
}

/// This node's WorkerActor.
fn workers(context: &Context) -> Handle<Message> {
    context.directory.here(worker::NAME)
}

/// What every answer of these paths says of itself.
fn success() -> String {
    "success".into()
}
