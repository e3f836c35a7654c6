//! What one node decides about cron jobs: which it owns, which of those are due, and what came of their runs.
//!
//! No clock, task, disk or link: events come in with the time, [`Action`]s go out. What has to be written is told by
//! [`Core::unsaved`].
//!
//! ```text
//! the ledger -> learn -> (wards: the owner is gone: mine, in a later term)
//! tick: due -> Run(Due) -> Submit -> submitted -> Run(Running) -> ended -> Run(Completed | Failed | Cancelled)
//! ```
//!
//! A moment can't be lost between two steps: it is due again for whoever finds `until_ms` before it, and a run that no
//! scheduler has taken yet is submitted again. It can't be doubled either: each time it is submitted under one key.

use super::{
    messages::{Definition, Job, JobRun, Progress, Run, RunState, Wanted},
    schedule::Schedule,
};
use crate::{
    ownership::{Presence, Term, Wards},
    scheduler::{self, Record, Spec},
};
use skep_runtime::NodeId;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use uuid::Uuid;

/// Runs of a job that are kept: three weeks of a nightly one. Each is about 150 bytes and what it wrote last, on every
/// member's disk.
pub const RUNS_MAX: usize = 20;
/// Runs of a job that have not ended. With more, the job runs longer than its period, and what is due is left out.
pub const OPEN_RUNS_MAX: usize = 10;
/// How late each moment is still acted on by itself: as long as it takes to miss an owner, twice over.
pub const PROMPT_MS: u64 = 30_000;
/// How late the newest of several moments is made up for: after a longer sleep nobody waits for it any more.
pub const MAKE_UP_MS: u64 = 3_600_000;
/// Moments that were left out which are counted: beyond that it says "at least".
const MISSED_COUNTED_MAX: u64 = 1000;
/// How long it is tried to have a run taken which a scheduler refuses: its machine may be starting.
const REFUSED_MS_MAX: u64 = PROMPT_MS;
/// How long a run's task may be unknown here before it counts as lost: its record comes by the ledger, which repairs itself
/// every 15 s.
const UNKNOWN_MS_MAX: u64 = 120_000;
/// How long a machine that has slept waits until it acts again: links are made anew and ledgers compared by then.
const WAKING_MS: u64 = 10_000;
/// How long a job that is over is kept, for people to see what came of it.
pub const OVER_KEPT_MS: u64 = 7 * 24 * 3_600_000;
/// Bytes of output and of a reason that a run keeps: a line or two.
const TEXT_BYTES_MAX: usize = 256;

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Give this command to the scheduler, and tell [`Core::submitted`] what it said.
    Submit(Uuid, u64, Box<Spec>),
    /// Remove this job: it is long over.
    Remove(Uuid),
}

/// Why a scheduler did not take a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It did not, or could not say.
    NotNow(String),
    /// It can't be had as things are: no such node, no room, no machine that has what it needs.
    Unfit(String),
    /// It never will.
    Never(String),
}

struct Entry {
    definition: Definition,
    schedule: Schedule,
    progress: Option<Progress>,
    next_ms: Option<u64>,
}

/// The cron jobs of a swarm, as one node knows them.
pub struct Core {
    me: NodeId,
    jobs: BTreeMap<Uuid, Entry>,
    /// Progress of jobs whose definition has not come yet.
    early: BTreeMap<Uuid, Progress>,
    wards: Wards,
    unsaved: BTreeSet<Uuid>,
    /// Submissions that have not been answered.
    asking: BTreeSet<(Uuid, u64)>,
    /// Nothing is done before it is known what others did while this node was away.
    held: bool,
    /// The same after a sleep: until then others may still be heard of.
    waking_until_ms: u64,
}

impl Core {
    /// The core of `me`, which knows of nothing and waits for [`Core::release`].
    pub fn new(me: NodeId) -> Core {
        Core {
            me,
            jobs: BTreeMap::new(),
            early: BTreeMap::new(),
            wards: Wards::default(),
            unsaved: BTreeSet::new(),
            asking: BTreeSet::new(),
            held: true,
            waking_until_ms: 0,
        }
    }

    /// What others did meanwhile is known: from now on this node acts on what it owns.
    pub fn release(&mut self) {
        self.held = false;
    }

