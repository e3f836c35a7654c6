//! What a node decides about jobs: those that are its own, and which of all jobs the workers that wait here ask for.
//! Longer than most files because it is one state machine.
//!
//! No clock, task or disk: events come in with the time, [`Action`]s go out, and the desk executes them. A decision about
//! an own job is the next [`Slip`] of it, which counts once [`Core::written`] says so: nothing is known here that is not
//! on the disk. Until then the job is left alone.
//!
//! ```text
//! submit -> Queued -> claim -> Assigned -> finish -> Completed | Failed
//!              ^                  |
//!              +-- lease ran out, |    at least once, three attempts; a job that never came to its worker
//!                  or released ---+    goes back without counting
//! ```

use super::{
    job::{Needs, Slip, State},
    messages::{Claim, Finish, Release, Tally, WorkerError},
    queue::Queue,
    registry::{Record, Registry},
    strategy::{Candidate, Strategy, choose, pass},
};
use crate::{
    ownership::{Presence, Term, Wards},
    scheduler::{messages::Priority, queue::CLASSES},
};
use skep_runtime::NodeId;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use uuid::Uuid;

/// Jobs that wait or are at work of one owner, some 500 bytes each here. More is a flood, and its sender shall know.
pub const OPEN_JOBS_MAX: usize = 10_000;
/// Bytes of their work together, which lie on every node's disk.
pub const OPEN_BYTES_MAX: usize = 64 << 20;
/// Records of ended jobs of one owner that are kept: the newest.
pub const ENDED_JOBS_MAX: usize = 1000;
/// How often a job is given to a worker before it counts as failed: one that kills its workers stops here.
pub const ATTEMPTS_MAX: u32 = 3;
/// Takes that may wait at one home.
pub const WAITING_MAX: usize = 1000;
/// How long a job is left alone after its owner did not give it: by then the picture here is right.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a job is a worker's before it is missed in what the worker names: its answer may still be on its way.
const SETTLE: Duration = Duration::from_secs(10);

/// How often owners are told that a worker was heard of: well within the shortest lease.
const RENEW_PERIOD: Duration = Duration::from_secs(2);

/// Both clocks at an event, and luck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since 1970.
    pub wall_ms: u64,
    /// Since this node's actor started.
    pub uptime: Duration,
    /// A random number.
    pub draw: u64,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write this next slip of an own job, and report with [`Core::written`].
    Save(Box<Slip>),
    /// Delete an own record, of this term.
    Delete(Uuid, Term),
    /// Ask a job's owner for it, for the take of this number, and report with [`Core::claimed`].
    Claim(u64, NodeId, Claim),
    /// The take of this number has waited long enough.
    Nothing(u64),
    /// Tell these owners that a worker was heard of.
    Renew(BTreeSet<NodeId>, String),
    /// Tell a job's owner that its worker does not have it.
    Release(NodeId, Release),
    /// These jobs' owners are gone: take them over, once it is known what others know of them.
    Adopt(Vec<Uuid>),
    /// Nobody has heard of this worker for long: forget it.
    Forget(String),
}

/// What came of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrote {
    /// It is on the disk.
    Yes,
    /// It is not.
    No,
    /// A later owner has written it: it is not this node's any more.
    Fenced,
}

/// A take that waits.
#[derive(Debug, Clone)]
struct Waiting {
    worker: String,
    until: Duration,
    lease_s: u32,
    /// The job that was asked for.
    asked: Option<Uuid>,
}

/// What strategies remember of a worker.
#[derive(Debug, Clone, Copy, Default)]
struct Turn {
    last: u64,
    pass: u64,
}

