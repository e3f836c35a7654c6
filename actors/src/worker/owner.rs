//! The owner's part of the desk: what is done to jobs that are decided about here, and the way to those that aren't.

use super::{
    core::Action,
    desk::{Confirm, Desk, Rest, Saved},
    job::{JOBS, Job, Slip},
    messages::{Claim, Finish, Found, Message, NewJob, Release, Stats, Tally, WorkerError},
};
use crate::{defaults::GATHER_TIMEOUT, ledger, scheduler::messages::Priority};
use futures::{StreamExt, future::join_all, stream::FuturesUnordered};
use skep_runtime::{NodeId, Wire};
use std::{sync::Arc, time::Duration};
use tokio::time::sleep;
use uuid::Uuid;

/// How long another owner may take to end a job: a flush there, and up to 10 s until a member has confirmed it.
const FINISH_TIMEOUT: Duration = Duration::from_secs(15);
/// How often a job that is being written is looked at again before it is left to its lease.
const RETURN_TRIES: u32 = 15;
/// The pause between two such looks.
const RETURN_PAUSE: Duration = Duration::from_secs(1);

impl Desk {
    /// Takes a job. Answers when its record is on disk here and on another node, if one answers.
    pub(super) async fn submit(self: Arc<Self>, new: NewJob) -> Result<Job, WorkerError> {
        new.check()?;
        let NewJob { work, priority, needs } = new;
        let (id, bytes) = (self.context.env.id(), work.bytes());
        let submit =
            |state: &mut super::desk::State, now| (state.core.submit(id, bytes, priority, needs, now), Vec::new());
        let slip = self.change(submit)?;
        let term = slip.term;
        match self.save(slip, Rest::New(work, None), Confirm::Yes).await {
            Saved::Well(job) => {
                let slip = job.slip.clone();
                self.change(|state, now| ((), state.core.written(slip, super::core::Wrote::Yes, now)));
                self.count("submitted");
                Ok(*job)
            }
            Saved::Alone => {
                // Nobody shall take over what nobody was promised.
                self.state().core.withdrawn(id);
                self.delete(JOBS.write(id.as_bytes(), term.0, None)).await;
                Err(ledger::Error::Alone.into())
            }
            Saved::Fenced => {
                self.state().core.withdrawn(id);
                Err(WorkerError::Moved)
            }
            Saved::Not(why) => {
                self.state().core.withdrawn(id);
                Err(why)
            }
        }
    }

    /// Gives an own job to a worker that waits somewhere.
    pub(super) async fn assign(self: &Arc<Self>, claim: Claim) -> Result<Job, WorkerError> {
        let next = self.change(|state, now| (state.core.assign(&claim, now), Vec::new()))?;
        // An assignment that is lost with this machine is one that its heir makes anew: the job runs twice then.
        outcome(self.write(next, Rest::Same, Confirm::No).await)
    }

    /// Ends an own job.
    pub(super) async fn finish_own(self: &Arc<Self>, finish: Finish) -> Result<Job, WorkerError> {
        let decide = |state: &mut super::desk::State, now| {
            let ended = state.core.get(finish.job).is_some_and(|slip| slip.state.ended());
            (state.core.finish(&finish, now).map(|next| (next, ended)), Vec::<Action>::new())
        };
        let (next, ended) = self.change(decide)?;
        let rest = if ended { Rest::Same } else { Rest::Result(finish.result) };
        let word = if finish.ok { "completed" } else { "failed" };
        let saved = self.write(next, rest, Confirm::Yes).await;
        if !ended && matches!(saved, Saved::Well(_) | Saved::Alone) {
            self.count(word);
        }
        outcome(saved)
    }

    /// Ends a job, wherever it is decided about.
    pub(super) async fn finish(self: Arc<Self>, finish: Finish) -> Result<Job, WorkerError> {
        finish.check()?;
        let owner = self.owner_of(finish.job).await?;
        if owner == self.me() {
            return self.finish_own(finish).await;
        }
        if !self.answers(owner) {
            return Err(WorkerError::OwnerAway);
        }
        let asked = self.workers(owner).ask(FINISH_TIMEOUT, |reply| Message::Finished(Wire(finish), reply)).await;
        asked.unwrap_or_else(|error| Err(error.into()))
    }

    /// Takes a job back from a worker that doesn't have it. One that is being written is waited for.
    pub(super) async fn give_back(self: &Arc<Self>, release: Release) {
        for _ in 0..RETURN_TRIES {
            let next = self.change(|state, now| (state.core.give_back(&release, now), Vec::new()));
            match next {
                Some(next) => return drop(self.write(next, Rest::Same, Confirm::No).await),
                None if self.state().core.is_writing(release.job) => sleep(RETURN_PAUSE).await,
                None => return,
            }
        }
    }