    /// The machine slept, longer than others take to miss it: they may have taken over what it owns, and it hears of that
    /// before it acts.
    pub fn slept(&mut self, now_ms: u64) {
        self.waking_until_ms = now_ms + WAKING_MS;
    }

    /// What the ledger says of a job now. What this node decided and has not written yet counts for more, unless another
    /// node has taken the job over.
    pub fn learn(&mut self, id: Uuid, definition: Option<Definition>, progress: Option<Progress>) {
        let known = self.jobs.remove(&id);
        let Some(definition) = definition.filter(|definition| definition.id == id) else {
            self.wards.note(id, None);
            self.unsaved.remove(&id);
            match progress {
                Some(progress) => drop(self.early.insert(id, progress)),
                None => drop(self.early.remove(&id)),
            }
            return;
        };
        let progress = progress.or_else(|| self.early.remove(&id));
        let schedule = match known {
            Some(Entry { schedule, progress: own, .. }) => {
                if let Some(own) = own.filter(|own| own.owner == self.me)
                    && progress.as_ref().is_none_or(|heard| heard.term <= own.term)
                {
                    return self.enter(id, definition, schedule, Some(own));
                }
                schedule
            }
            None => match parse(&definition) {
                Ok(schedule) => schedule,
                Err(why) => {
                    // Of another version, whose words mean more than here.
                    tracing::warn!(job = %id, why, "a cron job's schedule is not understood here");
                    return self.wards.note(id, None);
                }
            },
        };
        self.unsaved.remove(&id);
        self.enter(id, definition, schedule, progress);
    }

    fn enter(&mut self, id: Uuid, definition: Definition, schedule: Schedule, progress: Option<Progress>) {
        let others = progress.as_ref().filter(|progress| progress.owner != self.me);
        self.wards.note(id, others.map(Progress::stands));
        let next_ms = progress.as_ref().and_then(|progress| schedule.next(progress.until_ms));
        self.jobs.insert(id, Entry { definition, schedule, progress, next_ms });
    }

    /// Time has passed: takes over what is due for that, and fires what is due.
    pub fn tick(&mut self, now_ms: u64, peers: impl Iterator<Item = Presence>, uptime: Duration) -> Vec<Action> {
        if self.held || now_ms < self.waking_until_ms {
            return Vec::new();
        }
        for (id, _) in self.wards.due(self.me, peers, uptime) {
            self.adopt(id);
        }
        let mut out = Vec::new();
        for (id, entry) in &mut self.jobs {
            let Entry { definition, schedule, progress: Some(progress), next_ms } = entry else { continue };
            if progress.owner != self.me {
                continue;
            }
            let before = progress.clone();
            // A clock that was far ahead has been put right: its moments are not waited for.
            if progress.until_ms > now_ms + MAKE_UP_MS {
                tracing::warn!(job = %id, "the clock has been put back: a cron job goes on from now");
                progress.until_ms = now_ms;
                *next_ms = schedule.next(now_ms);
            }
            if let Some(first_ms) = next_ms.filter(|next| *next <= now_ms) {
                due(*id, schedule, progress, first_ms, now_ms);
                *next_ms = schedule.next(progress.until_ms);
            }
            progress.over = next_ms.is_none();
            for run in progress.runs.iter().filter(|run| run.state == RunState::Due) {
                if self.asking.insert((*id, run.at_ms)) {
                    let spec = Spec { idempotency_key: Some(key(*id, run.at_ms)), ..definition.new.spec.clone() };
                    out.push(Action::Submit(*id, run.at_ms, Box::new(spec)));
                }
            }
            let over = progress.stands().1 && now_ms.saturating_sub(progress.until_ms) > OVER_KEPT_MS;
            if over {
                out.push(Action::Remove(*id));
            }
            if *progress != before {
                self.unsaved.insert(*id);
            }
        }
        out
    }

    fn adopt(&mut self, id: Uuid) {
        let me = self.me;
        if let Some(progress) = self.jobs.get_mut(&id).and_then(|entry| entry.progress.as_mut()) {
            tracing::info!(job = %id, from = ?progress.owner, "this node takes a cron job over");
            progress.owner = me;
            progress.term = progress.term.next(me);
            self.unsaved.insert(id);
        }
    }