/// The jobs and workers of the swarm, as one node sees them.
pub struct Core {
    me: NodeId,
    jobs: BTreeMap<Uuid, Slip>,
    /// Those that wait and may be asked for.
    queue: Queue,
    /// Those that were asked for in vain, until then.
    passed: BTreeMap<Uuid, Duration>,
    /// Jobs by the worker that has them.
    held: BTreeMap<String, BTreeSet<Uuid>>,
    /// Own jobs that are being written.
    writing: BTreeSet<Uuid>,
    /// Bytes of those that are written for the first time.
    arriving: BTreeMap<Uuid, usize>,
    /// Jobs that are a worker's of this home, by this attempt, and never came to it.
    strays: BTreeMap<Uuid, u32>,
    /// Until when a worker may be silent over an own job.
    leases: BTreeMap<Uuid, Duration>,
    /// Since when this node knows that a worker has it.
    since: BTreeMap<Uuid, Duration>,
    open: usize,
    open_bytes: usize,
    /// Own jobs that have ended, in order of their ends.
    ended: BTreeSet<(u64, Uuid)>,
    /// Others' jobs.
    wards: Wards,
    /// Who is in the swarm.
    fleet: BTreeMap<NodeId, Presence>,
    waiting: BTreeMap<u64, Waiting>,
    tickets: u64,
    turns: BTreeMap<String, Turn>,
    turn: u64,
    /// When owners were last told of a worker.
    renewed: BTreeMap<String, Duration>,
    /// How jobs are given.
    pub strategy: Strategy,
    /// Who the workers are.
    pub registry: Registry,
    /// Nothing is done about jobs from before the start: others may own them by now.
    starting: bool,
    tally: Tally,
    records: BTreeMap<String, Record>,
}

impl Core {
    /// The core of `me`, with what survived.
    pub fn new(me: NodeId, slips: Vec<Slip>) -> Core {
        let mut core = Core {
            me,
            jobs: BTreeMap::new(),
            queue: Queue::default(),
            passed: BTreeMap::new(),
            held: BTreeMap::new(),
            writing: BTreeSet::new(),
            arriving: BTreeMap::new(),
            strays: BTreeMap::new(),
            leases: BTreeMap::new(),
            since: BTreeMap::new(),
            open: 0,
            open_bytes: 0,
            ended: BTreeSet::new(),
            wards: Wards::default(),
            fleet: BTreeMap::new(),
            waiting: BTreeMap::new(),
            tickets: 0,
            turns: BTreeMap::new(),
            turn: 0,
            renewed: BTreeMap::new(),
            strategy: Strategy::default(),
            registry: Registry::default(),
            starting: true,
            tally: Tally::default(),
            records: BTreeMap::new(),
        };
        for slip in slips {
            core.put(slip, Duration::ZERO);
        }
        core
    }

    /// What others did meanwhile is known: from now on this node acts on what it owns. Leases begin anew.
    pub fn release(&mut self, now: Now) -> Vec<Action> {
        self.starting = false;
        for (id, until) in &mut self.leases {
            *until = now.uptime + self.jobs.get(id).map_or(Duration::ZERO, lease);
        }
        self.pump(now)
    }

    /// A job, as it is known here.
    pub fn get(&self, id: Uuid) -> Option<&Slip> {
        self.jobs.get(&id)
    }

    /// Whether it is this node's own and being written.
    pub fn is_writing(&self, id: Uuid) -> bool {
        self.writing.contains(&id)
    }

    /// What became of own jobs since the start.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// What became of own jobs with this worker.
    pub fn record(&self, worker: &str) -> Record {
        self.records.get(worker).copied().unwrap_or_default()
    }

    /// How many jobs a worker has.
    pub fn held(&self, worker: &str) -> u32 {
        self.held.get(worker).map_or(0, |jobs| jobs.len() as u32)
    }

    /// Jobs that wait, by class.
    pub fn queued(&self) -> BTreeMap<Priority, u32> {
        let mut queued: BTreeMap<_, _> = CLASSES.into_iter().map(|class| (class, 0)).collect();
        for slip in self.jobs.values().filter(|slip| slip.state == State::Queued) {
            *queued.entry(slip.priority).or_default() += 1;
        }
        queued
    }

