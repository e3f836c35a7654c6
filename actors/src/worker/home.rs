//! The home's part of the desk: workers that register, speak and wait here, and the way to those that are at home elsewhere.

use super::{
    desk::{Desk, State, Taker},
    messages::{Claim, Message, Profile, Release, TAKE_MARGIN, Take, Vitals, Word, WorkerError},
    registry::{Filter, NewWorker, Status, WORKERS, WORKERS_MAX, Worker, health},
    strategy::Strategy,
};
use crate::{
    defaults::GATHER_TIMEOUT,
    ledger::{self, Collection},
};
use futures::{StreamExt, future::join_all, stream::FuturesUnordered};
use skep_runtime::{NodeId, Wire, defaults::ASK_TIMEOUT};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// The swarm's choices about jobs, by name.
pub(super) const SETTINGS: Collection<Strategy> = Collection::new(22, 1);
/// The one of how jobs are given.
pub(super) const STRATEGY_ID: &[u8] = b"strategy";
/// Where a worker is at home.
enum Home {
    Here,
    There(NodeId),
}

impl Desk {
    /// A worker comes to this node.
    pub(super) async fn register(self: Arc<Self>, said: NewWorker) -> Result<Worker, WorkerError> {
        said.check()?;
        let id = said.id.clone();
        let known = self.registration(&id).await;
        let me = self.me();
        let registered_ms = known.as_ref().map_or(self.context.env.now_ms(), |worker| worker.registered_ms);
        let worker = Worker { said, home: me, registered_ms };
        if known.is_none_or(|known| known.home != me) && !self.state().core.registry.has_room(me) {
            return Err(WorkerError::TooMany(WORKERS_MAX));
        }
        let written = self.context.ledger.note(vec![registration(&worker)]).await?;
        self.change(|state, now| {
            state.core.registry.note(&id, Some(worker.clone()));
            ((), state.core.hear(&id, None, now))
        });
        self.context.ledger.confirmed(written.entries).await?;
        Ok(worker)
    }

    /// A worker says something, wherever it is at home.
    pub(super) async fn say(self: Arc<Self>, id: String, word: Word) -> Result<u64, WorkerError> {
        word.check()?;
        match self.home_of(&id).await? {
            Home::Here => self.said(id, word),
            Home::There(node) => {
                let said = self.workers(node).ask(ASK_TIMEOUT, |reply| Message::Said(Wire((id, word)), reply)).await;
                said.unwrap_or_else(|error| Err(error.into()))
            }
        }
    }

    /// A worker of this home says something.
    pub(super) fn said(self: &Arc<Self>, id: String, word: Word) -> Result<u64, WorkerError> {
        self.is_home_of(&id)?;
        Ok(self.change(|state, now| {
            let core = &mut state.core;
            let has = if let Word::Heartbeat(has) = &word { has.as_ref() } else { None };
            let actions = core.hear(&id, has, now);
            match word {
                Word::Heartbeat(_) => core.registry.beat(&id),
                Word::Status(status, load) => core.registry.say(&id, status, load),
            }
            (now.wall_ms, actions)
        }))
    }

    /// A worker asks for a job, wherever it is at home.
    pub(super) async fn take(self: Arc<Self>, take: Take, taker: Taker) {
        let home = match take.check() {
            Ok(()) => self.home_of(&take.worker).await,
            Err(error) => Err(error),
        };
        match home {
            Ok(Home::Here) => self.wait(take, taker),
            Ok(Home::There(node)) => {
                let deadline = Duration::from_secs(take.wait_s.into()) + TAKE_MARGIN;
                let asked = self.workers(node).ask(deadline, |reply| Message::Wait(Wire(take), reply)).await;
                let _ = taker.send(Wire(asked.unwrap_or_else(|error| Err(error.into()))));
            }
            Err(error) => drop(taker.send(Wire(Err(error)))),
        }
    }