    /// A scheduler answered a submission, or did not.
    pub fn submitted(&mut self, id: Uuid, at_ms: u64, answer: Result<Uuid, Refusal>, now_ms: u64) {
        self.asking.remove(&(id, at_ms));
        let late_ms = now_ms.saturating_sub(at_ms);
        let mut errors = 0;
        let taken = |run: &mut Run| match answer {
            Ok(task) => {
                (run.task, run.state, run.started_ms) = (task, RunState::Running, Some(now_ms));
            }
            Err(Refusal::NotNow(_)) if late_ms < MAKE_UP_MS => {}
            Err(Refusal::Unfit(_)) if late_ms < REFUSED_MS_MAX => {}
            Err(Refusal::NotNow(why) | Refusal::Unfit(why) | Refusal::Never(why)) => {
                (run.state, run.finished_ms, run.error) = (RunState::Failed, Some(now_ms), Some(head(&why)));
                errors = 1;
            }
        };
        self.change(id, at_ms, RunState::Due, taken);
        if errors > 0 {
            self.count(id, RunState::Failed);
        }
    }

    /// Tasks that this node waits for the end of: job, moment, task.
    pub fn open(&self) -> Vec<(Uuid, u64, Uuid)> {
        let own = self.jobs.iter().filter_map(|(id, entry)| Some((id, entry.progress.as_ref()?)));
        let own = own.filter(|(_, progress)| progress.owner == self.me && !self.held);
        let open = own.flat_map(|(id, progress)| progress.runs.iter().map(move |run| (*id, run)));
        let open = open.filter(|(_, run)| run.state == RunState::Running);
        open.map(|(id, run)| (id, run.at_ms, run.task)).collect()
    }

    /// What is known of such a task.
    pub fn looked(&mut self, id: Uuid, at_ms: u64, record: Option<&Record>, now_ms: u64) {
        let mut ended = None;
        let look = |run: &mut Run| {
            let (state, finished_ms, error) = match record {
                None if now_ms.saturating_sub(run.started_ms.unwrap_or(at_ms)) < UNKNOWN_MS_MAX => return,
                None => {
                    (RunState::Failed, now_ms, Some("what became of it is not known: its record is gone".to_owned()))
                }
                Some(record) => {
                    let state = match record.state {
                        scheduler::State::Pending | scheduler::State::Running => return,
                        scheduler::State::Completed => RunState::Completed,
                        scheduler::State::Failed => RunState::Failed,
                        scheduler::State::Cancelled => RunState::Cancelled,
                    };
                    run.started_ms = record.started_ms.or(run.started_ms);
                    run.output = tail(&record.output);
                    let code = record.exit_code.filter(|_| state == RunState::Failed);
                    let why = record.error.clone().or(code.map(|code| format!("it exited with status {code}")));
                    (state, record.finished_ms.unwrap_or(now_ms), why)
                }
            };
            (run.state, run.finished_ms, run.error) = (state, Some(finished_ms), error.as_deref().map(head));
            ended = Some(state);
        };
        self.change(id, at_ms, RunState::Running, look);
        if let Some(state) = ended {
            self.count(id, state);
        }
    }

    fn change(&mut self, id: Uuid, at_ms: u64, from: RunState, change: impl FnOnce(&mut Run)) {
        let progress = self.jobs.get_mut(&id).and_then(|entry| entry.progress.as_mut());
        // Another node may have taken it over meanwhile: it does the same for itself.
        let Some(progress) = progress.filter(|progress| progress.owner == self.me) else { return };
        if let Some(run) = progress.runs.iter_mut().find(|run| run.at_ms == at_ms && run.state == from) {
            let before = run.clone();
            change(run);
            if *run != before {
                self.unsaved.insert(id);
            }
        }
    }

    fn count(&mut self, id: Uuid, state: RunState) {
        if let Some(progress) = self.jobs.get_mut(&id).and_then(|entry| entry.progress.as_mut()) {
            match state {
                RunState::Completed => progress.errors = 0,
                RunState::Failed => progress.errors = progress.errors.saturating_add(1),
                RunState::Due | RunState::Running | RunState::Cancelled | RunState::Missed => {}
            }
        }
    }