    /// What a job waits for, in words.
    pub fn waits_for(&self, slip: &Slip) -> Option<String> {
        let Needs { kind, capabilities } = &slip.needs;
        let able = |worker: &super::Worker| slip.needs.are_met_by(&worker.said.kind, &worker.said.capabilities);
        match slip.state {
            State::Queued if self.registry.all().any(able) => Some("a worker that asks for it".into()),
            State::Queued => {
                let kind = kind.as_ref().map_or(String::new(), |kind| format!(" of type {kind}"));
                let list = capabilities.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
                let with = if list.is_empty() { String::new() } else { format!(" with {list}") };
                Some(format!("a worker{kind}{with}: none is registered"))
            }
            State::Assigned => Some(format!("agent {}", slip.worker.as_deref().unwrap_or_default())),
            State::Completed | State::Failed | State::Cancelled => None,
        }
    }

    // ---- own jobs -------------------------------------------------------------------------------------------------

    /// A new job's slip, if it may be taken. It counts against the bounds from now on.
    ///
    /// # Errors
    /// [`WorkerError::QueueFull`].
    pub fn submit(
        &mut self,
        id: Uuid,
        bytes: usize,
        priority: Priority,
        needs: Needs,
        now: Now,
    ) -> Result<Slip, WorkerError> {
        let arriving: usize = self.arriving.values().sum();
        let (jobs, all) = (self.open + self.arriving.len(), self.open_bytes + arriving + bytes);
        if jobs >= OPEN_JOBS_MAX || all > OPEN_BYTES_MAX {
            return Err(WorkerError::QueueFull(self.open));
        }
        self.writing.insert(id);
        self.arriving.insert(id, bytes);
        Ok(Slip {
            id,
            owner: self.me,
            term: Term::default().next(self.me),
            step: 0,
            priority,
            needs,
            bytes: bytes as u32,
            state: State::Queued,
            attempts: 0,
            worker: None,
            lease_s: 0,
            error: None,
            submitted_ms: now.wall_ms,
            assigned_ms: None,
            finished_ms: None,
        })
    }

    /// A job for a worker that waits: its next slip.
    ///
    /// # Errors
    /// [`WorkerError::Taken`], [`WorkerError::Moved`] or [`WorkerError::Busy`].
    pub fn assign(&mut self, claim: &Claim, now: Now) -> Result<Slip, WorkerError> {
        let slip = self.own(claim.job)?;
        if slip.state != State::Queued {
            return Err(WorkerError::Taken);
        }
        let mut next = step(slip);
        next.state = State::Assigned;
        next.attempts += 1;
        next.worker = Some(claim.worker.clone());
        next.lease_s = claim.lease_s;
        next.assigned_ms = Some(now.wall_ms);
        self.writing.insert(next.id);
        Ok(next)
    }

    /// What came of a job: its next slip. A worker whose lease ran out may still end it while nobody else has it; one that
    /// says twice what counted already is answered alike.
    ///
    /// # Errors
    /// [`WorkerError::Lost`], [`WorkerError::NoSuchJob`], [`WorkerError::Moved`] or [`WorkerError::Busy`].
    pub fn finish(&mut self, finish: &Finish, now: Now) -> Result<Slip, WorkerError> {
        let slip = self.own(finish.job)?;
        let its = slip.worker.as_ref() == Some(&finish.worker);
        if !its || finish.attempt.is_some_and(|attempt| attempt != slip.attempts) {
            return Err(WorkerError::Lost(whose(slip)));
        }
        let mut next = step(slip);
        match slip.state {
            // Said once more: the first word stands, and is confirmed again.
            State::Completed | State::Failed if slip.assigned_ms.is_some() => {}
            State::Cancelled | State::Completed | State::Failed => return Err(WorkerError::Lost(whose(slip))),
            State::Queued | State::Assigned => {
                next.state = if finish.ok { State::Completed } else { State::Failed };
                let why = || finish.error.clone().unwrap_or_else(|| "the worker gave no reason".into());
                next.error = (!finish.ok).then(why);
                next.finished_ms = Some(now.wall_ms);
            }
        }
        self.writing.insert(next.id);
        Ok(next)
    }

