//! Acknowledged jobs for external workers: what was taken waits or ends, and ends once.

use crate::{World, clock};
use anyhow::{Result, bail, ensure};
use skep_actors::worker::{self, Found, Job, Message, State, WorkerError};
use skep_runtime::Wire;
use std::{collections::BTreeMap, time::Duration};
use uuid::Uuid;

/// How long a question about a job may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// The jobs that nodes have acknowledged, and what became of them as far as that was acknowledged.
#[derive(Default)]
pub struct Jobs {
    taken: BTreeMap<Uuid, Option<End>>,
}

/// How a job has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
struct End {
    state: State,
    result: Option<String>,
    error: Option<String>,
}

impl Jobs {
    /// A node has acknowledged this job.
    pub fn note(&mut self, id: Uuid) {
        self.taken.insert(id, None);
    }

    /// How many there are, and how many of them are not known to have ended.
    pub fn count(&self) -> (usize, usize) {
        (self.taken.len(), self.taken.values().filter(|end| end.is_none()).count())
    }

    /// A job that a worker was told to have finished, or that was seen ended, has ended like this: never otherwise, not
    /// even by another worker's word.
    pub fn ended(&mut self, job: &Job) -> Result<()> {
        let Some(known) = self.taken.get_mut(&job.slip.id) else { return Ok(()) };
        let end = End { state: job.slip.state, result: job.result.clone(), error: job.slip.error.clone() };
        ensure!(end.state.ended(), "a worker was told that it finished {:?}", job.slip);
        ensure!(end.state != State::Failed || end.error.is_some(), "it failed without a reason: {:?}", job.slip);
        if let Some(known) = known {
            ensure!(*known == end, "a job has ended twice: {known:?}, then {end:?}: {:?}", job.slip);
        }
        *known = Some(end);
        Ok(())
    }

    /// Every acknowledged job is known to every node that runs, when all is calm; what has ended has ended as before.
    pub async fn are_kept(&mut self, world: &World) -> Result<()> {
        for id in self.taken.keys().copied().collect::<Vec<_>>() {
            for number in world.running() {
                let workers = world.node(number)?.directory().here::<Message>(worker::NAME);
                match workers.ask(ASK_TIMEOUT, |reply| Message::Get(Wire(id), reply)).await {
                    Ok(Ok(Found { job, .. })) if job.slip.state.ended() => self.ended(&job)?,
                    Ok(Ok(_)) => {
                        let ended = &self.taken[&id];
                        ensure!(ended.is_none(), "{id} had ended as {ended:?}, and is open again on {number}");
                    }
                    Ok(Err(WorkerError::NoSuchJob(_))) => {
                        bail!("{id} was acknowledged, and {number} knows nothing of it")
                    }
                    Ok(Err(error)) => bail!("{number} says of {id}: {error}"),
                    Err(error) => {
                        world.note(&format!("{} ms: {number} does not answer: {error}", clock::now().as_millis()))
                    }
                }
            }
        }
        Ok(())
    }
}