    /// A worker of this home waits for a job.
    pub(super) fn wait(self: &Arc<Self>, take: Take, taker: Taker) {
        // Whoever asks in an endless loop without patience still gets one look at the queues.
        let wait = Duration::from_secs(take.wait_s.into());
        if let Err(error) = self.is_home_of(&take.worker).and_then(|()| take.check()) {
            return drop(taker.send(Wire(Err(error))));
        }
        self.change(|state, now| {
            let mut actions = state.core.hear(&take.worker, take.has.as_ref(), now);
            match state.core.wait(&take.worker, wait, take.lease_s, now) {
                Ok(ticket) => {
                    state.takes.insert(ticket, taker);
                    actions.extend(state.core.pump(now));
                }
                Err(error) => drop(taker.send(Wire(Err(error)))),
            }
            ((), actions)
        });
    }

    /// Asks a job's owner for it, for a take that waits here.
    pub(super) async fn ask_for(self: Arc<Self>, ticket: u64, owner: NodeId, claim: Claim) {
        let (job, worker) = (claim.job, claim.worker.clone());
        let attempt = self.state().core.get(job).map_or(0, |slip| slip.attempts) + 1;
        let given = match owner == self.me() {
            true => self.assign(claim).await,
            false => {
                let asked = self.workers(owner).ask(ASK_TIMEOUT, |reply| Message::Claim(Wire(claim), reply)).await;
                asked.unwrap_or_else(|error| Err(error.into()))
            }
        };
        let slip = given.as_ref().ok().map(|job| job.slip.clone());
        let claimed = |state: &mut State, now| {
            let (waits, actions) = state.core.claimed(ticket, job, slip, now);
            (if waits { state.takes.remove(&ticket) } else { None }, actions)
        };
        let taker = self.change(claimed);
        let attempt = match given {
            Ok(job) => {
                let attempt = job.slip.attempts;
                // The worker may have gone: what it did not get, another one shall have.
                if taker.is_some_and(|taker| taker.send(Wire(Ok(Some(job)))).is_ok()) {
                    return;
                }
                attempt
            }
            // The owner may have given it, and its answer was lost.
            Err(WorkerError::Link(_)) => attempt,
            Err(_) => return,
        };
        self.state().core.stray(job, attempt);
        self.return_to(owner, Release { job, worker, attempt, handed: false }).await;
    }

    /// How jobs are given from now on.
    pub(super) async fn balance(self: Arc<Self>, strategy: Strategy) -> Result<Strategy, WorkerError> {
        let written = self.context.ledger.note(vec![SETTINGS.write(STRATEGY_ID, 0, Some(&strategy))]).await?;
        self.state().core.strategy = strategy;
        self.context.ledger.confirmed(written.entries).await?;
        Ok(strategy)
    }

    /// The workers of the swarm that are meant, the healthiest first.
    pub(super) async fn discover(self: Arc<Self>, filter: Filter) -> Vec<Profile> {
        let mut profiles = self.profiles().await;
        profiles.retain(|profile| {
            filter.means(&profile.worker.said)
                && filter.status.is_none_or(|status| status == profile.status)
                && filter.min_health.is_none_or(|least| profile.health >= least)
        });
        profiles.sort_by(|a, b| b.health.total_cmp(&a.health).then_with(|| a.worker.said.id.cmp(&b.worker.said.id)));
        profiles.truncate(filter.limit.map_or(usize::MAX, |limit| limit as usize));
        profiles
    }

    /// One worker.
    pub(super) async fn look(self: Arc<Self>, id: String) -> Result<Profile, WorkerError> {
        let worker = self.registration(&id).await.ok_or_else(|| WorkerError::NoSuchWorker(id.clone()))?;
        let vitals = self.gather(Some(id.clone())).await.remove(&id).unwrap_or_default();
        Ok(self.profile(&worker, &vitals))
    }

    /// All workers of the swarm.
    pub(super) async fn profiles(&self) -> Vec<Profile> {
        let vitals = self.gather(None).await;
        let workers: Vec<Worker> = self.state().core.registry.all().cloned().collect();
        let none = Vitals::default();
        workers.iter().map(|worker| self.profile(worker, vitals.get(&worker.said.id).unwrap_or(&none))).collect()
    }