    /// A worker does not have a job: its next slip, if that is so.
    pub fn give_back(&mut self, release: &Release, now: Now) -> Option<Slip> {
        let slip = self.own(release.job).ok()?;
        let its = slip.worker.as_ref() == Some(&release.worker) && slip.attempts == release.attempt;
        if slip.state != State::Assigned || !its {
            return None;
        }
        let why = if release.handed { "says that it doesn't have it" } else { "" };
        let mut next = returned(slip, why, now);
        if !release.handed {
            next = Slip { state: State::Queued, attempts: slip.attempts - 1, worker: None, ..step(slip) };
        }
        self.writing.insert(next.id);
        Some(next)
    }

    /// All own jobs of a class that wait: their next slips.
    pub fn clear(&mut self, class: Priority, now: Now) -> Vec<Slip> {
        let waits = |slip: &&Slip| slip.owner == self.me && slip.state == State::Queued && slip.priority == class;
        let all: Vec<Uuid> = self.jobs.values().filter(waits).map(|slip| slip.id).collect();
        let mut cleared = Vec::new();
        for id in all {
            let Ok(slip) = self.own(id) else { continue };
            let mut next = step(slip);
            (next.state, next.finished_ms) = (State::Cancelled, Some(now.wall_ms));
            next.error = Some("its queue was cleared".into());
            self.writing.insert(id);
            cleared.push(next);
        }
        cleared
    }

    /// Takes over a job of this latest slip: its next one, in a later term.
    pub fn adopt(&mut self, latest: &Slip) -> Option<Slip> {
        let known = self.jobs.get(&latest.id).is_some_and(|slip| slip.place() > latest.place());
        if known || self.writing.contains(&latest.id) {
            return None;
        }
        let mut next = latest.clone();
        (next.owner, next.term, next.step) = (self.me, latest.term.next(self.me), 0);
        self.writing.insert(next.id);
        Some(next)
    }

    /// What came of writing a slip.
    pub fn written(&mut self, slip: Slip, wrote: Wrote, now: Now) -> Vec<Action> {
        self.writing.remove(&slip.id);
        self.arriving.remove(&slip.id);
        match wrote {
            Wrote::Yes if self.jobs.get(&slip.id).is_none_or(|known| known.place() < slip.place()) => {
                self.count(&slip);
                self.put(slip, now.uptime);
            }
            // Tried again: what fell due is still due.
            Wrote::Yes | Wrote::No | Wrote::Fenced => {}
        }
        let mut actions = self.pump(now);
        actions.extend(self.surplus());
        actions
    }

    /// A submission that was not acknowledged is no job.
    pub fn withdrawn(&mut self, id: Uuid) {
        self.writing.remove(&id);
        self.arriving.remove(&id);
        self.remove(id);
    }

    /// A worker was heard of: its leases begin anew.
    pub fn renew(&mut self, worker: &str, now: Now) {
        for id in self.held.get(worker).into_iter().flatten() {
            if let (Some(until), Some(slip)) = (self.leases.get_mut(id), self.jobs.get(id)) {
                *until = now.uptime + lease(slip);
            }
        }
    }

    fn own(&self, id: Uuid) -> Result<&Slip, WorkerError> {
        let slip = self.jobs.get(&id).ok_or(WorkerError::NoSuchJob(id))?;
        if slip.owner != self.me {
            return Err(WorkerError::Moved);
        }
        if self.starting || self.writing.contains(&id) {
            return Err(WorkerError::Busy);
        }
        Ok(slip)
    }

