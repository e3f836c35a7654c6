//! The actor: reads definitions, works out what they change, and writes that.
//!
//! Changes are made one after the other here. Two nodes that are told at the same moment both change the ledger; of each
//! agent the later word counts.

use super::{
    NAME,
    draft::{Agent, Draft, FILE_BYTES_MAX},
    messages::{Change, Listed, Message, ModelChange, OrganismError, Standing},
    read,
    records::{self, AGENTS, FRAME, FRAME_ID, MODELS, STANDING},
};
use crate::{
    Context,
    event::{
        What,
        what::{AgentState, Reload},
    },
    ledger::Write,
};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use skep_runtime::{Reach, Wire};
use std::{collections::BTreeMap, io::Read, path::Path};

/// What the file in a node's folder may be called; the first that is there counts.
const FILES: [&str; 3] = ["organism.toml", "organism.yaml", "organism.yml"];

struct OrganismActor;

/// Starts the actor and publishes it. The ledger must be there first.
///
/// # Errors
/// The actor could not be spawned.
pub async fn start(context: &Context, supervisor: ActorCell) -> Result<ActorCell, SpawnErr> {
    let spawned =
        context.directory.spawn_within(Reach::Nothing, NAME, OrganismActor, context.clone(), Some(supervisor));
    Ok(spawned.await?.get_cell())
}

impl Actor for OrganismActor {
    type Msg = Message;
    type State = Context;
    type Arguments = Context;

    async fn pre_start(&self, _: ActorRef<Message>, context: Context) -> Result<Context, ActorProcessingErr> {
        Ok(context)
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        context: &mut Context,
    ) -> Result<(), ActorProcessingErr> {
        // Who asked may have given up.
        match message {
            Message::Load(Wire(text), reply) => drop(reply.send(Wire(load(context, &text).await))),
            Message::Reload(reply) => drop(reply.send(Wire(reload(context).await))),
            Message::List(reply) => drop(reply.send(Wire(list(context)))),
            Message::Set(Wire((name, standing)), reply) => drop(reply.send(Wire(set(context, &name, standing).await))),
            Message::Model(Wire((name, model)), reply) => {
                drop(reply.send(Wire(change_model(context, &name, model).await)));
            }
        }
        Ok(())
    }
}

async fn reload(context: &Context) -> Result<Change, OrganismError> {
    let home = context.home.clone();
    let text =
        context.tasks.compute(move || file(&home)).await.map_err(|e| OrganismError::Unreadable(e.to_string()))??;
    load(context, &text).await
}

/// The text of the definition in a node's folder.
fn file(home: &Path) -> Result<String, OrganismError> {
    let path = FILES.iter().map(|name| home.join(name)).find(|path| path.exists()).ok_or(OrganismError::NoFile)?;
    let unreadable = |e: std::io::Error| OrganismError::Unreadable(e.to_string());
    let mut text = String::new();
    // One byte more than may be: so that it is known to be too long without being read to its end.
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

async fn load(context: &Context, text: &str) -> Result<Change, OrganismError> {
    let draft = read::read(text).map_err(OrganismError::Wrong)?;
    let known: BTreeMap<String, Agent> =
        records::agents(&context.ledger)?.into_iter().map(|agent| (agent.name.clone(), agent)).collect();
    let (change, mut writes) = difference(&known, &draft);
    if records::frame(&context.ledger)? != draft.frame {
        writes.push(FRAME.write(FRAME_ID, 0, Some(&draft.frame)));
    }
    context.ledger.visit(MODELS, |chosen| writes.push(MODELS.write(&chosen.id, 0, None)))?;
    context.ledger.put(writes).await?;
    tracing::info!(
        added = change.added.len(),
        removed = change.removed.len(),
        updated = change.updated.len(),
        "the agents' definitions were loaded"
    );
    let names = |names: &[String]| names.join(", ").into();
    context.events.publish(|| {
        What::Reload(Reload {
            added: names(&change.added),
            removed: names(&change.removed),
            updated: names(&change.updated),
        })
    });
    Ok(change)
}

/// What a draft changes, in words and in writes. Nothing is written of an agent that stays as it is, and whether one works is
/// not the definition's to say: who is paused, goes and comes back is paused.
pub(super) fn difference(known: &BTreeMap<String, Agent>, draft: &Draft) -> (Change, Vec<Write>) {
    let (mut change, mut writes) = (Change::default(), Vec::new());
    for agent in &draft.agents {
        let changed = match known.get(&agent.name) {
            None => Some(&mut change.added),
            Some(before) => (before != agent).then_some(&mut change.updated),
        };
        if let Some(names) = changed {
            names.push(agent.name.clone());
            writes.push(AGENTS.write(agent.name.as_bytes(), 0, Some(agent)));
        }
    }
    for name in known.keys().filter(|name| !draft.agents.iter().any(|agent| agent.name == **name)) {
        change.removed.push(name.clone());
        writes.push(AGENTS.write(name.as_bytes(), 0, None));
    }
    (change, writes)
}

fn list(context: &Context) -> Result<Listed, OrganismError> {
    let with_standing =
        |agent: Agent| records::standing(&context.ledger, &agent.name).map(|standing| (agent, standing));
    let agents = records::agents(&context.ledger)?.into_iter().map(with_standing).collect::<Result<_, _>>()?;
    Ok(Listed { frame: records::frame(&context.ledger)?, agents })
}

async fn set(context: &Context, name: &str, standing: Standing) -> Result<(), OrganismError> {
    known(context, name)?;
    if records::standing(&context.ledger, name)? != standing {
        context.ledger.put(vec![STANDING.write(name.as_bytes(), 0, Some(&standing))]).await?;
        let state = match standing {
            Standing::Ready => "idle",
            Standing::Paused => "paused",
            Standing::Stopped => "stopped",
        };
        let told = || AgentState { agent_id: name.into(), state: state.into(), thread_id: None };
        context.events.publish(|| What::AgentState(told()));
    }
    Ok(())
}

async fn change_model(context: &Context, name: &str, model: Option<String>) -> Result<ModelChange, OrganismError> {
    let agent = known(context, name)?;
    let change = ModelChange { old: agent.model.clone(), new: model.clone() };
    let agent = Agent { model: model.clone(), peers: Vec::new(), ..agent };
    let problems = Draft { agents: vec![agent], ..Draft::default() }.problems();
    if !problems.is_empty() {
        return Err(OrganismError::Wrong(problems));
    }
    // Not the agent as it was read here: another node may be loading a new definition of it.
    context.ledger.put(vec![MODELS.write(name.as_bytes(), 0, Some(&model))]).await?;
    Ok(change)
}

fn known(context: &Context, name: &str) -> Result<Agent, OrganismError> {
    records::defined(&context.ledger, name)?.ok_or_else(|| OrganismError::NoSuchAgent(crate::agent::bounded(name, 64)))
}
