//! What the ledger keeps of an organism: one record an agent, one for the frame, one for whether an agent works, and one for a
//! model that somebody chose for it. So two nodes that are told different things of one agent at once don't undo each other's.

use super::{
    draft::{Agent, Frame},
    messages::Standing,
};
use crate::ledger::{Collection, Ledger};
use skep_runtime::store;

/// Agents, by their names' bytes.
pub(super) const AGENTS: Collection<Agent> = Collection::new(10, 1);
/// The frame, under [`FRAME_ID`].
pub(super) const FRAME: Collection<Frame> = Collection::new(11, 1);
/// The model that an agent thinks with in place of its definition's, by its name's bytes. The next definition ends it.
pub(super) const MODELS: Collection<Option<String>> = Collection::new(18, 1);
/// Whether an agent works, by its name's bytes; one without a record does. It stays when the agent goes, which may come back.
pub(super) const STANDING: Collection<Standing> = Collection::new(12, 1);
/// The one frame.
pub(super) const FRAME_ID: &[u8] = b"frame";

/// The agent of this name, as this node knows it. There always is a [main](super::MAIN) one.
///
/// # Errors
/// The store could not be read.
pub fn agent(ledger: &Ledger, name: &str) -> Result<Option<Agent>, store::Error> {
    Ok(defined(ledger, name)?.or_else(|| (name == super::MAIN).then(Agent::main)))
}

/// The same, of those that somebody has defined.
pub(super) fn defined(ledger: &Ledger, name: &str) -> Result<Option<Agent>, store::Error> {
    if !super::draft::is_name(name) {
        return Ok(None);
    }
    ledger.get(AGENTS, name.as_bytes())?.map(|record| with_model(ledger, record.value)).transpose()
}

/// An agent, with the model that was chosen for it.
fn with_model(ledger: &Ledger, agent: Agent) -> Result<Agent, store::Error> {
    Ok(match ledger.get(MODELS, agent.name.as_bytes())? {
        Some(chosen) => Agent { model: chosen.value, ..agent },
        None => agent,
    })
}

/// Whether the agent of this name works.
///
/// # Errors
/// The store could not be read.
pub fn standing(ledger: &Ledger, name: &str) -> Result<Standing, store::Error> {
    Ok(ledger.get(STANDING, name.as_bytes())?.map_or(Standing::Ready, |record| record.value))
}

/// What holds for all agents.
///
/// # Errors
/// The store could not be read.
pub fn frame(ledger: &Ledger) -> Result<Frame, store::Error> {
    Ok(ledger.get(FRAME, FRAME_ID)?.map(|record| record.value).unwrap_or_default())
}

/// All agents, by name.
pub(super) fn agents(ledger: &Ledger) -> Result<Vec<Agent>, store::Error> {
    let mut agents: Vec<Agent> = Vec::new();
    ledger.visit(AGENTS, |record| agents.push(record.value))?;
    agents.sort_by(|a, b| a.name.cmp(&b.name));
    agents.into_iter().map(|agent| with_model(ledger, agent)).collect()
}