    fn count(&mut self, slip: &Slip) {
        let before = self.jobs.get(&slip.id);
        let was = before.map(|slip| slip.state);
        let last = before.and_then(|slip| slip.worker.clone());
        let record = |worker: &Option<String>| worker.clone().unwrap_or_default();
        match (was, slip.state) {
            (Some(State::Queued), State::Assigned) => {
                self.tally.assigned += 1;
                if slip.attempts == 1 {
                    self.tally.first += 1;
                    self.tally.waited_ms += slip.assigned_ms.unwrap_or_default().saturating_sub(slip.submitted_ms);
                }
            }
            (Some(State::Queued | State::Assigned), State::Completed) => {
                self.tally.completed += 1;
                self.records.entry(record(&slip.worker)).or_default().completed += 1;
            }
            (Some(State::Assigned), State::Failed) if slip.assigned_ms.is_none() => {
                self.tally.failed += 1;
                self.tally.lost += 1;
                self.tally.given_up += 1;
                self.records.entry(record(&last)).or_default().lost += 1;
            }
            (Some(State::Queued | State::Assigned), State::Failed) => {
                self.tally.failed += 1;
                self.records.entry(record(&slip.worker)).or_default().failed += 1;
            }
            (Some(State::Assigned), State::Queued) if slip.attempts == before.map_or(0, |slip| slip.attempts) => {
                self.tally.lost += 1;
                self.records.entry(record(&last)).or_default().lost += 1;
            }
            // It never came to its worker.
            (Some(State::Assigned), State::Queued) => self.tally.assigned = self.tally.assigned.saturating_sub(1),
            _ => {}
        }
    }

    /// Ended records beyond the bound, the oldest first.
    fn surplus(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        while self.ended.len() > ENDED_JOBS_MAX {
            let Some((_, id)) = self.ended.pop_first() else { break };
            let term = self.jobs.get(&id).map(|slip| slip.term);
            self.remove(id);
            actions.extend(term.map(|term| Action::Delete(id, term)));
        }
        actions
    }

    // ---- the picture ----------------------------------------------------------------------------------------------

    /// Somebody else wrote a job, as the ledger has it here now. What is older than what is known is no news.
    pub fn heard(&mut self, id: Uuid, slip: Option<Slip>, now: Now) -> Vec<Action> {
        match slip {
            None if !self.writing.contains(&id) => self.remove(id),
            None => {}
            Some(slip) if self.jobs.get(&id).is_some_and(|known| known.place() >= slip.place()) => {}
            Some(slip) => self.put(slip, now.uptime),
        }
        self.pump(now)
    }

    /// Who is in the swarm now.
    pub fn fleet(&mut self, fleet: impl Iterator<Item = Presence>, now: Now) -> Vec<Action> {
        self.fleet = fleet.map(|seen| (seen.id, seen)).collect();
        self.pump(now)
    }

    /// Time passes: leases run out, takes have waited, owners are gone, workers are forgotten.
    pub fn tick(&mut self, now: Now) -> Vec<Action> {
        let mut actions = Vec::new();
        let here: BTreeSet<String> = self.waiting.values().map(|waiting| waiting.worker.clone()).collect();
        for worker in here {
            actions.extend(self.hear(&worker, None, now));
        }
        let waited: Vec<u64> = self
            .waiting
            .iter()
            .filter(|(_, w)| w.until <= now.uptime && w.asked.is_none())
            .map(|(ticket, _)| *ticket)
            .collect();
        for ticket in waited {
            self.waiting.remove(&ticket);
            actions.push(Action::Nothing(ticket));
        }
        if self.starting {
            return actions;
        }
        let out = |(id, until): (&Uuid, &Duration)| (*until <= now.uptime).then_some(*id);
        for id in self.leases.iter().filter_map(out).collect::<Vec<_>>() {
            let Ok(slip) = self.own(id) else { continue };
            let next = returned(slip, &format!("was not heard of for {} s", slip.lease_s), now);
            self.writing.insert(id);
            actions.push(Action::Save(Box::new(next)));
        }
        let due = self.wards.due(self.me, self.fleet.values().copied(), now.uptime);
        if !due.is_empty() {
            actions.push(Action::Adopt(due.into_iter().map(|(id, _)| id).collect()));
        }
        let again: Vec<Uuid> =
            self.passed.iter().filter(|(_, until)| **until <= now.uptime).map(|(id, _)| *id).collect();
        for id in again {
            self.passed.remove(&id);
            if let Some(slip) = self.jobs.get(&id).filter(|slip| slip.state == State::Queued) {
                self.queue.join(slip);
            }
        }
        let forgotten = self.registry.forgotten(self.me, now.uptime, now.wall_ms);
        actions.extend(forgotten.into_iter().map(Action::Forget));
        actions.extend(self.pump(now));
        actions
    }

