//! The first frame of whoever listens: from here on it is told what happens in the whole swarm, but for the machines that
//! are named as unreached.

use super::shown::Shown;
use crate::{limits::REACH_TIMEOUT, spec, when::rfc3339};
use serde_json::{Value, json};
use skep_actors::{
    Context,
    agent::{self, Message},
    runtime::Wire,
};

/// Runs that the first frame names at most: more are asked for.
const AGENTS_MAX: u32 = 50;

/// The first frame, once other nodes' events come in.
pub(super) async fn welcome(context: &Context) -> Shown {
    let agents = context.directory.here::<Message>(agent::NAME);
    let (unreached, runs) = tokio::join!(
        context.events.reach(&context.members, REACH_TIMEOUT),
        agents.ask(REACH_TIMEOUT, |port| Message::Own(Wire(AGENTS_MAX), port)),
    );
    // A node whose agents don't answer has none to name.
    let at_work: Vec<_> = runs.unwrap_or_default().into_iter().filter(|run| !run.state.ended()).collect();
    let agents: Vec<Value> = at_work
        .iter()
        .map(|run| json!({ "id": run.id, "name": run.id, "state": "processing", "thread_id": run.thread }))
        .collect();
    let mut threads: Vec<_> = at_work.iter().map(|run| run.thread).collect();
    threads.sort_unstable();
    threads.dedup();
    let threads: Vec<Value> = threads.into_iter().map(|id| json!({ "id": id, "thread_id": id })).collect();
    Shown::frame(
        "connected",
        json!({
            "version": spec::VERSION,
            "timestamp": rfc3339(context.env.now_ms()),
            "node_id": context.directory.id(),
            "organism": context.name,
            "agents": agents,
            "threads": threads,
            "unreached": unreached,
        }),
    )
}