    /// What is to be written: each is told once, unless [`Core::save_again`] says that it could not be.
    pub fn unsaved(&mut self) -> Vec<(Uuid, Progress)> {
        let ids = std::mem::take(&mut self.unsaved);
        let of = |id: Uuid| Some((id, self.jobs.get(&id)?.progress.clone()?));
        ids.into_iter().filter_map(of).collect()
    }

    /// These could not be written.
    pub fn save_again(&mut self, ids: impl Iterator<Item = Uuid>) {
        self.unsaved.extend(ids);
    }

    /// Others have taken these over, in a later term: this node lets go of them, and waits to hear who did.
    pub fn fenced(&mut self, id: Uuid) {
        self.unsaved.remove(&id);
        if let Some(entry) = self.jobs.get_mut(&id) {
            entry.progress = None;
            entry.next_ms = None;
        }
    }

    /// When something of this node's is due next; `None` if nothing is.
    pub fn wake_ms(&self) -> Option<u64> {
        if self.held {
            return None;
        }
        let own = self.jobs.values().filter(|entry| entry.progress.as_ref().is_some_and(|own| own.owner == self.me));
        own.filter_map(|entry| entry.next_ms).min().map(|next| next.max(self.waking_until_ms))
    }

    /// How many jobs there are.
    pub fn count_jobs(&self) -> usize {
        self.jobs.len()
    }

    /// All jobs, by name.
    pub fn jobs(&self) -> Vec<Job> {
        let mut jobs: Vec<Job> = self.jobs.values().filter_map(shown).collect();
        jobs.sort_by(|a, b| (&a.definition.new.name, a.definition.id).cmp(&(&b.definition.new.name, b.definition.id)));
        jobs
    }

    /// One job.
    pub fn job(&self, id: Uuid) -> Option<Job> {
        self.jobs.get(&id).and_then(shown)
    }

    /// The kept runs that are wanted, newest first.
    pub fn runs(&self, wanted: &Wanted) -> Vec<JobRun> {
        let jobs = self.jobs.iter().filter(|(id, _)| wanted.job.is_none_or(|job| job == **id));
        let all = jobs.flat_map(|(id, entry)| {
            let name = &entry.definition.new.name;
            let runs = entry.progress.iter().flat_map(|progress| &progress.runs);
            runs.map(move |run| JobRun { job: *id, name: name.clone(), run: run.clone() })
        });
        let (from, to) = (wanted.from_ms.unwrap_or(0), wanted.to_ms.unwrap_or(u64::MAX));
        let mut runs: Vec<JobRun> = all.filter(|run| (from..=to).contains(&run.run.at_ms)).collect();
        runs.sort_by_key(|run| (std::cmp::Reverse(run.run.at_ms), run.job));
        runs.truncate(wanted.limit as usize);
        runs
    }
}

/// Reads the schedule of a job.
pub fn parse(definition: &Definition) -> Result<Schedule, String> {
    let Definition { created_ms, new, .. } = definition;
    Schedule::parse(new.kind, &new.expr, &new.tz, *created_ms).map_err(|(field, why)| format!("{field} {why}"))
}

/// A new job's progress: everything before its creation is done with.
pub fn fresh(me: NodeId, definition: &Definition) -> Progress {
    let term = Term::first(definition.created_ms, me);
    Progress { owner: me, term, until_ms: definition.created_ms, errors: 0, over: false, runs: Vec::new() }
}

/// What tells a moment of a job from all others: whoever fires it, it is this task.
pub fn key(id: Uuid, at_ms: u64) -> String {
    format!("cron {id} {at_ms}")
}

/// The task of a moment of a job.
pub fn task(id: Uuid, at_ms: u64) -> Uuid {
    scheduler::spec::named_by(&key(id, at_ms))
}

fn shown(entry: &Entry) -> Option<Job> {
    let Entry { definition, schedule, progress, next_ms } = entry;
    let (definition, progress) = (definition.clone(), progress.clone()?);
    Some(Job { definition, progress, next_ms: *next_ms, every_ms: schedule.every_ms() })
}