    /// These could not be taken over: they are due again.
    pub fn not_adopted(&mut self, ids: &[Uuid]) {
        for slip in ids.iter().filter_map(|id| self.jobs.get(id)).filter(|slip| slip.owner != self.me) {
            self.wards.note(slip.id, Some(slip.stands()));
        }
    }

    /// How far these are known here.
    pub fn known(&self, ids: &[Uuid]) -> Vec<(Uuid, Term, u32)> {
        ids.iter().filter_map(|id| self.jobs.get(id)).map(|slip| (slip.id, slip.term, slip.step)).collect()
    }

    /// Forgets a worker.
    pub fn forget(&mut self, worker: &str) {
        self.registry.note(worker, None);
        self.turns.remove(worker);
        self.renewed.remove(worker);
        self.records.remove(worker);
    }

    fn put(&mut self, slip: Slip, uptime: Duration) {
        let id = slip.id;
        let before = self.jobs.get(&id).map(|slip| (slip.state, slip.attempts));
        let since = self.since.get(&id).copied();
        let lease_until = self.leases.get(&id).copied();
        self.remove(id);
        if self.strays.get(&id).is_some_and(|attempt| slip.state.ended() || slip.attempts > *attempt) {
            self.strays.remove(&id);
        }
        let own = slip.owner == self.me;
        match slip.state {
            State::Queued if self.passed.contains_key(&id) => {}
            State::Queued => self.queue.join(&slip),
            State::Assigned => {
                let same = before == Some((State::Assigned, slip.attempts));
                self.held.entry(slip.worker.clone().unwrap_or_default()).or_default().insert(id);
                self.since.insert(id, since.filter(|_| same).unwrap_or(uptime));
                if own {
                    self.leases.insert(id, lease_until.filter(|_| same).unwrap_or(uptime + lease(&slip)));
                }
            }
            State::Completed | State::Failed | State::Cancelled if own => {
                self.ended.insert((slip.finished_ms.unwrap_or_default(), id));
            }
            State::Completed | State::Failed | State::Cancelled => {}
        }
        if own && !slip.state.ended() {
            self.open += 1;
            self.open_bytes += slip.bytes as usize;
        }
        self.wards.note(id, (!own).then(|| slip.stands()));
        self.jobs.insert(id, slip);
    }

    fn remove(&mut self, id: Uuid) {
        let Some(slip) = self.jobs.remove(&id) else { return };
        self.queue.remove(id);
        self.leases.remove(&id);
        self.since.remove(&id);
        self.wards.note(id, None);
        if let Some(worker) = &slip.worker
            && let Some(held) = self.held.get_mut(worker)
        {
            held.remove(&id);
            if held.is_empty() {
                self.held.remove(worker);
            }
        }
        if slip.owner == self.me {
            self.ended.remove(&(slip.finished_ms.unwrap_or_default(), id));
            if !slip.state.ended() {
                self.open -= 1;
                self.open_bytes -= slip.bytes as usize;
            }
        }
    }

    // ---- workers that wait here -----------------------------------------------------------------------------------

