//! A node's supervision tree, below its supervisor: which actors there are, and in which order they start.
//!
//! The program and the simulator both start this list, so that what is simulated is what runs. Actors of one run,
//! task, shard or pipeline are not here: they come and go under the actor that starts them.

use crate::{
    Context, agent, approval, audit, blob, budget, cron, event, goal, ledger, model, node, organism, ownership,
    scheduler, thread, worker,
};
use skep_runtime::supervise::{Children, Start};

/// The actors of a node, in the order in which they start: later ones ask earlier ones.
pub fn children(context: &Context) -> Children {
    macro_rules! child {
        ($name:expr, $start:path) => {{
            let context = context.clone();
            let start: Start = Box::new(move |parent| {
                let context = context.clone();
                Box::pin(async move { $start(&context, parent).await })
            });
            ($name, start)
        }};
    }
    vec![
        child!(ledger::NAME, ledger::start),
        child!(ownership::NAME, ownership::start),
        child!(node::NAME, node::start),
        child!(event::NAME, event::start),
        child!(blob::NAME, blob::start),
        child!(scheduler::NAME, scheduler::start),
        child!(goal::NAME, goal::start),
        child!(cron::NAME, cron::start),
        child!(worker::NAME, worker::start),
        child!(budget::NAME, budget::start),
        child!(model::NAME, model::start),
        child!(audit::NAME, audit::start),
        child!(approval::NAME, approval::start),
        child!(agent::NAME, agent::start),
        child!(organism::NAME, organism::start),
        child!(thread::NAME, thread::start),
    ]
}