    fn profile(&self, worker: &Worker, vitals: &Vitals) -> Profile {
        let heard = vitals.heard.as_ref();
        Profile {
            status: heard.map_or(Status::Stale, super::registry::Heard::status),
            heard_ms: heard.map_or(worker.registered_ms, |heard| heard.at_ms),
            load: heard.map(|heard| heard.load).unwrap_or_default(),
            held: self.state().core.held(&worker.said.id),
            record: vitals.record,
            health: health(heard, vitals.record),
            worker: worker.clone(),
        }
    }

    /// What this node knows of a worker, or of all of which it knows something.
    pub(super) fn vitals(&self, id: Option<&str>) -> BTreeMap<String, Vitals> {
        let now = self.now();
        let (state, me) = (self.state(), self.me());
        let core = &state.core;
        let of = |worker: &Worker| {
            let id = &worker.said.id;
            let heard = core.registry.heard(id, now.uptime).filter(|_| worker.home == me);
            (id.clone(), Vitals { heard, record: core.record(id) })
        };
        let all = core.registry.all().filter(|worker| id.is_none_or(|id| id == worker.said.id));
        all.map(of).filter(|(_, vitals)| *vitals != Vitals::default()).collect()
    }

    /// What all nodes know that answer in time.
    async fn gather(&self, id: Option<String>) -> BTreeMap<String, Vitals> {
        let mut all = self.vitals(id.as_deref());
        let ask = |node| {
            let (workers, id) = (self.workers(node), id.clone());
            async move { workers.ask(GATHER_TIMEOUT, |reply| Message::Vitals(Wire(id), reply)).await }
        };
        for (id, vitals) in
            join_all(self.context.members.others_up().into_iter().map(ask)).await.into_iter().flatten().flatten()
        {
            let known = all.entry(id).or_default();
            known.record.add(vitals.record);
            known.heard = match (known.heard, vitals.heard) {
                (Some(a), Some(b)) => Some(if a.silent_ms <= b.silent_ms { a } else { b }),
                (a, b) => a.or(b),
            };
        }
        all
    }

    /// A worker's registration, from wherever it is known.
    async fn registration(&self, id: &str) -> Option<Worker> {
        let known = self.state().core.registry.get(id).cloned();
        if known.is_some() {
            return known;
        }
        let ask = |node| {
            let (workers, id) = (self.workers(node), id.to_owned());
            async move { workers.ask(GATHER_TIMEOUT, |reply| Message::Whois(Wire(id), reply)).await }
        };
        let mut asked: FuturesUnordered<_> = self.context.members.others_up().into_iter().map(ask).collect();
        while let Some(answer) = asked.next().await {
            if let Ok(Some(worker)) = answer {
                return Some(worker);
            }
        }
        None
    }

    /// Where a worker is at home. One whose home is gone moves in here.
    async fn home_of(self: &Arc<Self>, id: &str) -> Result<Home, WorkerError> {
        let worker = self.registration(id).await.ok_or_else(|| WorkerError::NoSuchWorker(id.into()))?;
        if worker.home == self.me() {
            return Ok(Home::Here);
        }
        if self.answers(worker.home) {
            return Ok(Home::There(worker.home));
        }
        if !self.state().core.registry.has_room(self.me()) {
            return Err(WorkerError::TooMany(WORKERS_MAX));
        }
        tracing::info!(worker = %id, from = ?worker.home, "a worker whose node is gone moves in here");
        let worker = Worker { home: self.me(), ..worker };
        let written = self.context.ledger.note(vec![registration(&worker)]).await?;
        self.context.ledger.tell(written.entries);
        self.state().core.registry.note(id, Some(worker));
        Ok(Home::Here)
    }

    fn is_home_of(&self, id: &str) -> Result<(), WorkerError> {
        match self.state().core.registry.get(id).map(|worker| worker.home) {
            Some(home) if home == self.me() => Ok(()),
            Some(_) => Err(WorkerError::Moved),
            None => Err(WorkerError::NoSuchWorker(id.into())),
        }
    }
}

fn registration(worker: &Worker) -> ledger::Write {
    // Nobody owns it: the last word counts.
    WORKERS.write(worker.said.id.as_bytes(), 0, Some(worker))
}
