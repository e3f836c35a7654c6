//! The agents of a swarm with what they have to do, as several resources show them.

use crate::{Problem, Reply, limits::CANCEL_TIMEOUT};
use poem::http::StatusCode;
use skep_actors::{
    Context,
    organism::{self, Agent, Frame, Standing},
    runtime::{Wire, defaults::ASK_TIMEOUT},
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

/// What an agent does, in the order in which the one hides the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doing {
    /// It takes nothing.
    Stopped,
    /// It begins nothing new.
    Paused,
    /// It works on an answer.
    Working,
    /// Something waits for it.
    Waiting,
    /// Its last answer failed.
    Failed,
    /// Nothing.
    Nothing,
}

impl Doing {
    /// The word for it where agents are shown as running programs.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Doing::Stopped => "stopped",
            Doing::Paused => "paused",
            Doing::Working => "running",
            Doing::Waiting => "booting",
            Doing::Failed => "error",
            Doing::Nothing => "idle",
        }
    }
}

impl Known {
    /// What it does.
    pub(crate) fn doing(&self) -> Doing {
        match self.standing {
            Standing::Stopped => Doing::Stopped,
            Standing::Paused => Doing::Paused,
            Standing::Ready if self.activity.running > 0 => Doing::Working,
            Standing::Ready if self.activity.waiting > 0 => Doing::Waiting,
            Standing::Ready if self.activity.failed => Doing::Failed,
            Standing::Ready => Doing::Nothing,
        }
    }
}

/// All agents by name, the main one included, and what holds for all.
pub(crate) async fn all(context: &Context) -> Reply<(Frame, Vec<Known>)> {
    let organism = context.directory.here::<organism::Message>(organism::NAME);
    let listed = organism.ask(ASK_TIMEOUT, organism::Message::List).await??;
    let threads = context.directory.here::<thread::Message>(thread::NAME);
    let activity = threads.ask(ASK_TIMEOUT, thread::Message::Activity).await?;
    let mut activity: BTreeMap<String, Activity> = activity.into_iter().collect();
    let mut agents = listed.agents;
    if !agents.iter().any(|(agent, _)| agent.name == organism::MAIN) {
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

/// Lets an agent work, or not.
pub(crate) async fn set(context: &Context, name: &str, standing: Standing) -> Reply<()> {
    let organism = context.directory.here::<organism::Message>(organism::NAME);
    let set = Wire((name.to_owned(), standing));
    Ok(organism.ask(CANCEL_TIMEOUT, |port| organism::Message::Set(set, port)).await??)
}

/// The same of one that is known: the main one can't be stopped while nobody has defined it.
pub(crate) async fn set_known(context: &Context, known: &Known, standing: Standing) -> Reply<()> {
    if known.agent == Agent::main() {
        let why = format!("{} is not defined, so it can't be stopped or started", known.agent.name);
        return Err(Problem::new(StatusCode::CONFLICT, "not_defined", why));
    }
    set(context, &known.agent.name, standing).await
}