    /// Cancels own jobs of a class that wait.
    pub(super) async fn clear_own(self: Arc<Self>, class: Priority) -> u32 {
        let cleared = self.change(|state, now| (state.core.clear(class, now), Vec::new()));
        let clear = |next: Slip| {
            let desk = self.clone();
            async move { matches!(desk.write(next, Rest::Same, Confirm::Yes).await, Saved::Well(_) | Saved::Alone) }
        };
        join_all(cleared.into_iter().map(clear)).await.into_iter().filter(|done| *done).count() as u32
    }

    /// Cancels all jobs of a class that wait.
    pub(super) async fn clear(self: Arc<Self>, class: Priority) -> u32 {
        let mut asked: FuturesUnordered<_> = FuturesUnordered::new();
        for node in self.context.members.others_up() {
            let workers = self.workers(node);
            asked.push(async move {
                workers.ask(FINISH_TIMEOUT, |reply| Message::ClearOwn(Wire(class), reply)).await.unwrap_or_default()
            });
        }
        let mut cleared = self.clone().clear_own(class).await;
        while let Some(more) = asked.next().await {
            cleared += more;
        }
        cleared
    }

    /// One job from wherever it is.
    pub(super) async fn get(self: Arc<Self>, id: Uuid) -> Result<Found, WorkerError> {
        let owner = self.state().core.get(id).map(|slip| slip.owner);
        let job = match owner {
            Some(owner) if self.answers(owner) => {
                let asked = self.workers(owner).ask(GATHER_TIMEOUT, |reply| Message::Find(Wire(id), reply)).await;
                asked.ok().flatten().or_else(|| self.shown(id))
            }
            Some(_) => self.shown(id),
            None => self.ask_around(id).await,
        };
        let job = job.ok_or(WorkerError::NoSuchJob(id))?;
        let waits_for = self.state().core.waits_for(&job.slip);
        Ok(Found { job, waits_for })
    }

    /// A job as it is known here: nothing of it that is not on the disk, and of an own end nothing that is not confirmed.
    pub(super) fn shown(&self, id: Uuid) -> Option<Job> {
        let slip = self.state().core.get(id).cloned()?;
        let found = self.context.ledger.get(JOBS, id.as_bytes()).ok().flatten()?;
        let result = found.value.result.filter(|_| slip.state.ended());
        Some(Job { slip, work: found.value.work, result })
    }

    /// Who decides about a job.
    async fn owner_of(&self, id: Uuid) -> Result<NodeId, WorkerError> {
        let known = self.state().core.get(id).map(|slip| slip.owner);
        let known = match known {
            None => self.ask_around(id).await.map(|job| job.slip.owner),
            known => known,
        };
        known.ok_or(WorkerError::NoSuchJob(id))
    }

    /// A job that has not come here yet.
    async fn ask_around(&self, id: Uuid) -> Option<Job> {
        let ask = |node| {
            let workers = self.workers(node);
            async move { workers.ask(GATHER_TIMEOUT, |reply| Message::Find(Wire(id), reply)).await }
        };
        let mut asked: FuturesUnordered<_> = self.context.members.others_up().into_iter().map(ask).collect();
        while let Some(answer) = asked.next().await {
            if let Ok(Some(job)) = answer {
                return Some(job);
            }
        }
        None
    }

    /// Numbers of the whole swarm.
    pub(super) async fn stats(self: Arc<Self>) -> Stats {
        let ask = |node| {
            let workers = self.workers(node);
            async move { workers.ask(GATHER_TIMEOUT, Message::Count).await }
        };
        let counts = join_all(self.context.members.others_up().into_iter().map(ask));
        let (profiles, counts) = futures::future::join(self.profiles(), counts).await;
        let mut tally: Tally = self.state().core.tally();
        counts.into_iter().flatten().for_each(|other| tally.add(other));
        let active = profiles.iter().filter(|profile| profile.status != super::Status::Stale);
        let weights = active.clone().map(|p| (p.worker.said.id.clone(), p.worker.said.weight)).collect();
        let held = active.map(|profile| profile.held).sum();
        let state = self.state();
        Stats { strategy: state.core.strategy, queued: state.core.queued(), tally, weights, held }
    }

    /// Counts what became of jobs of this node: `worker_jobs_submitted`, ...
    fn count(&self, what: &str) {
        let help = format!("jobs for external workers of this node that were {what}");
        self.context.metrics.counter(&format!("worker_jobs_{what}"), &help).inc();
    }
}

fn outcome(saved: Saved) -> Result<Job, WorkerError> {
    match saved {
        Saved::Well(job) => Ok(*job),
        Saved::Alone => Err(ledger::Error::Alone.into()),
        Saved::Fenced => Err(WorkerError::Moved),
        Saved::Not(why) => Err(why),
    }
}