    /// A worker whose home this is was heard of. If it names its jobs, it has no others.
    pub fn hear(&mut self, worker: &str, has: Option<&BTreeSet<Uuid>>, now: Now) -> Vec<Action> {
        self.registry.hear(worker, now.uptime, now.wall_ms);
        let mut actions = Vec::new();
        if let Some(has) = has {
            let settled = |id: &&Uuid| self.since.get(id).is_some_and(|since| *since + SETTLE <= now.uptime);
            let held = self.held.get(worker).into_iter().flatten();
            for id in held.filter(|id| !has.contains(id)).filter(settled) {
                let Some(slip) = self.jobs.get(id) else { continue };
                let release = Release { job: *id, worker: worker.into(), attempt: slip.attempts, handed: true };
                actions.push(Action::Release(slip.owner, release));
            }
        }
        let strays = self.held.get(worker).into_iter().flatten().filter_map(|id| self.jobs.get(id));
        for slip in strays.filter(|slip| self.strays.get(&slip.id) == Some(&slip.attempts)) {
            let release = Release { job: slip.id, worker: worker.into(), attempt: slip.attempts, handed: false };
            actions.push(Action::Release(slip.owner, release));
        }
        let told = self.renewed.get(worker).is_some_and(|last| *last + RENEW_PERIOD > now.uptime);
        if !told {
            let held = self.held.get(worker).into_iter().flatten();
            let owners: BTreeSet<NodeId> = held.filter_map(|id| self.jobs.get(id)).map(|slip| slip.owner).collect();
            if !owners.is_empty() {
                self.renewed.insert(worker.into(), now.uptime);
                actions.push(Action::Renew(owners, worker.into()));
            }
        }
        actions
    }

    /// A worker waits for a job: the number of its take.
    ///
    /// # Errors
    /// [`WorkerError::TooMany`].
    pub fn wait(&mut self, worker: &str, wait: Duration, lease_s: u32, now: Now) -> Result<u64, WorkerError> {
        if self.waiting.len() >= WAITING_MAX {
            return Err(WorkerError::TooMany(WAITING_MAX));
        }
        self.tickets += 1;
        let waiting = Waiting { worker: worker.into(), until: now.uptime + wait, lease_s, asked: None };
        self.waiting.insert(self.tickets, waiting);
        // A newcomer is as far as whoever is furthest behind: it makes up for nothing.
        let behind = self.turns.values().map(|turn| turn.pass).min().unwrap_or_default();
        self.turns.entry(worker.into()).or_insert(Turn { last: 0, pass: behind });
        Ok(self.tickets)
    }

    /// Gives jobs to who waits for one.
    pub fn pump(&mut self, now: Now) -> Vec<Action> {
        let mut actions = Vec::new();
        while !self.starting && !self.queue.is_empty() {
            let free: Vec<(u64, &Waiting)> =
                self.waiting.iter().filter(|(_, w)| w.asked.is_none()).map(|(ticket, w)| (*ticket, w)).collect();
            if free.is_empty() {
                break;
            }
            let able = |needs: &Needs| -> Vec<u64> {
                let meets = |w: &Waiting| {
                    let worker = self.registry.get(&w.worker);
                    worker.is_some_and(|worker| needs.are_met_by(&worker.said.kind, &worker.said.capabilities))
                };
                free.iter().filter(|(_, w)| meets(w)).map(|(ticket, _)| *ticket).collect()
            };
            let first = self.queue.heads().find_map(|(needs, id)| {
                let able = able(needs);
                (!able.is_empty()).then_some((id, able))
            });
            let Some((id, able)) = first else { break };
            self.queue.remove(id);
            let Some(owner) = self.jobs.get(&id).map(|slip| slip.owner) else { continue };
            if owner != self.me && !self.fleet.get(&owner).is_some_and(|seen| seen.up) {
                self.passed.insert(id, now.uptime + PAUSE);
                continue;
            }
            let candidates: Vec<Candidate> = able.iter().map(|ticket| self.candidate(*ticket, now)).collect();
            let Some(ticket) = choose(self.strategy, &candidates, now.draw).map(|place| able[place]) else { break };
            let Some(waiting) = self.waiting.get_mut(&ticket) else { break };
            waiting.asked = Some(id);
            let claim = Claim { job: id, worker: waiting.worker.clone(), lease_s: waiting.lease_s };
            let weight = self.registry.get(&claim.worker).map_or(1, |worker| worker.said.weight);
            self.turn += 1;
            let turn = self.turns.entry(claim.worker.clone()).or_default();
            (turn.last, turn.pass) = (self.turn, pass(turn.pass, weight));
            // Nobody else here asks for it until it is known what came of this.
            self.passed.insert(id, Duration::MAX);
            actions.push(Action::Claim(ticket, owner, claim));
        }
        actions
    }