/// Notes what is due from `first_ms` to now. Each moment while all of them are recent, as after another owner's death; of
/// older ones, as after a sleep, the newest alone.
fn due(id: Uuid, schedule: &Schedule, progress: &mut Progress, first_ms: u64, now_ms: u64) {
    if now_ms - first_ms < PROMPT_MS {
        let mut next_ms = Some(first_ms);
        while let Some(at_ms) = next_ms.filter(|at| *at <= now_ms) {
            fire(id, progress, at_ms);
            next_ms = schedule.next(at_ms);
        }
        return;
    }
    let newest_ms = schedule.newest(first_ms, now_ms);
    let makes_up = now_ms - newest_ms <= MAKE_UP_MS;
    let between = std::iter::successors(Some(first_ms), |at| schedule.next(*at)).take_while(|at| *at < newest_ms);
    let missed = between.take(MISSED_COUNTED_MAX as usize).count() as u64 + u64::from(!makes_up);
    if missed > 0 {
        let count = if missed >= MISSED_COUNTED_MAX { format!("at least {missed}") } else { missed.to_string() };
        let what = if makes_up { "the next one is made up for" } else { "too long ago to make up for" };
        let why = format!("nobody was there for {count} runs from here on; {what}");
        tracing::info!(job = %id, missed, "runs of a cron job were missed");
        note(progress, Run { error: Some(why), ..run(id, first_ms, RunState::Missed) });
    }
    if makes_up {
        fire(id, progress, newest_ms);
    }
    progress.until_ms = newest_ms;
}

fn fire(id: Uuid, progress: &mut Progress, at_ms: u64) {
    progress.until_ms = at_ms;
    let open = progress.runs.iter().filter(|run| !run.state.ended()).count();
    if open < OPEN_RUNS_MAX {
        return note(progress, run(id, at_ms, RunState::Due));
    }
    let why = format!("{open} earlier runs have not ended");
    note(progress, Run { error: Some(why), ..run(id, at_ms, RunState::Missed) });
}

fn run(id: Uuid, at_ms: u64, state: RunState) -> Run {
    let task = task(id, at_ms);
    Run { at_ms, task, state, started_ms: None, finished_ms: None, error: None, output: String::new() }
}

fn note(progress: &mut Progress, run: Run) {
    progress.runs.push(run);
    // The oldest that has ended goes; there is one, since fewer may be open.
    if progress.runs.len() > RUNS_MAX
        && let Some(oldest) = progress.runs.iter().position(|run| run.state.ended())
    {
        progress.runs.remove(oldest);
    }
}

