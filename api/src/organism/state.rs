//! The agents of a swarm with what they have to do, as several resources show them.

use crate::{Problem, Reply};
use skep_actors::{
    Context,
    organism::{self, Agent, Frame, Standing},
    runtime::defaults::ASK_TIMEOUT,
    thread::{self, messages::Activity},
};
use std::collections::BTreeMap;

/// An agent, whether it works, and what it has to do.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) agent: Agent,
    pub(crate) standing: Standing,
    pub(crate) activity: Activity,
}

/// All agents by name, the main one included, and what holds for all.
pub(crate) async fn all(context: &Context) -> Reply<(Frame, Vec<Known>)> {
    let organism = context.directory.here::<organism::Message>(organism::NAME);
    let listed = organism.ask(ASK_TIMEOUT, organism::Message::List).await??;
    let threads = context.directory.here::<thread::Message>(thread::NAME);
    let activity = threads.ask(ASK_TIMEOUT, thread::Message::Activity).await?;
    let mut activity: BTreeMap<String, Activity> = activity.into_iter().collect();
    let mut agents = listed.agents;
    if !agents.iter().any(|(agent, _)| agent.name == thread::MAIN) {
        agents.push((Agent::main(), Standing::Ready));
        agents.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    }
    let known = agents.into_iter().map(|(agent, standing)| {
        let activity = activity.remove(&agent.name).unwrap_or_default();
        Known { agent, standing, activity }
    });
    Ok((listed.frame, known.collect()))
}

/// One agent, or a problem in the words of whoever asks for it.
pub(crate) async fn one(context: &Context, name: &str, what: &str) -> Reply<Known> {
    let (_, all) = all(context).await?;
    let found = all.into_iter().find(|known| known.agent.name == name);
    found.ok_or_else(|| Problem::not_found(format!("{what}: {name}")))
}