    fn candidate(&self, ticket: u64, now: Now) -> Candidate {
        let worker = self.waiting.get(&ticket).map_or("", |waiting| &waiting.worker);
        let load = self.registry.heard(worker, now.uptime).map(|heard| heard.load).unwrap_or_default();
        let asked = self.waiting.values().filter(|w| w.worker == worker && w.asked.is_some()).count() as u32;
        let turn = self.turns.get(worker).copied().unwrap_or_default();
        Candidate {
            held: (self.held(worker) + asked).max(load.active_connections.unwrap_or_default()),
            last: turn.last,
            pass: turn.pass,
            usage: load.usage(),
        }
    }

    /// A job never came to its worker: whenever that is heard of, the job's owner is told.
    pub fn stray(&mut self, job: Uuid, attempt: u32) {
        self.strays.insert(job, attempt);
    }

    /// What came of asking for a job. Whether the take still waits for what it was given; if it doesn't, the job goes back.
    pub fn claimed(&mut self, ticket: u64, job: Uuid, given: Option<Slip>, now: Now) -> (bool, Vec<Action>) {
        let refused = given.is_none();
        self.passed.remove(&job);
        if refused && self.jobs.get(&job).is_some_and(|slip| slip.state == State::Queued) {
            self.passed.insert(job, now.uptime + PAUSE);
        }
        let waits = match (self.waiting.get_mut(&ticket), refused) {
            (Some(_), false) => self.waiting.remove(&ticket).is_some(),
            (Some(waiting), true) => {
                waiting.asked = None;
                true
            }
            (None, _) => false,
        };
        let mut actions = given.map_or_else(Vec::new, |slip| self.heard(job, Some(slip), now));
        if let Some(slip) = self.jobs.get(&job).filter(|slip| slip.state == State::Queued && !refused) {
            self.queue.join(slip);
        }
        actions.extend(self.pump(now));
        (waits && !refused, actions)
    }
}

fn step(slip: &Slip) -> Slip {
    Slip { step: slip.step + 1, ..slip.clone() }
}

fn lease(slip: &Slip) -> Duration {
    Duration::from_secs(slip.lease_s.into())
}

/// A job that comes back from its worker: to the front of its queue, or to its end if that was the last attempt.
fn returned(slip: &Slip, why: &str, now: Now) -> Slip {
    let mut next = step(slip);
    if slip.attempts >= ATTEMPTS_MAX {
        let worker = slip.worker.as_deref().unwrap_or_default();
        next.state = State::Failed;
        next.error = Some(format!("given to a worker {ATTEMPTS_MAX} times, in vain: the last one, {worker}, {why}"));
        next.finished_ms = Some(now.wall_ms);
        // No worker ended it.
        next.assigned_ms = None;
    } else {
        next.state = State::Queued;
    }
    next
}

/// Why a job is not a worker's, in words.
fn whose(slip: &Slip) -> String {
    match slip.state {
        State::Queued => "it waits for another".into(),
        State::Assigned => "another has it".into(),
        State::Completed | State::Failed => "it has ended without you".into(),
        State::Cancelled => "its queue was cleared".into(),
    }
}