fn head(text: &str) -> String {
    let end = (0..=TEXT_BYTES_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    text[..end].to_owned()
}

fn tail(text: &str) -> String {
    let start = text.len().saturating_sub(TEXT_BYTES_MAX);
    let start = (start..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    text[start..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cron::{Kind, messages::NewJob};
    use proptest::prelude::*;

    const CREATED_MS: u64 = 1_767_225_600_000;

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    fn definition(n: u128, every: &str) -> Definition {
        let new = NewJob {
            name: format!("job {n}"),
            description: None,
            agent_id: None,
            kind: Kind::Every,
            expr: every.into(),
            tz: "UTC".into(),
            spec: Spec::new("true"),
        };
        Definition { id: Uuid::from_u128(n), created_ms: CREATED_MS, new }
    }

    /// Node 1 with one job of its own.
    fn owner(every: &str) -> Core {
        let mut core = Core::new(node(1));
        let definition = definition(1, every);
        core.learn(definition.id, Some(definition.clone()), Some(fresh(node(1), &definition)));
        core.release();
        core
    }

    fn id() -> Uuid {
        Uuid::from_u128(1)
    }

    fn at(s: u64) -> u64 {
        CREATED_MS + s * 1000
    }

    fn tick(core: &mut Core, s: u64) -> Vec<u64> {
        let moments = |action| match action {
            Action::Submit(_, at_ms, spec) => {
                assert_eq!(spec.idempotency_key, Some(key(id(), at_ms)));
                Some((at_ms - CREATED_MS) / 1000)
            }
            Action::Remove(_) => None,
        };
        core.tick(at(s), [].into_iter(), Duration::from_secs(s)).into_iter().filter_map(moments).collect()
    }

    fn states(core: &Core) -> Vec<RunState> {
        core.job(id()).unwrap().progress.runs.iter().map(|run| run.state).collect()
    }

    /// The scheduler takes what was due then.
    fn take(core: &mut Core, s: u64) {
        let task = scheduler::spec::named_by(&key(id(), at(s)));
        core.submitted(id(), at(s), Ok(task), at(s));
    }

    fn record(state: scheduler::State, error: Option<&str>) -> Record {
        let record = Record::new(Uuid::nil(), Spec::new("true"), node(1), Term(1), 0);
        Record { state, error: error.map(str::to_owned), output: "é".repeat(1000), ..record }
    }

    #[test]
    fn a_job_is_fired_at_its_moments_and_shows_how_its_runs_ended() {
        let mut core = owner("10s");
        assert_eq!(core.wake_ms(), Some(at(10)));
        assert!(tick(&mut core, 9).is_empty());
        assert_eq!(tick(&mut core, 10), [10]);
        assert!(tick(&mut core, 11).is_empty(), "it is asked once");
        take(&mut core, 10);
        assert_eq!(core.open().len(), 1);
        core.looked(id(), at(10), Some(&record(scheduler::State::Failed, Some("no"))), at(12));
        assert_eq!((states(&core), core.job(id()).unwrap().progress.errors), (vec![RunState::Failed], 1));
        let run = &core.runs(&Wanted { limit: 9, ..Wanted::default() })[0].run;
        assert!(run.error.as_deref() == Some("no") && run.output.len() <= 256 && run.output.ends_with('é'));
        tick(&mut core, 20);
        take(&mut core, 20);
        core.looked(id(), at(20), Some(&record(scheduler::State::Completed, None)), at(21));
        assert_eq!(core.job(id()).unwrap().progress.errors, 0);
        assert!(core.open().is_empty());
        assert_eq!(core.unsaved().len(), 1);
        assert!(core.unsaved().is_empty());
    }

    #[test]
    fn after_a_short_absence_each_moment_is_acted_on_and_after_a_long_one_the_newest() {
        let mut core = owner("10s");
        assert_eq!(tick(&mut core, 39), [10, 20, 30]);
        let mut core = owner("10s");
        assert_eq!(tick(&mut core, 605), [600]);
        assert_eq!(states(&core), [RunState::Missed, RunState::Due]);
        let missed = core.job(id()).unwrap().progress.runs[0].clone();
        assert!(missed.at_ms == at(10) && missed.error.unwrap().contains("59 runs"));
        let mut core = owner("2h");
        assert!(tick(&mut core, 3 * 3600 - 1).len() == 1, "59 minutes and some seconds late");
        let mut core = owner("3h");
        assert!(tick(&mut core, 5 * 3600).is_empty(), "two hours late is too late");
        assert_eq!(states(&core), [RunState::Missed]);
        assert_eq!(core.wake_ms(), Some(at(6 * 3600)));
    }

    #[test]
    fn a_refusal_is_tried_again_and_given_up_in_the_end() {
        let mut core = owner("1h");
        assert_eq!(tick(&mut core, 3600), [3600]);
        let unfit = || Err(Refusal::Unfit("no such machine".into()));
        core.submitted(id(), at(3600), unfit(), at(3601));
        assert_eq!(tick(&mut core, 3602), [3600]);
        core.submitted(id(), at(3600), unfit(), at(3640));
        assert!(tick(&mut core, 3641).is_empty());
        assert_eq!((states(&core), core.job(id()).unwrap().progress.errors), (vec![RunState::Failed], 1));
    }

    #[test]
    fn a_job_that_runs_longer_than_its_period_is_not_piled_up() {
        let mut core = owner("1s");
        for s in 1..=30 {
            tick(&mut core, s);
            take(&mut core, s);
        }
        assert_eq!(core.open().len(), OPEN_RUNS_MAX);
        let states = states(&core);
        assert_eq!(states.len(), RUNS_MAX);
        assert_eq!(states.iter().filter(|state| **state == RunState::Missed).count(), RUNS_MAX - OPEN_RUNS_MAX);
    }

    #[test]
    fn an_heir_goes_on_where_the_owner_stood_and_the_owner_lets_go() {
        let mut one = owner("10s");
        tick(&mut one, 10);
        take(&mut one, 10);
        let (_, progress) = one.unsaved().pop().unwrap();
        let mut two = Core::new(node(2));
        two.learn(id(), Some(definition(1, "10s")), Some(progress));
        two.release();
        let gone =
            [Presence { id: node(1), up: false, ever_up: true }, Presence { id: node(2), up: true, ever_up: true }];
        let mut ticks = |s: u64| two.tick(at(s), gone.into_iter(), Duration::from_secs(s)).len();
        assert_eq!((ticks(15), ticks(18)), (0, 0), "what is due is not due yet");
        assert_eq!(ticks(21), 1);
        assert_eq!(two.open().len(), 1, "the owner's run is watched on");
        let (_, progress) = two.unsaved().pop().unwrap();
        assert_eq!(progress.owner, node(2));
        // Comes back, the owner hears of it.
        one.learn(id(), Some(definition(1, "10s")), Some(progress));
        assert!(tick(&mut one, 60).is_empty());
        assert!(one.open().is_empty() && one.unsaved().is_empty());
    }

    #[test]
    fn who_was_away_or_has_slept_does_nothing_before_it_has_heard_from_others() {
        let mut core = owner("10s");
        core.slept(at(100));
        assert!(tick(&mut core, 109).is_empty());
        assert_eq!(tick(&mut core, 110), [110]);
        let mut core = Core::new(node(1));
        core.learn(id(), Some(definition(1, "10s")), Some(fresh(node(1), &definition(1, "10s"))));
        assert!(tick(&mut core, 10).is_empty() && core.wake_ms().is_none());
    }

    #[test]
    fn a_job_that_is_removed_is_gone_also_when_its_progress_comes_late() {
        let mut core = owner("10s");
        core.learn(id(), None, None);
        core.learn(id(), None, Some(fresh(node(1), &definition(1, "10s"))));
        assert!(tick(&mut core, 10).is_empty() && core.job(id()).is_none());
    }

    #[test]
    fn a_moment_that_has_passed_is_over_and_its_job_goes_after_a_week() {
        let mut core = Core::new(node(1));
        let mut once = definition(1, "2026-01-01 00:01");
        once.new.kind = Kind::Once;
        core.learn(id(), Some(once.clone()), Some(fresh(node(1), &once)));
        core.release();
        assert_eq!(tick(&mut core, 60), [60]);
        take(&mut core, 60);
        core.looked(id(), at(60), Some(&record(scheduler::State::Completed, None)), at(61));
        assert!(core.job(id()).unwrap().progress.over && core.job(id()).unwrap().next_ms.is_none());
        let week = 7 * 24 * 3600;
        assert!(core.tick(at(week), [].into_iter(), Duration::ZERO).is_empty());
        assert_eq!(core.tick(at(week + 61), [].into_iter(), Duration::ZERO), [Action::Remove(id())]);
    }

    proptest! {
        /// However a node's looks, the scheduler's answers and takeovers fall: each moment is submitted under its key, or
        /// noted as missed, and none that was taken is submitted once more by whoever knows of that.
        #[test]
        fn no_moment_is_lost_and_none_is_doubled(steps in prop::collection::vec((1u64..25, any::<bool>(), any::<bool>()), 1..40)) {
            let (mut core, mut s) = (owner("10s"), 0);
            let (mut asked, mut taken, mut missed) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
            for (pause, answers, dies) in steps {
                s += pause;
                for moment in tick(&mut core, s) {
                    prop_assert!(!taken.contains(&moment), "{moment} was taken");
                    asked.insert(moment);
                    if answers {
                        take(&mut core, moment);
                        core.looked(id(), at(moment), Some(&record(scheduler::State::Completed, None)), at(s));
                        taken.insert(moment);
                    } else {
                        core.submitted(id(), at(moment), Err(Refusal::NotNow("busy".into())), at(s));
                    }
                }
                let progress = core.job(id()).unwrap().progress;
                let left_out = progress.runs.iter().filter(|run| run.state == RunState::Missed);
                missed.extend(left_out.map(|run| (run.at_ms - CREATED_MS) / 1000));
                if dies {
                    // What it decided is on disk, what it asked is not answered.
                    core = Core::new(node(1));
                    core.learn(id(), Some(definition(1, "10s")), Some(progress));
                    core.release();
                }
            }
            let due: BTreeSet<u64> = (1..=s / 10).map(|n| n * 10).collect();
            prop_assert!(asked.is_disjoint(&missed), "{asked:?} {missed:?}");
            prop_assert_eq!(&asked | &missed, due);
        }
    }
}
