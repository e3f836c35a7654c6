//! What a scheduler decides about the commands whose record it keeps: queue, place, place again, end. Longer
//! than most files because it is one state machine.
//!
//! No clock, task or disk: events come in with the time, [`Action`]s go out, and the desk executes them in order,
//! records first. Which commands run *on* this node is `runs`' business.
//!
//! ```text
//! submit -> Pending -> (place) -> Running -> moved -> Completed | Failed | Cancelled
//!           |  ^  ^                  |
//!   waits for  |  +-- its node died -+   three times at most; not if it must be that node
//!   others     +-- it failed, may be retried, and paused
//! ```

mod gang;

use super::{
    aside::Aside,
    breaker::Breaker,
    course,
    demand::Offer,
    files::Artefact,
    gangs::Gangs,
    given::Given,
    messages::{Ending, Priority, Record, Run, ScheduleError, Spec, State, Stats, Term},
    placement::{Candidate, Need, Taken, place},
    queue::{CLASSES, QUEUE_BYTES_MAX, QUEUE_TASKS_MAX, Queue},
};
use crate::{
    ownership::{
        Presence,
        lease::{LEASE, margin},
    },
    task::Level,
};
use skep_runtime::NodeId;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use uuid::Uuid;

/// How many nodes may die under a command before it counts as failed: a command that kills its nodes stops here.
pub const STRIKES_MAX: u32 = 3;
/// Records of ended commands that are kept: the newest.
pub const ENDED_RECORDS_MAX: usize = 10_000;
/// Bytes of their commands and outputs together: every member has a copy of every owner's.
pub const ENDED_BYTES_MAX: usize = 16 << 20;
/// How long a node that had no room is left alone: its load tells sooner if room comes.
const FULL_PAUSE: Duration = Duration::from_secs(1);
/// How long it is the same death when a node dies or falls silent under a command once more: the link to it is gone at once,
/// and membership is sure in some seconds.
const DEATH: Duration = Duration::from_secs(15);
/// How long after the start a node that was not seen yet may still run what it was given before.
const GRACE: Duration = Duration::from_secs(15);
/// How long a node may go on with what never runs twice at once after it was told that it counts, and how long it may take to
/// end it.
const GOES_ON: Duration = LEASE.saturating_add(super::runner::END_MAX);
/// After a yes to a node that asked whether what it runs counts: how long nothing else may run.
pub const OUTLAST: Duration = GOES_ON.saturating_add(margin(GOES_ON));
/// Attempts taken from an unreachable node that are remembered, to be stopped when it is back.
const REVOKED_MAX: usize = 1000;
/// Kinds of commands that fit nowhere now which are tried before the rest waits for the next event: each costs a look at
/// every node. Each gang is one.
const LINES_TRIED_MAX: usize = 256;
/// Commands about which this node may not decide now that go to the end of their line at once.
const PASSED_MAX: usize = 64;
/// Nodes of which a refusal says what they lack: a few lines on a screen.
const LACKING_MAX: usize = 8;

/// Both clocks at an event: the wall's for records, the time since start for decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since 1970.
    pub wall_ms: u64,
    /// Since this scheduler started.
    pub uptime: Duration,
}

/// A node, as membership shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its key.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// It answers.
    pub up: bool,
    /// It answered since this node started.
    pub ever_up: bool,
    /// It takes no new work.
    pub draining: bool,
    /// Cores, 0 if unknown.
    pub cpus: u16,
    /// Bytes of memory, 0 if unknown.
    pub memory_bytes: u64,
    /// Bytes of it that are free.
    pub free_bytes: u64,
    /// What it says that it runs.
    pub running: u32,
    /// What else it has.
    pub offer: Arc<Offer>,
}

impl From<&Seen> for Presence {
    fn from(seen: &Seen) -> Presence {
        Presence { id: seen.id, up: seen.up, ever_up: seen.ever_up }
    }
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write this record; what follows waits for it.
    Save(Box<Record>),
    /// Delete this record, of this term.
    Delete(Uuid, Term),
    /// Ask this node to run it, and report with [`Core::ran`].
    Run(NodeId, Box<Run>),
    /// Ask this node to end this attempt; no answer is needed.
    Stop(NodeId, Uuid, u32, Term),
    /// Tell this node that the output may go.
    Forget(NodeId, Uuid),
    /// It ended: tell those who wait for that.
    Ended(Uuid),
    /// Another node decides about it now: tell those who wait here.
    Disowned(Uuid),
}

/// Why a node did not take a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It has no room now.
    NoRoom,
    /// It did not answer, so it may even run it.
    Silent(String),
    /// It has heard of a later owner.
    TakenOver,
    /// It has made this later attempt, of which an heir need not have heard.
    Further(u32),
    /// It never will.
    Never(String),
}

struct Peer {
    seen: Seen,
    breaker: Breaker,
    full_until: Duration,
}

/// What is known of a command that never runs twice at once.
#[derive(Debug, Clone, Copy, Default)]
struct Single {
    /// Half of the swarm has it on disk that this node decides about it, in the term in which it does.
    confirmed: bool,
    /// Others have voted for a later term: what this node writes in its own is confirmed by too few.
    fenced: bool,
    /// When a node was told last that what it runs counts, or may have been.
    counted: Option<Duration>,
}

/// The commands of one owner.
pub struct Core {
    me: NodeId,
    records: BTreeMap<Uuid, Record>,
    queue: Queue,
    running: Given,
    /// Those that wait for something other than room.
    aside: Aside,
    /// Those that were begun, which their records on disk don't say yet: most are over before the next tick, and one
    /// write tells both.
    begun: BTreeSet<Uuid>,
    gangs: Gangs,
    /// Those that have to be over by a moment, in milliseconds since 1970.
    deadlines: BTreeSet<(u64, Uuid)>,
    /// Commands that were placed one node after the other.
    turn: usize,
    /// Given before a restart to a node that doesn't answer yet: asked again at each tick.
    unsure: BTreeSet<Uuid>,
    /// The node that died or fell silent last under a command, and when.
    struck: BTreeMap<Uuid, (NodeId, Duration)>,
    /// In order of their ends.
    ended: VecDeque<Uuid>,
    ended_bytes: usize,
    fleet: BTreeMap<NodeId, Peer>,
    revoked: BTreeMap<NodeId, BTreeSet<(Uuid, u32, Term)>>,
    /// Those that never run twice at once, and may run yet as far as half of the swarm knows.
    singles: BTreeMap<Uuid, Single>,
    /// The epoch in which this node may decide about them now, if it may.
    leased: Option<u64>,
    /// Nothing is done about commands from before the start: others may own them by now.
    held: bool,
    tally: BTreeMap<&'static str, u64>,
}

impl Core {
    /// The core of `me`, with its records that survived: what waited waits, what ran is asked about. Both only after
    /// [`Core::release`]: whoever was away may have been taken for dead, and its commands taken over.
    pub fn new(me: NodeId, mut records: Vec<Record>) -> Core {
        records.sort_by_key(|r| (r.finished_ms, r.submitted_ms, r.id));
        let mut core = Core {
            me,
            records: BTreeMap::new(),
            queue: Queue::default(),
            running: Given::default(),
            aside: Aside::default(),
            begun: BTreeSet::new(),
            gangs: Gangs::default(),
            deadlines: BTreeSet::new(),
            turn: 0,
            unsure: BTreeSet::new(),
            struck: BTreeMap::new(),
            ended: VecDeque::new(),
            ended_bytes: 0,
            fleet: BTreeMap::new(),
            revoked: BTreeMap::new(),
            singles: BTreeMap::new(),
            leased: None,
            held: true,
            tally: BTreeMap::new(),
        };
        for record in records {
            if let (State::Running, Some(_)) = (record.state, record.assigned) {
                core.unsure.insert(record.id);
            }
            core.enter(record);
        }
        core
    }

    /// What others did meanwhile is known: from now on this node acts on what it owns.
    pub fn release(&mut self, now: Now) -> Vec<Action> {
        self.held = false;
        // Whom it told what before it was started again, it doesn't know.
        self.singles.values_mut().for_each(|single| single.counted = Some(now.uptime));
        // Nor who else has what it wrote.
        let singles = self.singles.keys().filter_map(|id| self.records.get(id));
        let mut out: Vec<Action> = singles.map(|record| Action::Save(Box::new(record.clone()))).collect();
        let awaited: Vec<Uuid> = self.aside.awaited().collect();
        awaited.into_iter().for_each(|id| self.own_prerequisite(id, now, &mut out));
        self.gangs.all_open().into_iter().for_each(|gang| self.mend(gang, now, &mut out));
        out.extend(self.tick(now));
        out
    }

    /// Takes over what another node owned: its place in line, or the question to its node whether it still runs. The
    /// record names this node as its owner, in a later term.
    pub fn adopt(&mut self, record: Record, now: Now) -> Vec<Action> {
        let mut out = vec![Action::Save(Box::new(record.clone()))];
        let (id, node) = (record.id, record.assigned.filter(|_| record.state == State::Running));
        if let Some(node) = node.filter(|_| record.cancelling) {
            self.enter(record);
            self.recant(id, node, now, &mut out);
            return out;
        }
        if let Some(node) = node {
            out.push(Action::Run(node, Box::new(run(&record))));
        }
        if record.state.ended() && record.is_single() {
            // Those who wait for it were not told yet.
            out.push(Action::Ended(id));
        }
        let after = record.spec.course.after.clone();
        let single = record.is_single();
        self.enter(record);
        self.singles.entry(id).and_modify(|single| single.counted = Some(now.uptime));
        after.into_iter().for_each(|prerequisite| self.own_prerequisite(prerequisite, now, &mut out));
        // What may still run somewhere is looked at again.
        if let Some(node) = node.filter(|node| !single && self.is_dead(*node, now)) {
            out.pop();
            let why = format!("node {} died", self.name(node));
            self.revoke(node, id);
            self.lost(id, &why, Some(node), now, &mut out);
        }
        if let Some(gang) = self.gang_of(id) {
            self.mend(gang, now, &mut out);
        }
        self.place(now, &mut out);
        out
    }

    /// Another node decides about it now: this one forgets it.
    pub fn disown(&mut self, id: Uuid) -> Vec<Action> {
        let Some(record) = self.records.remove(&id) else { return Vec::new() };
        self.let_go(id, record.due_ms());
        self.singles.remove(&id);
        self.gangs.forget(&record);
        if record.state.ended() {
            self.ended.retain(|ended| *ended != id);
            self.ended_bytes -= kept_bytes(&record);
        }
        vec![Action::Disowned(id)]
    }

    fn enter(&mut self, record: Record) {
        match (record.state, record.assigned) {
            (State::Running, Some(node)) => self.running.give(record.id, node, &need(&record.spec)),
            (State::Pending | State::Running, _) => self.wait(&record),
            _ => {
                self.ended.push_back(record.id);
                self.ended_bytes += kept_bytes(&record);
            }
        }
        if let Some(by_ms) = record.due_ms().filter(|_| !record.state.ended()) {
            self.deadlines.insert((by_ms, record.id));
        }
        if record.is_single() {
            self.singles.insert(record.id, Single::default());
        }
        self.gangs.enter(&record);
        self.records.insert(record.id, record);
    }

    /// It waits: for the end of a pause, for others, or for room.
    fn wait(&mut self, record: &Record) {
        let Record { id, ref spec, .. } = *record;
        match record.not_before_ms {
            Some(until_ms) => self.aside.pause(id, until_ms, bytes(spec)),
            None if record.attempts == 0 && !spec.course.after.is_empty() => {
                self.aside.block(id, spec.course.after.iter().copied(), bytes(spec));
            }
            None => join(&mut self.queue, record),
        }
    }

    /// It is nowhere any more: it neither waits nor runs.
    fn let_go(&mut self, id: Uuid, due_ms: Option<u64>) {
        self.queue.remove(id);
        self.aside.remove(id);
        self.running.take_back(&id);
        self.unsure.remove(&id);
        self.struck.remove(&id);
        if let Some(by_ms) = due_ms {
            self.deadlines.remove(&(by_ms, id));
        }
    }

    /// Whether a command may be taken: room in the queue, and a node that could ever run it; for one of a gang, nodes that
    /// could ever run them all at once.
    ///
    /// # Errors
    /// [`ScheduleError::QueueFull`], [`ScheduleError::NodeDown`], [`ScheduleError::Impossible`] or
    /// [`ScheduleError::NeverTogether`].
    pub fn admit(&self, spec: &Spec) -> Result<(), ScheduleError> {
        let waiting = self.waiting();
        let room = QUEUE_BYTES_MAX.saturating_sub(self.queue.bytes() + self.aside.bytes());
        if waiting >= QUEUE_TASKS_MAX || bytes(spec) > room {
            return Err(ScheduleError::QueueFull(waiting));
        }
        let need = need(spec);
        let forced = need.forced.and_then(|id| self.fleet.get(&id));
        if let Some(peer) = forced.filter(|p| !p.seen.up) {
            return Err(ScheduleError::NodeDown(peer.seen.name.clone()));
        }
        let fleet: Vec<&Seen> = match need.forced {
            Some(id) => self.fleet.get(&id).map(|p| &p.seen).into_iter().collect(),
            None => self.fleet.values().map(|p| &p.seen).collect(),
        };
        // A node whose card was not pulled yet may turn out to have it all.
        let lack = |seen: &&Seen| if seen.cpus > 0 { lacks(seen, &need) } else { Vec::new() };
        if fleet.iter().any(|seen| lack(seen).is_empty()) {
            return self.admit_gang(spec);
        }
        let lines = fleet.iter().map(|seen| format!("{} {}", seen.name, lack(seen).join(", "))).collect();
        Err(ScheduleError::Impossible(within(lines, "; ")))
    }

    /// A new command's record, as it is to be saved before [`Core::submit`].
    pub fn record(&self, id: Uuid, spec: Spec, now: Now) -> Record {
        Record::new(id, spec, self.me, Term::first(now.wall_ms, self.me), now.wall_ms)
    }

    /// A saved command enters the queue, and leaves it at once if there is room. One that never runs twice at once is
    /// confirmed, too.
    pub fn submit(&mut self, record: Record, now: Now) -> Vec<Action> {
        let (id, after) = (record.id, record.spec.course.after.clone());
        self.enter(record);
        self.singles.entry(id).and_modify(|single| single.confirmed = true);
        let mut out = Vec::new();
        self.match_gang(id, now, &mut out);
        after.into_iter().for_each(|prerequisite| self.own_prerequisite(prerequisite, now, &mut out));
        self.place(now, &mut out);
        out
    }

    /// The picture of the nodes changed: who looks other than before, and who is no member any more.
    pub fn fleet(&mut self, changed: Vec<Seen>, gone: &[NodeId], now: Now) -> Vec<Action> {
        for id in gone {
            self.fleet.remove(id);
        }
        for seen in changed {
            let old = self.fleet.remove(&seen.id);
            let (breaker, full_until) = old.map(|p| (p.breaker, p.full_until)).unwrap_or_default();
            self.fleet.insert(seen.id, Peer { seen, breaker, full_until });
        }
        self.tick(now)
    }

    /// Time passed: pauses may be over.
    pub fn tick(&mut self, now: Now) -> Vec<Action> {
        let mut out = Vec::new();
        if self.held {
            return out;
        }
        let dead: Vec<NodeId> = self.running.nodes().filter(|node| self.is_dead(*node, now)).collect();
        for (id, node) in self.running.on(&dead) {
            // It may have been recalled with another of its gang.
            if self.may_run_yet(id, now) || self.running.node(&id) != Some(node) {
                continue;
            }
            let why = format!("node {} died", self.name(node));
            self.revoke(node, id);
            self.lost(id, &why, Some(node), now, &mut out);
        }
        self.moments(now, &mut out);
        let begun = std::mem::take(&mut self.begun).into_iter().filter_map(|id| self.records.get(&id));
        out.extend(begun.filter(|record| record.state == State::Running).map(|r| Action::Save(Box::new(r.clone()))));
        for id in std::mem::take(&mut self.unsure) {
            if !self.may_decide(id) {
                self.unsure.insert(id);
                continue;
            }
            match (self.running.node(&id), self.records.get(&id)) {
                (Some(node), Some(record)) if record.cancelling => self.recant(id, node, now, &mut out),
                (Some(node), Some(record)) => out.push(Action::Run(node, Box::new(run(record)))),
                _ => {}
            }
        }
        self.forced_on_the_dead(now, &mut out);
        self.incomplete_gangs(now, &mut out);
        let back: Vec<NodeId> = self.revoked.keys().filter(|id| self.is_up(**id)).copied().collect();
        for node in back {
            let attempts = self.revoked.remove(&node).unwrap_or_default();
            out.extend(attempts.into_iter().map(|(id, attempt, term)| Action::Stop(node, id, attempt, term)));
        }
        self.place(now, &mut out);
        out
    }

    /// A node answered whether it runs a command, or did not answer.
    pub fn ran(
        &mut self,
        node: NodeId,
        id: Uuid,
        (attempt, term): (u32, Term),
        outcome: Result<Level, Refusal>,
        now: Now,
    ) -> Vec<Action> {
        let mut out = Vec::new();
        let uptime = now.uptime;
        let waits = self.running.node(&id) == Some(node)
            && self.records.get(&id).is_some_and(|r| (r.attempts, r.term) == (attempt, term));
        if !waits {
            return out;
        }
        let never_seen = self.fleet.get(&node).is_some_and(|p| !p.seen.ever_up && !p.seen.up);
        match outcome {
            Ok(sandbox) => {
                self.fleet.entry(node).and_modify(|p| p.breaker.succeeded());
                self.begin(id, sandbox, now);
                self.gang_runs(id);
            }
            Err(Refusal::NoRoom) => {
                self.fleet.entry(node).and_modify(|p| p.full_until = uptime + FULL_PAUSE);
                // An order that is late must not meet another attempt of its number, if only one may run.
                if let Some(record) = self.records.get_mut(&id).filter(|record| !record.is_single()) {
                    record.attempts -= 1;
                }
                self.requeue(id, now, &mut out);
            }
            Err(Refusal::Silent(_)) if never_seen && uptime < GRACE || self.may_run_yet(id, now) => {
                self.unsure.insert(id);
            }
            Err(Refusal::Silent(why)) => {
                self.fleet.entry(node).and_modify(|p| {
                    p.breaker.failed(uptime);
                    p.full_until = uptime + FULL_PAUSE;
                });
                let why = format!("node {} did not take it: {why}", self.name(node));
                self.revoke(node, id);
                self.lost(id, &why, Some(node), now, &mut out);
            }
            Err(Refusal::Never(why)) => self.end(id, failed(why), now, &mut out),
            Err(Refusal::TakenOver) => out.extend(self.disown(id)),
            Err(Refusal::Further(further)) if further > attempt => {
                // What became of that one is asked, and counts.
                if let Some(record) = self.records.get_mut(&id) {
                    record.attempts = further;
                    out.extend([Action::Save(Box::new(record.clone())), Action::Run(node, Box::new(run(record)))]);
                }
            }
            // One that it was not even asked for.
            Err(Refusal::Further(_)) => self.lost(id, "its node contradicts itself", Some(node), now, &mut out),
        }
        self.place(now, &mut out);
        out
    }

    /// It was begun, behind this fence. Its node's answer to the order may come after its end.
    pub fn begin(&mut self, id: Uuid, sandbox: Level, now: Now) {
        if let Some(record) = self.records.get_mut(&id).filter(|record| record.started_ms.is_none()) {
            (record.started_ms, record.sandbox) = (Some(now.wall_ms), Some(sandbox));
            self.begun.insert(id);
        }
    }

    /// An attempt ended, says the node that it ran on. Of an attempt that counts no more, nothing changes.
    pub fn moved(&mut self, id: Uuid, attempt: u32, term: Term, ending: Ending, now: Now) -> Vec<Action> {
        let mut out = Vec::new();
        let current = self.records.get(&id).map(|r| (r.attempts, r.term));
        let counts = cfg!(feature = "mutant-unfenced") || current == Some((attempt, term));
        if let Some(node) = self.running.node(&id).filter(|_| counts) {
            // Its answer to the order may come later, when nobody waits for it any more.
            self.fleet.entry(node).and_modify(|p| p.breaker.succeeded());
            match ending.lost {
                true => {
                    // A node that is emptied sends its commands away: that is no fault of theirs.
                    let strike = !self.fleet.get(&node).is_some_and(|peer| peer.seen.draining);
                    self.records.entry(id).and_modify(|record| record.strikes += u32::from(strike));
                    // It answers, but not for this one: others may do better.
                    self.fleet.entry(node).and_modify(|p| p.full_until = now.uptime + FULL_PAUSE);
                    self.lost(id, &ending.error.unwrap_or_else(|| "its node failed".into()), None, now, &mut out);
                }
                false if self.may_retry(id, &ending) => self.retry(id, ending, now, &mut out),
                false => self.end(id, ending, now, &mut out),
            }
            self.place(now, &mut out);
        } else if self.gang_of(id).is_some_and(|gang| self.gangs.left(gang, id, attempt)) {
            self.place(now, &mut out);
        }
        out
    }

    /// The epoch in which this node may decide now about what never runs twice at once, if it may.
    pub fn lease(&mut self, held: Option<u64>) {
        self.leased = held;
    }

    /// Half of the swarm has what this node wrote about such a command in a term; if that was its `end`, it is over.
    pub fn confirmed(&mut self, id: Uuid, term: Term, end: bool, now: Now) -> Vec<Action> {
        let mut out = Vec::new();
        let record = self.records.get_mut(&id).filter(|record| record.term == term);
        let (Some(record), Some(single)) = (record, self.singles.get_mut(&id)) else { return out };
        single.confirmed = true;
        if end {
            record.settled = true;
            out.push(Action::Save(Box::new(record.clone())));
            self.singles.remove(&id);
            self.own_prerequisite(id, now, &mut out);
        }
        self.place(now, &mut out);
        out
    }

    /// Whether this is such a command.
    pub fn is_single(&self, id: Uuid) -> bool {
        self.singles.contains_key(&id)
    }

    /// Whether there are such commands.
    pub fn has_singles(&self) -> bool {
        !self.singles.is_empty()
    }

    /// Others have voted for a later term than this one of such a command.
    pub fn fenced(&mut self, id: Uuid, term: Term) {
        let own = self.records.get(&id).is_some_and(|record| record.term == term);
        if let Some(single) = self.singles.get_mut(&id).filter(|_| own) {
            single.fenced = true;
        }
    }

    /// Those that this node owned in an earlier epoch, or whose term is fenced: it has to be voted for to go on with them.
    pub fn forfeited(&self, epoch: u64) -> impl Iterator<Item = Uuid> + '_ {
        let lost = move |(id, single): (&Uuid, &Single)| {
            let record = self.records.get(id)?;
            (single.fenced || record.epoch != epoch).then_some(*id)
        };
        self.singles.iter().filter_map(lost)
    }

    /// Whether an attempt counts that a node runs or is about to run. A yes is remembered: nothing else runs for [`OUTLAST`].
    pub fn counts(&mut self, id: Uuid, attempt: u32, term: Term, node: NodeId, now: Now) -> bool {
        let record = self.records.get(&id).filter(|r| (r.attempts, r.term) == (attempt, term) && !r.cancelling);
        let counts = record.is_some() && self.running.node(&id) == Some(node) && self.may_decide(id) && !self.held;
        if let Some(single) = self.singles.get_mut(&id).filter(|_| counts) {
            single.counted = Some(now.uptime);
        }
        counts
    }

    /// Whether this node may decide about a command now.
    pub fn may_decide(&self, id: Uuid) -> bool {
        let epoch = self.records.get(&id).map(|record| record.epoch);
        self.singles.get(&id).is_none_or(|single| single.confirmed && self.leased == epoch)
    }

    /// Whether a command that never runs twice at once may still run somewhere, or it isn't for this node to say.
    fn may_run_yet(&self, id: Uuid, now: Now) -> bool {
        let lasts = |single: &Single| single.counted.is_some_and(|last| now.uptime < last + OUTLAST);
        self.singles.get(&id).is_some_and(|single| lasts(single) || !self.may_decide(id))
    }

    /// Somebody wants it ended: at once if it waits, else its node is asked.
    ///
    /// # Errors
    /// [`ScheduleError::NoSuchTask`]; [`ScheduleError::Over`] if it has ended.
    pub fn cancel(&mut self, id: Uuid, now: Now) -> Result<Vec<Action>, ScheduleError> {
        let record = self.records.get_mut(&id).ok_or(ScheduleError::NoSuchTask(id))?;
        let mut out = Vec::new();
        match (record.state, self.running.node(&id)) {
            (State::Running, Some(node)) => {
                if !std::mem::replace(&mut record.cancelling, true) {
                    out.push(Action::Save(Box::new(record.clone())));
                }
                out.push(Action::Stop(node, id, record.attempts, record.term));
            }
            (State::Pending | State::Running, _) => self.end(id, cancelled(None), now, &mut out),
            (state, _) => return Err(ScheduleError::Over(word(state).into())),
        }
        Ok(out)
    }

    /// Cancels all of one class that wait. How many, and what is to be done.
    pub fn clear(&mut self, class: Priority, now: Now) -> (u32, Vec<Action>) {
        let aside = self.aside.all().filter(|id| self.records.get(id).is_some_and(|r| r.spec.priority == class));
        let waiting: Vec<Uuid> = self.queue.of(class).chain(aside).collect();
        let mut out = Vec::new();
        waiting.iter().for_each(|id| self.end(*id, cancelled(None), now, &mut out));
        (waiting.len() as u32, out)
    }

    /// One record.
    pub fn get(&self, id: Uuid) -> Option<&Record> {
        self.records.get(&id)
    }

    /// All records, the newest first.
    pub fn newest(&self) -> Vec<&Record> {
        let mut all: Vec<&Record> = self.records.values().collect();
        all.sort_by_key(|r| (std::cmp::Reverse(r.submitted_ms), r.id));
        all
    }

    /// Whether this attempt is still the one that counts, of this owner in this term, and runs.
    pub fn is_current(&self, id: Uuid, attempt: u32, term: Term) -> bool {
        self.is_running(id, attempt) && self.records.get(&id).is_some_and(|r| r.term == term)
    }

    /// Whether this attempt is still the one that counts, and runs.
    pub fn is_running(&self, id: Uuid, attempt: u32) -> bool {
        self.running.node(&id).is_some() && self.records.get(&id).is_some_and(|r| r.attempts == attempt)
    }

    /// Numbers, but for what runs on this node.
    pub fn stats(&self, now: Now) -> Stats {
        let count = |word| self.tally.get(word).copied().unwrap_or(0);
        let touched = self.fleet.iter().filter(|(_, p)| p.breaker != Breaker::default());
        Stats {
            queued: CLASSES.iter().map(|c| (class_word(*c).to_string(), self.queue.count_of(*c) as u32)).collect(),
            aside: self.aside.len() as u32,
            in_flight: self.running.count() as u32,
            running_here: 0,
            completed: count("completed"),
            failed: count("failed"),
            cancelled: count("cancelled"),
            breakers: touched.map(|(id, p)| (id.to_string(), p.breaker.word(now.uptime).to_string())).collect(),
        }
    }

    /// The nodes, as they were last seen.
    pub fn nodes(&self) -> impl Iterator<Item = &Seen> {
        self.fleet.values().map(|peer| &peer.seen)
    }

    /// Whether it acts yet.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// How many wait, for whatever.
    pub fn waiting(&self) -> usize {
        self.queue.count() + self.aside.len()
    }

    /// Whom others wait for, of which this node has no record.
    pub fn awaited_elsewhere(&self) -> impl Iterator<Item = Uuid> + '_ {
        self.aside.awaited().filter(|id| !self.records.contains_key(id))
    }

    /// Whether somebody waits for its end.
    pub fn is_awaited(&self, id: Uuid) -> bool {
        self.aside.is_awaited(id)
    }

    /// A command of another owner, for which others wait, has ended like this; or nobody knows it any more.
    pub fn prerequisite(&mut self, id: Uuid, state: Option<State>, now: Now) -> Vec<Action> {
        let mut out = Vec::new();
        if !self.held {
            self.free(id, state, now, &mut out);
            self.place(now, &mut out);
        }
        out
    }

    /// Gives to nodes whatever has room now. A command that fits nowhere now lets those behind it pass.
    fn place(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.held || self.queue.count() == 0 {
            return;
        }
        let mut fleet = self.candidates(now);
        let mut hopeless: BTreeSet<Need> = BTreeSet::new();
        let mut passed: BTreeSet<Uuid> = BTreeSet::new();
        while hopeless.len() < LINES_TRIED_MAX
            && (fleet.values().any(Candidate::takes_any) || self.any_preempts(&hopeless))
        {
            let Some((need, id)) = self.queue.heads().find(|(need, _)| !hopeless.contains(need)) else { return };
            let need = need.clone();
            if !self.may_decide(id) {
                // It lets the others pass that need the same.
                let record = self.records.get(&id).filter(|_| passed.len() < PASSED_MAX && passed.insert(id));
                match record {
                    Some(record) => {
                        self.queue.remove(id);
                        join(&mut self.queue, record);
                    }
                    None => hopeless.extend([need]),
                }
                continue;
            }
            if let Some(gang) = need.gang {
                match self.place_gang(gang, (&need, id), &mut fleet, now, out) {
                    gang::Tried::Placed => {}
                    gang::Tried::Waits => drop(hopeless.insert(need)),
                    gang::Tried::HoldsBack => return,
                }
                continue;
            }
            let alone = |c: &&Candidate| need.wish.apart.as_ref().is_none_or(|g| !self.running.has_of(g, c.id));
            let chosen = place(&need, fleet.values().filter(alone), self.turn, id);
            let Some(node) = chosen.or_else(|| self.preempt(&need, id, &mut fleet, now, out)) else {
                hopeless.insert(need);
                continue;
            };
            self.assign(id, node, &need, &mut fleet, out);
        }
    }

    /// Gives one that waits to a node.
    fn assign(
        &mut self,
        id: Uuid,
        node: NodeId,
        need: &Need,
        fleet: &mut BTreeMap<NodeId, Candidate>,
        out: &mut Vec<Action>,
    ) {
        self.turn = self.turn.wrapping_add(1);
        self.queue.remove(id);
        let Some(record) = self.records.get_mut(&id) else { return };
        record.state = State::Running;
        record.assigned = Some(node);
        record.attempts = record.attempts.saturating_add(1);
        (record.not_before_ms, record.exit_code, record.error) = (None, None, None);
        out.push(Action::Save(Box::new(record.clone())));
        out.push(Action::Run(node, Box::new(run(record))));
        self.running.give(id, node, need);
        fleet.entry(node).and_modify(|c| c.taken.add(Taken::by(need)));
    }

    /// Whether a command waits that takes others' places, and was not tried yet.
    fn any_preempts(&self, tried: &BTreeSet<Need>) -> bool {
        self.queue.heads().take(LINES_TRIED_MAX).any(|(need, _)| need.preempts && !tried.contains(need))
    }

    /// The node where a command that may do so runs in place of others of lower classes: the one where the fewest have to
    /// go. They are told to end and wait again; what they did is done once more.
    fn preempt(
        &mut self,
        need: &Need,
        id: Uuid,
        fleet: &mut BTreeMap<NodeId, Candidate>,
        now: Now,
        out: &mut Vec<Action>,
    ) -> Option<NodeId> {
        let class = self.records.get(&id).filter(|_| need.preempts)?.spec.priority;
        let mut best: Option<(usize, NodeId, Vec<Uuid>)> = None;
        for (node, candidate) in fleet.iter() {
            let mut below: Vec<&Record> =
                self.running.on(&[*node]).iter().filter_map(|(id, _)| self.records.get(id)).collect();
            // What makes way may run for a moment longer.
            below.retain(|record| record.spec.priority < class && !record.cancelling && !record.is_single());
            // The least urgent first, of those the ones that no gang goes with, and of them the one that has done the least.
            below.sort_by_key(|record| {
                let gang = record.spec.course.gang.is_some();
                (record.spec.priority, gang, std::cmp::Reverse(record.started_ms), record.id)
            });
            let mut room = candidate.clone();
            let mut go = Vec::new();
            for record in below {
                room.taken.subtract(Taken::by(&self::need(&record.spec)));
                go.push(record.id);
                if room.has_room(need) {
                    break;
                }
            }
            // A gang makes way as a whole.
            let gangs = go.iter().filter_map(|id| self.gang_of(*id)).flat_map(|gang| self.gangs.open(gang));
            let all: BTreeSet<Uuid> = gangs.chain(go.iter().copied()).collect();
            if room.has_room(need) && best.as_ref().is_none_or(|(fewest, ..)| all.len() < *fewest) {
                best = Some((all.len(), *node, go));
            }
        }
        let (_, node, go) = best?;
        let mut gangs = false;
        for id in go {
            if self.gang_of(id).is_some() {
                gangs = true;
                // Unless that was done with another of it.
                if self.running.node(&id).is_some() {
                    self.recall(id, now, out);
                }
                continue;
            }
            let Some(record) = self.records.get(&id) else { continue };
            fleet.entry(node).and_modify(|c| c.taken.subtract(Taken::by(&self::need(&record.spec))));
            out.push(Action::Stop(node, id, record.attempts, record.term));
            self.requeue(id, now, out);
        }
        if gangs {
            // There is room on other nodes, too.
            *fleet = self.candidates(now);
        }
        Some(node)
    }

    fn candidates(&self, now: Now) -> BTreeMap<NodeId, Candidate> {
        let candidate = |peer: &Peer| {
            let mut taken = self.running.of(&peer.seen.id);
            // What it says includes ours and lags behind; what we gave it may not include others'.
            taken.commands = taken.commands.max(peer.seen.running);
            (peer.seen.id, candidate(peer, taken, now))
        };
        self.fleet.values().map(candidate).collect()
    }

    /// Somebody wanted it ended, and who told its node so is gone: it is told again, and not waited for.
    fn recant(&mut self, id: Uuid, node: NodeId, now: Now, out: &mut Vec<Action>) {
        let stop = self.records.get(&id).map(|record| Action::Stop(node, id, record.attempts, record.term));
        match self.is_up(node) {
            true => out.extend(stop),
            false => self.revoke(node, id),
        }
        let why = format!("who was to end it on node {} went away; it is told once more", self.name(node));
        self.end(id, cancelled(Some(why)), now, out);
    }

    /// Its node is gone: somewhere else, unless it must be there or too many have gone under it. `by`: this one died or fell
    /// silent, which counts unless it did so a moment ago.
    fn lost(&mut self, id: Uuid, why: &str, by: Option<NodeId>, now: Now, out: &mut Vec<Action>) {
        let Some(record) = self.records.get_mut(&id) else { return };
        let known = |node| self.struck.get(&id).is_some_and(|(last, at)| *last == node && now.uptime < *at + DEATH);
        if let Some(node) = by.filter(|node| !known(*node)) {
            record.strikes += 1;
            self.struck.insert(id, (node, now.uptime));
        }
        if record.cancelling {
            self.end(id, cancelled(Some(why.into())), now, out);
        } else if record.spec.node.is_some() {
            self.end(id, failed(why.into()), now, out);
        } else if record.strikes >= STRIKES_MAX {
            let why = format!("{why}, the third under this command: it is not tried again");
            self.end(id, failed(why), now, out);
        } else {
            self.requeue(id, now, out);
        }
    }

    /// Whether a command that ended so runs again.
    fn may_retry(&self, id: Uuid, ending: &Ending) -> bool {
        let left = |record: &Record| !record.cancelling && record.failures < record.spec.course.retries;
        ending.state == State::Failed && self.records.get(&id).is_some_and(left)
    }

    /// It failed, and waits a while before it runs again. Until then its record shows how it failed.
    fn retry(&mut self, id: Uuid, ending: Ending, now: Now, out: &mut Vec<Action>) {
        self.running.take_back(&id);
        self.unsure.remove(&id);
        let Some(record) = self.records.get_mut(&id) else { return };
        record.failures += 1;
        let pause = course::pause(record.failures).as_millis() as u64;
        let until_ms = now.wall_ms.saturating_add(pause);
        (record.state, record.assigned, record.started_ms) = (State::Pending, None, None);
        (record.exit_code, record.error) = (ending.exit_code, ending.error);
        (record.output, record.output_bytes) = (ending.output, ending.output_bytes);
        record.not_before_ms = Some(until_ms);
        self.aside.pause(id, until_ms, bytes(&record.spec));
        out.push(Action::Save(Box::new(record.clone())));
        self.recall(id, now, out);
    }

    /// Pauses that are over, and deadlines that have passed.
    fn moments(&mut self, now: Now, out: &mut Vec<Action>) {
        for id in self.aside.due(now.wall_ms) {
            let Some(record) = self.records.get(&id) else { continue };
            join(&mut self.queue, record);
        }
        while let Some((by_ms, id)) = self.deadlines.first().copied().filter(|(by_ms, _)| *by_ms <= now.wall_ms) {
            self.deadlines.remove(&(by_ms, id));
            let node = self.running.node(&id);
            let Some(record) = self.records.get_mut(&id) else { continue };
            let Some(node) = node else {
                let why = late("begun", record);
                self.end(id, failed(why), now, out);
                continue;
            };
            (record.overdue, record.cancelling) = (true, true);
            out.push(Action::Save(Box::new(record.clone())));
            out.push(Action::Stop(node, id, record.attempts, record.term));
        }
    }

    /// One of this node's own that others wait for may have ended before they came.
    fn own_prerequisite(&mut self, id: Uuid, now: Now, out: &mut Vec<Action>) {
        if let Some(state) = self.records.get(&id).filter(|record| record.is_over()).map(|record| record.state) {
            self.free(id, Some(state), now, out);
        }
    }

    /// One that others wait for has ended, or is not known any more: they go on, or end too.
    fn free(&mut self, id: Uuid, state: Option<State>, now: Now, out: &mut Vec<Action>) {
        if state == Some(State::Completed) {
            for free in self.aside.completed(id) {
                let Some(record) = self.records.get(&free) else { continue };
                join(&mut self.queue, record);
            }
            return;
        }
        let ending = in_vain(id, state);
        self.aside.waiting_for(id).into_iter().for_each(|waiting| self.end(waiting, ending.clone(), now, out));
    }

    fn requeue(&mut self, id: Uuid, now: Now, out: &mut Vec<Action>) {
        if self.records.get(&id).is_some_and(|record| record.cancelling) {
            return self.end(id, cancelled(None), now, out);
        }
        self.wait_again(id, out);
        self.recall(id, now, out);
    }

    /// It waits as if it had not been placed, before the others of its class.
    fn wait_again(&mut self, id: Uuid, out: &mut Vec<Action>) {
        self.running.take_back(&id);
        self.unsure.remove(&id);
        let Some(record) = self.records.get_mut(&id) else { return };
        record.state = State::Pending;
        record.assigned = None;
        record.sandbox = None;
        record.started_ms = None;
        self.queue.come_back(record.spec.priority, need(&record.spec), id, bytes(&record.spec));
        out.push(Action::Save(Box::new(record.clone())));
    }

    /// It is over, and so is, or goes on, whoever waits for it.
    fn end(&mut self, id: Uuid, ending: Ending, now: Now, out: &mut Vec<Action>) {
        // Not by calling itself: a chain of a hundred thousand may end at once.
        let mut ends = vec![(id, ending)];
        while let Some((id, ending)) = ends.pop() {
            let Some(state) = self.end_one(id, ending, now, out) else { continue };
            if self.singles.contains_key(&id) {
                // Nothing follows from an end that is not confirmed.
                continue;
            }
            match state {
                State::Completed => self.free(id, Some(state), now, out),
                _ => {
                    let waiting = self.aside.waiting_for(id).into_iter();
                    ends.extend(waiting.map(|waiting| (waiting, in_vain(id, Some(state)))));
                    // The first one is the reason for all others.
                    let gang = self.gang_of(id).filter(|gang| self.gangs.broken(*gang) == Some((id, state)));
                    ends.extend(gang.into_iter().flat_map(|gang| self.disband(gang, id, state, out)));
                }
            }
        }
    }

    fn end_one(&mut self, id: Uuid, mut ending: Ending, now: Now, out: &mut Vec<Action>) -> Option<State> {
        // What ended with the rest of its gang may be told to end once more.
        let due_ms = self.records.get(&id).filter(|record| !record.state.ended())?.due_ms();
        self.let_go(id, due_ms);
        ending = self.as_its_gang(id, ending);
        let record = self.records.get_mut(&id)?;
        if record.overdue && ending.state == State::Cancelled {
            ending = Ending { state: State::Failed, error: Some(late("ended", record)), ..ending };
        }
        record.state = ending.state;
        record.exit_code = ending.exit_code;
        record.error = ending.error;
        record.output = ending.output;
        record.output_bytes = ending.output_bytes;
        // Whoever runs it may say what it likes.
        record.artefacts = ending.artefacts.into_iter().filter(|a| record.spec.files.leaves(&a.path)).collect();
        record.finished_ms = Some(now.wall_ms);
        self.gangs.end(record);
        *self.tally.entry(word(ending.state)).or_default() += 1;
        out.push(Action::Save(Box::new(record.clone())));
        out.push(Action::Ended(id));
        self.ended.push_back(id);
        self.ended_bytes += kept_bytes(record);
        while self.ended.len() > ENDED_RECORDS_MAX || self.ended_bytes > ENDED_BYTES_MAX {
            // Whose end is not confirmed may have to be told yet, and a gang is known in full as long as something of it is open.
            let needed = |id: &Uuid| self.gang_of(*id).is_some_and(|gang| self.gangs.is_open(gang));
            let old = |id: &Uuid| !self.singles.contains_key(id) && !needed(id);
            let Some(at) = self.ended.iter().position(old) else { break };
            let Some(oldest) = self.ended.remove(at) else { break };
            let Some(gone) = self.records.remove(&oldest) else { continue };
            self.gangs.forget(&gone);
            self.ended_bytes -= kept_bytes(&gone);
            out.push(Action::Delete(oldest, gone.term));
            out.extend(gone.assigned.map(|node| Action::Forget(node, oldest)));
        }
        Some(ending.state)
    }

    /// What must run on a node that died fails instead of waiting for ever.
    fn forced_on_the_dead(&mut self, now: Now, out: &mut Vec<Action>) {
        for id in self.queue.that_need(|need| need.forced.is_some_and(|node| self.is_dead(node, now))) {
            let forced = self.records.get(&id).and_then(|record| need(&record.spec).forced);
            let why = format!("node {} died", forced.map(|node| self.name(node)).unwrap_or_default());
            self.end(id, failed(why), now, out);
        }
    }

    fn revoke(&mut self, node: NodeId, id: Uuid) {
        let Some((attempt, term)) = self.records.get(&id).map(|r| (r.attempts, r.term)) else { return };
        let revoked = self.revoked.entry(node).or_default();
        revoked.insert((id, attempt, term));
        if revoked.len() > REVOKED_MAX {
            revoked.pop_first();
        }
    }

    fn is_up(&self, node: NodeId) -> bool {
        self.fleet.get(&node).is_some_and(|p| p.seen.up)
    }

    /// Down after it was up, not come up in the time after our start, or off the roster.
    fn is_dead(&self, node: NodeId, now: Now) -> bool {
        match self.fleet.get(&node) {
            Some(peer) => !peer.seen.up && (peer.seen.ever_up || now.uptime >= GRACE),
            None => !self.fleet.is_empty(),
        }
    }

    fn name(&self, node: NodeId) -> String {
        self.fleet.get(&node).map_or_else(|| node.short(), |p| p.seen.name.clone())
    }
}

/// A state's word, as the API writes it.
pub fn word(state: State) -> &'static str {
    match state {
        State::Pending => "pending",
        State::Running => "running",
        State::Completed => "completed",
        State::Failed => "failed",
        State::Cancelled => "cancelled",
    }
}

fn class_word(class: Priority) -> &'static str {
    match class {
        Priority::Urgent => "urgent",
        Priority::Critical => "critical",
        Priority::High => "high",
        Priority::Normal => "normal",
        Priority::Low => "low",
    }
}

/// The nodes in a checked spec are keys; a text that is none names nobody.
pub(crate) fn need(spec: &Spec) -> Need {
    let key = |text: &Option<String>| text.as_ref().map(|t| t.parse().unwrap_or(NodeId::from_bytes([0; 32])));
    Need {
        forced: key(&spec.node),
        preferred: key(&spec.preferred_node),
        cpus: spec.cpus,
        memory_bytes: spec.memory_bytes,
        demand: spec.demand.clone(),
        wish: spec.wish.clone(),
        preempts: spec.course.preempts,
        once: spec.course.once,
        gang: spec.course.gang.map(|gang| gang.id),
    }
}

/// As many lines about nodes as a refusal has.
fn within(mut lines: Vec<String>, between: &str) -> String {
    if lines.len() > LACKING_MAX {
        let more = lines.len() - LACKING_MAX;
        lines.truncate(LACKING_MAX);
        lines.push(format!("and {more} more"));
    }
    lines.join(between)
}

/// What a node whose card is known could never give.
fn lacks(seen: &Seen, need: &Need) -> Vec<String> {
    let cpus = (need.cpus > seen.cpus).then(|| format!("has {} of {} cores", seen.cpus, need.cpus));
    let memory = (need.memory_bytes > seen.memory_bytes)
        .then(|| format!("has {} of {} MiB of memory", seen.memory_bytes >> 20, need.memory_bytes >> 20));
    cpus.into_iter().chain(memory).chain(seen.offer.shortfalls(&need.demand)).collect()
}

fn candidate(peer: &Peer, taken: Taken, now: Now) -> Candidate {
    let seen = &peer.seen;
    Candidate {
        id: seen.id,
        up: seen.up,
        draining: seen.draining,
        shut: now.uptime < peer.full_until || peer.breaker.is_open(now.uptime),
        cpus: seen.cpus,
        memory_bytes: seen.memory_bytes,
        free_bytes: seen.free_bytes,
        taken,
        offer: seen.offer.clone(),
    }
}

fn run(record: &Record) -> Run {
    let Record { id, owner, term, attempts, submitted_ms, ref spec, .. } = *record;
    Run { id, owner, attempt: attempts, term, submitted_ms, spec: spec.clone() }
}

fn bytes(spec: &Spec) -> usize {
    let env: usize = spec.env.iter().map(|(name, value)| name.len() + value.len()).sum();
    let after = size_of_val(spec.course.after.as_slice());
    let texts = spec.args.iter().chain(&spec.readable).chain(&spec.writable).map(String::len).sum::<usize>();
    spec.command.len() + texts + env + spec.demand.bytes() + spec.wish.bytes() + spec.files.bytes() + after
}

/// Adds one behind those of its class.
fn join(queue: &mut Queue, record: &Record) {
    let Record { id, ref spec, .. } = *record;
    queue.join(spec.priority, need(spec), id, bytes(spec));
}

/// Why a command fails whose deadline has passed.
fn late(what: &str, record: &Record) -> String {
    format!("it had not {what} by its deadline, {} s after it was given", record.spec.course.deadline_s)
}

/// What the record of an ended command takes on every member's disk, but for its fixed part.
fn kept_bytes(record: &Record) -> usize {
    let artefacts: usize = record.artefacts.iter().map(|a| a.path.len() + size_of::<Artefact>()).sum();
    bytes(&record.spec) + record.output.len() + artefacts + record.error.as_ref().map_or(0, String::len)
}

/// How a command ends that waited for another one, which didn't complete.
fn in_vain(id: Uuid, state: Option<State>) -> Ending {
    match state {
        Some(State::Cancelled) => cancelled(Some(format!("task {id}, for which it waited, was cancelled"))),
        Some(_) => failed(format!("task {id}, for which it waited, failed")),
        None => failed(format!("task {id}, for which it waited, is not known any more: how it ended can't be told")),
    }
}

fn failed(why: String) -> Ending {
    Ending {
        state: State::Failed,
        exit_code: None,
        error: Some(why),
        output: String::new(),
        output_bytes: 0,
        artefacts: Vec::new(),
        lost: false,
    }
}

fn cancelled(why: Option<String>) -> Ending {
    Ending { state: State::Cancelled, error: why, ..failed(String::new()) }
}

#[cfg(test)]
pub(crate) fn spec(command: &str) -> Spec {
    Spec::new(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::{course::Course, demand::Demand, wish::Wish};
    use proptest::prelude::*;

    pub(super) fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n + 1; 32])
    }

    pub(super) fn seen(n: u8, up: bool) -> Seen {
        Seen {
            id: node(n),
            name: format!("n{n}"),
            up,
            ever_up: true,
            draining: false,
            cpus: 2,
            memory_bytes: 1 << 30,
            free_bytes: 1 << 30,
            running: 0,
            offer: Arc::new(Offer { sandbox: Level::Landlock, ..Offer::default() }),
        }
    }

    pub(super) fn at(s: u64) -> Now {
        Now { wall_ms: s * 1000, uptime: Duration::from_secs(s) }
    }

    pub(super) fn done() -> Ending {
        Ending { state: State::Completed, exit_code: Some(0), ..cancelled(None) }
    }

    pub(super) fn core(up: &[bool]) -> Core {
        let mut core = Core::new(node(0), Vec::new());
        core.release(at(0));
        core.fleet(up.iter().enumerate().map(|(n, up)| seen(n as u8, *up)).collect(), &[], at(0));
        core
    }

    pub(super) fn submit(core: &mut Core, n: u128, spec: Spec) -> Vec<Action> {
        let record = core.record(Uuid::from_u128(n), spec, at(1));
        core.submit(record, at(1))
    }

    /// That of all commands of n0 that nobody took over.
    pub(super) fn term() -> Term {
        Term::first(at(1).wall_ms, node(0))
    }

    pub(super) fn placed_on(actions: &[Action]) -> Vec<NodeId> {
        actions.iter().filter_map(|a| if let Action::Run(node, _) = a { Some(*node) } else { None }).collect()
    }

    #[test]
    fn a_command_whose_node_dies_runs_elsewhere_and_the_old_attempt_is_stopped_when_the_node_is_back() {
        let mut core = core(&[true, true]);
        assert_eq!(placed_on(&submit(&mut core, 1, spec("true"))), [node(0)]);
        let out = core.fleet(vec![seen(0, false), seen(1, true)], &[], at(2));
        assert_eq!(placed_on(&out), [node(1)]);
        let out = core.fleet(vec![seen(0, true), seen(1, true)], &[], at(3));
        assert!(out.contains(&Action::Stop(node(0), Uuid::from_u128(1), 1, term())));
        assert!(
            core.moved(Uuid::from_u128(1), 1, term(), done(), at(4)).is_empty(),
            "the first attempt counts no more"
        );
        core.moved(Uuid::from_u128(1), 2, term(), done(), at(4));
        assert_eq!(core.get(Uuid::from_u128(1)).unwrap().state, State::Completed);
    }

    #[test]
    fn a_command_goes_where_its_demands_are_met_and_nowhere_else() {
        let mut core = core(&[true, true]);
        let offer = Offer {
            gpus: vec![8 << 30],
            labels: [("fast".into(), String::new())].into(),
            sandbox: Level::Landlock,
            ..Offer::default()
        };
        core.fleet(vec![Seen { offer: Arc::new(offer), ..seen(1, true) }], &[], at(0));
        let wants = |labels: &[&str], gpus| Spec {
            demand: Demand { labels: labels.iter().map(|l| l.parse().unwrap()).collect(), gpus, ..Demand::default() },
            ..spec("true")
        };
        assert_eq!(placed_on(&submit(&mut core, 1, wants(&["fast"], 1))), [node(1)]);
        assert_eq!(placed_on(&submit(&mut core, 2, wants(&["!fast"], 0))), [node(0)]);
        // The only one is taken, until it is free again.
        assert_eq!(placed_on(&submit(&mut core, 3, wants(&[], 1))), []);
        assert_eq!(placed_on(&core.moved(Uuid::from_u128(1), 1, term(), done(), at(1))), [node(1)]);
        let refused = core.admit(&wants(&["fast", "room=attic"], 2)).unwrap_err().to_string();
        assert_eq!(
            refused,
            "no node has what this needs: n0 has 0 of 2 GPUs, has no label fast, is not room=attic; n1 has 1 of 2 GPUs, is \
             not room=attic"
        );
    }

    #[test]
    fn a_command_that_must_run_on_a_node_fails_with_it() {
        let mut core = core(&[true, true]);
        let forced = Spec { node: Some(node(1).to_string()), ..spec("true") };
        assert_eq!(placed_on(&submit(&mut core, 1, forced.clone())), [node(1)]);
        core.fleet(vec![seen(0, true), seen(1, false)], &[], at(2));
        let record = core.get(Uuid::from_u128(1)).unwrap();
        assert_eq!((record.state, record.error.as_deref()), (State::Failed, Some("node n1 died")));
        assert_eq!(core.admit(&forced), Err(ScheduleError::NodeDown("n1".into())));
    }

    #[test]
    fn what_no_node_could_ever_run_is_refused() {
        let core = core(&[true]);
        assert!(matches!(core.admit(&Spec { cpus: 3, ..spec("true") }), Err(ScheduleError::Impossible(_))));
        assert!(matches!(
            core.admit(&Spec { memory_bytes: 2 << 30, ..spec("true") }),
            Err(ScheduleError::Impossible(_))
        ));
        assert_eq!(core.admit(&Spec { cpus: 2, ..spec("true") }), Ok(()));
    }

    #[test]
    fn a_node_without_room_is_asked_again_later_and_that_is_no_attempt() {
        let mut core = core(&[true]);
        submit(&mut core, 1, spec("true"));
        let out = core.ran(node(0), Uuid::from_u128(1), (1, term()), Err(Refusal::NoRoom), at(1));
        assert_eq!((placed_on(&out), core.waiting()), (vec![], 1));
        let out = core.tick(at(2));
        assert_eq!(placed_on(&out), [node(0)]);
        assert_eq!(core.get(Uuid::from_u128(1)).unwrap().attempts, 1);
    }

    #[test]
    fn after_a_restart_what_waited_waits_and_what_ran_is_asked_about_for_a_while() {
        let mut before = core(&[true, true]);
        submit(&mut before, 1, Spec { preferred_node: Some(node(1).to_string()), ..spec("true") });
        let record = before.get(Uuid::from_u128(1)).unwrap().clone();
        let mut core = Core::new(node(0), vec![record]);
        assert_eq!(core.tick(at(0)), [], "what others did meanwhile isn't known yet");
        assert_eq!(placed_on(&core.release(at(0))), [node(1)]);
        let unseen = Seen { ever_up: false, ..seen(1, false) };
        core.fleet(vec![seen(0, true), unseen.clone()], &[], at(0));
        core.ran(node(1), Uuid::from_u128(1), (1, term()), Err(Refusal::Silent("down".into())), at(1));
        assert_eq!(placed_on(&core.tick(at(2))), [node(1)], "asked again, same attempt");
        assert_eq!(placed_on(&core.tick(at(16))), [node(0)], "the grace is over");
    }

    fn after(ids: &[u128]) -> Course {
        Course { after: ids.iter().map(|n| Uuid::from_u128(*n)).collect(), ..Course::default() }
    }

    fn ended_well(core: &mut Core, n: u128) -> Vec<Action> {
        let attempt = core.get(Uuid::from_u128(n)).unwrap().attempts;
        core.moved(Uuid::from_u128(n), attempt, term(), done(), at(2))
    }

    pub(super) fn state(core: &Core, n: u128) -> (State, Option<&str>) {
        let record = core.get(Uuid::from_u128(n)).unwrap();
        (record.state, record.error.as_deref())
    }

    #[test]
    fn what_waits_for_others_runs_when_all_have_completed_and_ends_when_one_does_not() {
        let mut core = core(&[true]);
        submit(&mut core, 1, spec("true"));
        submit(&mut core, 2, spec("true"));
        assert_eq!(placed_on(&submit(&mut core, 3, Spec { course: after(&[1, 2]), ..spec("true") })), []);
        submit(&mut core, 4, Spec { course: after(&[3]), ..spec("true") });
        assert_eq!(placed_on(&ended_well(&mut core, 1)), []);
        assert_eq!(placed_on(&ended_well(&mut core, 2)), [node(0)]);
        assert_eq!(
            placed_on(&submit(&mut core, 5, Spec { course: after(&[1, 2]), ..spec("true") })),
            [node(0)],
            "they are over"
        );
        core.moved(Uuid::from_u128(3), 1, term(), failed("status 7".into()), at(2));
        let why = format!("task {}, for which it waited, failed", Uuid::from_u128(3));
        assert_eq!(state(&core, 4), (State::Failed, Some(why.as_str())));
        // Of another owner: who waits hears of it, or that nobody knows it.
        submit(&mut core, 6, Spec { course: after(&[77]), ..spec("true") });
        submit(&mut core, 7, Spec { course: after(&[78]), ..spec("true") });
        assert_eq!(core.awaited_elsewhere().collect::<Vec<_>>(), [Uuid::from_u128(77), Uuid::from_u128(78)]);
        assert_eq!(placed_on(&core.prerequisite(Uuid::from_u128(77), Some(State::Completed), at(3))), [node(0)]);
        core.prerequisite(Uuid::from_u128(78), None, at(3));
        assert!(state(&core, 7).1.unwrap().contains("not known any more"));
    }

    #[test]
    fn a_long_chain_ends_at_once() {
        let mut core = core(&[true]);
        submit(&mut core, 0, spec("true"));
        for n in 1..50_000 {
            submit(&mut core, n, Spec { course: after(&[n - 1]), ..spec("true") });
        }
        core.cancel(Uuid::from_u128(1), at(2)).unwrap();
        assert_eq!((core.waiting(), state(&core, 49_999).0), (0, State::Cancelled));
    }

    #[test]
    fn who_waits_for_others_still_does_after_a_restart() {
        let mut before = core(&[true]);
        submit(&mut before, 1, spec("true"));
        submit(&mut before, 2, Spec { course: after(&[1]), ..spec("true") });
        submit(&mut before, 3, Spec { course: after(&[2]), ..spec("true") });
        ended_well(&mut before, 1);
        let mut records: Vec<Record> = before.records.into_values().collect();
        // It was placed, and that was lost.
        (records[1].state, records[1].attempts, records[1].assigned) = (State::Pending, 0, None);
        let mut core = Core::new(node(0), records);
        core.fleet(vec![seen(0, true)], &[], at(0));
        assert_eq!(placed_on(&core.release(at(0))), [node(0)]);
        assert_eq!((state(&core, 2).0, state(&core, 3).0), (State::Running, State::Pending));
    }

    #[test]
    fn what_fails_is_run_again_after_pauses_as_often_as_it_may() {
        let mut core = core(&[true]);
        let course = Course { retries: 2, ..Course::default() };
        submit(&mut core, 1, Spec { course, ..spec("false") });
        let fails = |core: &mut Core, attempt, s| {
            core.moved(Uuid::from_u128(1), attempt, term(), failed("status 1".into()), at(s))
        };
        fails(&mut core, 1, 10);
        assert_eq!(state(&core, 1), (State::Pending, Some("status 1")));
        assert_eq!(placed_on(&core.tick(at(10))), []);
        assert_eq!(placed_on(&core.tick(at(11))), [node(0)]);
        fails(&mut core, 2, 20);
        assert_eq!(placed_on(&core.tick(at(21))), []);
        assert_eq!(placed_on(&core.tick(at(22))), [node(0)]);
        fails(&mut core, 3, 30);
        assert_eq!(state(&core, 1), (State::Failed, Some("status 1")));
        let record = core.get(Uuid::from_u128(1)).unwrap();
        assert_eq!((record.failures, record.strikes, record.attempts), (2, 0, 3));
    }

    #[test]
    fn a_deadline_ends_what_waits_and_what_runs_with_its_reason() {
        let mut core = core(&[true]);
        let course = || Course { deadline_s: 5, ..Course::default() };
        submit(&mut core, 1, Spec { course: course(), ..spec("sleep 60") });
        submit(&mut core, 2, Spec { course: Course { after: vec![Uuid::from_u128(1)], ..course() }, ..spec("true") });
        assert_eq!(core.tick(at(5)), []);
        let out = core.tick(at(6));
        assert!(out.contains(&Action::Stop(node(0), Uuid::from_u128(1), 1, term())));
        assert!(state(&core, 2).1.unwrap().contains("had not begun by its deadline"));
        core.moved(Uuid::from_u128(1), 1, term(), cancelled(None), at(7));
        assert!(state(&core, 1).1.unwrap().contains("had not ended by its deadline, 5 s"));
        assert_eq!(state(&core, 1).0, State::Failed);
    }

    #[test]
    fn lower_classes_make_way_if_asked_and_run_later_as_if_nothing_had_been() {
        let mut core = core(&[true]);
        let low = || Spec { priority: Priority::Low, cpus: 1, ..spec("sleep 60") };
        submit(&mut core, 1, low());
        submit(&mut core, 2, low());
        let urgent = |preempts| Spec {
            priority: Priority::Urgent,
            cpus: 2,
            course: Course { preempts, ..Course::default() },
            ..spec("true")
        };
        assert_eq!(submit(&mut core, 3, urgent(false)), [], "not if nobody asked for it");
        let out = submit(&mut core, 4, urgent(true));
        assert_eq!(placed_on(&out), [node(0)]);
        assert_eq!(out.iter().filter(|a| matches!(a, Action::Stop(..))).count(), 2);
        assert_eq!(
            [1, 2, 3, 4].map(|n| state(&core, n).0),
            [State::Pending, State::Pending, State::Pending, State::Running]
        );
        assert_eq!(submit(&mut core, 5, urgent(true)), [], "nobody makes way for an equal");
        ended_well(&mut core, 4);
        ended_well(&mut core, 3);
        assert_eq!(placed_on(&ended_well(&mut core, 5)), [node(0), node(0)]);
        assert_eq!(core.get(Uuid::from_u128(1)).map(|r| (r.attempts, r.strikes)), Some((2, 0)));
    }

    #[test]
    fn a_node_that_is_silent_again_a_moment_later_died_once() {
        let mut core = core(&[true]);
        submit(&mut core, 1, spec("true"));
        let silent = |core: &mut Core, s: u64| {
            let record = core.get(Uuid::from_u128(1)).unwrap();
            let (node, attempt) = (record.assigned.unwrap(), record.attempts);
            core.ran(node, record.id, (attempt, term()), Err(Refusal::Silent("the link is down".into())), at(s));
            assert_eq!(placed_on(&core.tick(at(s))), [], "it is left alone for a moment");
            core.tick(at(s + 1));
            core.get(Uuid::from_u128(1)).unwrap().strikes
        };
        assert_eq!([2, 3].map(|s| silent(&mut core, s)), [1, 1]);
        core.tick(at(60));
        assert_eq!(silent(&mut core, 61), 2, "that was another time");
    }

    #[test]
    fn a_third_node_that_dies_under_a_command_is_the_last_and_one_that_is_emptied_is_none() {
        let mut core = core(&[true]);
        submit(&mut core, 1, spec("true"));
        let lost = |core: &mut Core, s| {
            let attempt = core.get(Uuid::from_u128(1)).unwrap().attempts;
            core.moved(Uuid::from_u128(1), attempt, term(), Ending { lost: true, ..failed("it died".into()) }, at(s));
            assert_ne!(state(core, 1).0, State::Running, "whoever has just lost it is left alone for a moment");
            core.tick(at(s + 1));
        };
        let drains =
            |core: &mut Core, draining, s| drop(core.fleet(vec![Seen { draining, ..seen(0, true) }], &[], at(s)));
        for s in [2, 4, 6, 8] {
            drains(&mut core, true, s);
            lost(&mut core, s);
            assert_eq!(state(&core, 1).0, State::Pending);
            drains(&mut core, false, s + 1);
        }
        lost(&mut core, 10);
        lost(&mut core, 11);
        assert_eq!(state(&core, 1).0, State::Running);
        lost(&mut core, 12);
        assert_eq!(
            state(&core, 1),
            (State::Failed, Some("it died, the third under this command: it is not tried again"))
        );
    }

    fn single(n: u128, core: &mut Core) -> Vec<Action> {
        let course = Course { once: true, ..Course::default() };
        submit(core, n, Spec { course, ..spec("true") })
    }

    #[test]
    fn what_never_runs_twice_at_once_waits_for_the_right_to_decide_about_it() {
        let mut core = core(&[true]);
        assert!(single(1, &mut core).is_empty() && core.has_singles());
        assert!(!submit(&mut core, 2, spec("true")).is_empty(), "nobody else waits for that");
        core.lease(Some(7));
        assert_eq!(placed_on(&core.tick(at(2))), [], "that is another epoch's");
        assert_eq!(core.forfeited(7).collect::<Vec<_>>(), [Uuid::from_u128(1)]);
        core.lease(Some(0));
        assert_eq!(placed_on(&core.tick(at(2))), [node(0)]);
        let mut counts = |node, attempt, held| {
            core.lease(held);
            core.counts(Uuid::from_u128(1), attempt, term(), node, at(3))
        };
        assert!(counts(node(0), 1, Some(0)));
        assert!(!counts(node(0), 1, None) && !counts(node(0), 2, Some(0)) && !counts(node(1), 1, Some(0)));
        let out = core.moved(Uuid::from_u128(1), 1, term(), done(), at(4));
        assert!(out.contains(&Action::Ended(Uuid::from_u128(1))) && core.has_singles(), "half must hear of its end");
        let after = Course { after: vec![Uuid::from_u128(1)], ..Course::default() };
        assert_eq!(placed_on(&submit(&mut core, 3, Spec { course: after, ..spec("true") })), [], "nothing follows yet");
        core.confirmed(Uuid::from_u128(1), term(), false, at(5));
        assert!(core.has_singles(), "that was of something before its end");
        let out = core.confirmed(Uuid::from_u128(1), term(), true, at(5));
        assert!(!core.has_singles() && core.get(Uuid::from_u128(1)).unwrap().settled);
        assert_eq!(placed_on(&out).len(), 1, "what waited for it goes on");
    }

    #[test]
    fn what_never_runs_twice_at_once_and_was_taken_over_waits_until_half_knows_whose_it_is() {
        let mut core = core(&[true]);
        core.lease(Some(3));
        let (id, later) = (Uuid::from_u128(1), term().next(node(0)));
        let course = Course { once: true, ..Course::default() };
        let record = core.record(id, Spec { course, ..spec("true") }, at(1));
        assert_eq!(placed_on(&core.adopt(Record { term: later, epoch: 3, ..record }, at(1))), []);
        assert_eq!(placed_on(&core.tick(at(2))), []);
        assert_eq!(core.confirmed(id, term(), false, at(2)), [], "of an earlier term");
        let out = core.confirmed(id, later, false, at(2));
        assert_eq!(placed_on(&out), [node(0)]);
        // Started again, it doesn't know who has what it wrote.
        let mut again = Core::new(node(0), vec![core.get(id).unwrap().clone()]);
        again.lease(Some(3));
        let out = again.release(at(0));
        assert!(matches!(&out[..], [Action::Save(_)]), "{out:?}");
        assert!(!again.counts(id, 1, later, node(0), at(1)));
        again.confirmed(id, later, false, at(1));
        assert!(again.counts(id, 1, later, node(0), at(1)));
    }

    #[test]
    fn what_never_runs_twice_at_once_runs_again_only_when_its_node_must_have_ended_it() {
        let mut core = core(&[true, true]);
        core.lease(Some(0));
        let first = placed_on(&single(1, &mut core))[0];
        let other = [node(0), node(1)].into_iter().find(|node| *node != first).unwrap();
        let fleet = |core: &mut Core, s| {
            let up = |n: u8| node(n) != first;
            core.fleet((0..2).map(|n| seen(n, up(n))).collect(), &[], at(s))
        };
        assert!(core.counts(Uuid::from_u128(1), 1, term(), first, at(10)));
        assert_eq!(placed_on(&fleet(&mut core, 11)), []);
        let ends = 11 + OUTLAST.as_secs();
        core.ran(first, Uuid::from_u128(1), (1, term()), Err(Refusal::Silent("the link is down".into())), at(12));
        assert_eq!(state(&core, 1).0, State::Running, "it may have heard of it all the same");
        assert_eq!(placed_on(&core.tick(at(ends - 1))), [first], "it is asked once more");
        core.lease(None);
        assert_eq!(placed_on(&core.tick(at(ends))), [], "others may decide by now");
        core.lease(Some(0));
        assert_eq!(placed_on(&core.tick(at(ends))), [other]);
        // One that says so itself has ended it.
        core.moved(Uuid::from_u128(1), 2, term(), Ending { lost: true, ..done() }, at(ends));
        core.tick(at(ends + 1));
        assert_eq!(core.get(Uuid::from_u128(1)).unwrap().attempts, 3);
    }

    /// A record of n1's, taken over by n0.
    fn inherited(core: &mut Core, n: u128, assigned: Option<u8>) -> (Record, Vec<Action>) {
        let mut other = Core::new(node(1), Vec::new());
        other.release(at(0));
        let mut record = other.record(Uuid::from_u128(n), spec("true"), at(1));
        if let Some(assigned) = assigned {
            (record.assigned, record.attempts, record.state) = (Some(node(assigned)), 1, State::Running);
        }
        (record.owner, record.term) = (node(0), record.term.next(node(0)));
        let out = core.adopt(record.clone(), at(2));
        (record, out)
    }

    #[test]
    fn an_heir_places_what_waited_asks_about_what_ran_and_runs_again_what_died() {
        let mut core = core(&[true, false, true]);
        let (record, out) = inherited(&mut core, 1, None);
        assert_eq!(out[0], Action::Save(Box::new(record)), "the takeover comes first");
        assert_eq!(placed_on(&out).len(), 1);
        let (record, out) = inherited(&mut core, 2, Some(2));
        assert_eq!(out, [Action::Save(Box::new(record.clone())), Action::Run(node(2), Box::new(run(&record)))]);
        let (_, out) = inherited(&mut core, 3, Some(1));
        assert_eq!(core.get(Uuid::from_u128(3)).unwrap().attempts, 2);
        assert!(!placed_on(&out).contains(&node(1)));
    }

    #[test]
    fn an_heir_learns_of_later_attempts_from_the_node_that_made_them() {
        let mut core = core(&[true, false, true]);
        let (record, _) = inherited(&mut core, 1, Some(2));
        let out = core.ran(node(2), record.id, (1, record.term), Err(Refusal::Further(3)), at(3));
        let record = core.get(record.id).unwrap().clone();
        assert_eq!(record.attempts, 3);
        assert_eq!(out, [Action::Save(Box::new(record.clone())), Action::Run(node(2), Box::new(run(&record)))]);
        assert_eq!(core.moved(record.id, 1, record.term, done(), at(4)), []);
        core.moved(record.id, 3, record.term, done(), at(4));
        assert_eq!(state(&core, 1).0, State::Completed);
    }

    #[test]
    fn what_another_took_over_is_forgotten_and_whoever_waits_is_told() {
        let mut core = core(&[true]);
        submit(&mut core, 1, spec("true"));
        let id = Uuid::from_u128(1);
        let out = core.ran(node(0), id, (1, core.get(id).unwrap().term), Err(Refusal::TakenOver), at(2));
        assert_eq!(out, [Action::Disowned(id)]);
        assert_eq!(core.get(id), None);
        assert_eq!(core.disown(id), []);
        assert_eq!(core.moved(id, 1, term(), done(), at(3)), [], "that is the other's to hear");
    }

    #[test]
    fn what_waits_is_bounded_in_number_and_in_bytes() {
        let mut core = Core::new(node(0), Vec::new());
        for n in 0..QUEUE_TASKS_MAX as u128 {
            core.enter(core.record(Uuid::from_u128(n), spec("x"), at(1)));
        }
        assert_eq!(core.admit(&spec("x")), Err(ScheduleError::QueueFull(QUEUE_TASKS_MAX)));
        let mut core = Core::new(node(0), Vec::new());
        core.fleet(vec![seen(0, true)], &[], at(0));
        let half = || spec(&"x".repeat(QUEUE_BYTES_MAX / 2));
        core.enter(core.record(Uuid::from_u128(1), half(), at(1)));
        let after = Course { after: vec![Uuid::from_u128(1)], ..Course::default() };
        assert_eq!(core.admit(&Spec { course: after.clone(), ..spec("x") }), Ok(()));
        core.enter(core.record(Uuid::from_u128(2), Spec { course: after, ..half() }, at(1)));
        assert_eq!(core.admit(&spec("x")), Err(ScheduleError::QueueFull(2)), "who stands aside counts too");
    }

    #[test]
    fn the_oldest_ended_records_go() {
        let mut core = core(&[true]);
        for n in 0..ENDED_RECORDS_MAX as u128 + 1 {
            submit(&mut core, n, spec("true"));
            let out = core.moved(Uuid::from_u128(n), 1, term(), done(), at(2));
            assert_eq!(out.contains(&Action::Delete(Uuid::from_u128(0), term())), n == ENDED_RECORDS_MAX as u128);
        }
    }

    #[test]
    fn an_end_that_is_not_confirmed_stays_until_it_is() {
        let mut core = core(&[true]);
        core.lease(Some(0));
        single(0, &mut core);
        core.moved(Uuid::from_u128(0), 1, term(), done(), at(2));
        for n in 1..=ENDED_RECORDS_MAX as u128 {
            submit(&mut core, n, spec("true"));
            let out = core.moved(Uuid::from_u128(n), 1, term(), done(), at(2));
            assert!(!out.contains(&Action::Delete(Uuid::from_u128(0), term())));
        }
        assert_eq!(core.get(Uuid::from_u128(1)), None, "the next one goes in its place");
        assert!(core.get(Uuid::from_u128(0)).is_some());
    }

    #[test]
    fn a_late_order_never_meets_another_attempt_of_its_number_if_only_one_may_run() {
        let mut core = core(&[true, true]);
        core.lease(Some(0));
        let first = placed_on(&single(1, &mut core))[0];
        core.ran(first, Uuid::from_u128(1), (1, term()), Err(Refusal::NoRoom), at(1));
        assert_eq!(core.get(Uuid::from_u128(1)).unwrap().attempts, 2);
    }

    #[derive(Debug, Clone)]
    enum Event {
        Submit(u8, Option<u8>, u16),
        /// After how many of the last ones, how many retries, whether others make way, seconds to its deadline.
        Course(u8, u8, u8, bool, u64),
        Members(Vec<bool>),
        Ran(u8, u8),
        Moved(u8, u8),
        Cancel(u8),
        Tick,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            3 => (0u8..5, prop::option::weighted(0.2, 0u8..3), 0u16..3).prop_map(|(p, n, c)| Event::Submit(p, n, c)),
            2 => (0u8..5, 0u8..3, 0u8..3, any::<bool>(), 0u64..20).prop_map(|(p, a, r, m, d)| Event::Course(p, a, r, m, d)),
            2 => prop::collection::vec(any::<bool>(), 3).prop_map(Event::Members),
            3 => (any::<u8>(), 0u8..5).prop_map(|(i, o)| Event::Ran(i, o)),
            3 => (any::<u8>(), 0u8..3).prop_map(|(i, how)| Event::Moved(i, how)),
            1 => any::<u8>().prop_map(Event::Cancel),
            1 => Just(Event::Tick),
        ]
    }

    proptest! {
        /// Whatever happens: what is saved is what is held (but for when a command was begun), nothing is given to a node that is down, every record is
        /// queued, running or ended and never two of them, an ended one never changes, cores are never promised twice.
        #[test]
        fn records_move_only_forward_and_are_in_one_place(events in prop::collection::vec(event(), 1..80)) {
            let mut core = core(&[true, true, true]);
            let mut saved: BTreeMap<Uuid, Record> = BTreeMap::new();
            for (n, event) in events.into_iter().enumerate() {
                let now = at(n as u64);
                let ticks = matches!(event, Event::Tick | Event::Members(_));
                let ids: Vec<Uuid> = core.records.keys().copied().collect();
                let pick = |i: u8| ids.get(i as usize % ids.len().max(1)).copied().unwrap_or_default();
                let attempt = |core: &Core, id| core.get(id).map_or(0, |r| r.attempts);
                let out = match event {
                    Event::Submit(..) | Event::Course(..) => {
                        let spec = match event {
                            Event::Submit(priority, forced, cpus) => {
                                Spec { node: forced.map(|n| node(n).to_string()), cpus, priority: CLASSES[priority as usize], ..spec("x") }
                            }
                            Event::Course(priority, after, retries, preempts, deadline_s) => {
                                let after = ids.iter().rev().take(after.into()).copied().collect();
                                let course = Course { after, retries, preempts, deadline_s, ..Course::default() };
                                let wish = Wish { apart: (retries == 2).then(|| "g".into()), ..Wish::default() };
                                Spec { course, wish, priority: CLASSES[priority as usize], cpus: u16::from(retries), ..spec("x") }
                            }
                            _ => unreachable!("one of these two"),
                        };
                        match core.admit(&spec) {
                            Ok(()) => {
                                let record = core.record(Uuid::from_u128(n as u128 + 1), spec, now);
                                saved.insert(record.id, record.clone());
                                core.submit(record, now)
                            }
                            Err(_) => Vec::new(),
                        }
                    }
                    Event::Members(up) => core.fleet(up.iter().enumerate().map(|(n, up)| seen(n as u8, *up)).collect(), &[], now),
                    Event::Ran(i, outcome) => {
                        let id = pick(i);
                        let outcome = [Ok(Level::Landlock), Err(Refusal::NoRoom), Err(Refusal::Silent("s".into())), Err(Refusal::Never("n".into())), Err(Refusal::Further(attempt(&core, id) + 1))][outcome as usize].clone();
                        match core.running.node(&id) {
                            Some(node) => core.ran(node, id, (attempt(&core, id), core.get(id).unwrap().term), outcome, now),
                            None => Vec::new(),
                        }
                    }
                    Event::Moved(i, how) => {
                        let id = pick(i);
                        let ending = [done(), Ending { lost: true, ..done() }, failed("it said so".into())][how as usize].clone();
                        core.moved(id, attempt(&core, id), core.get(id).map_or(term(), |r| r.term), ending, now)
                    }
                    Event::Cancel(i) => core.cancel(pick(i), now).unwrap_or_default(),
                    Event::Tick => core.tick(now),
                };
                for action in out {
                    match action {
                        Action::Save(record) => {
                            if let Some(before) = saved.get(&record.id) {
                                prop_assert!(before.finished_ms.is_none(), "an ended record changed");
                            }
                            saved.insert(record.id, *record);
                        }
                        Action::Run(node, run) => {
                            prop_assert!(core.is_up(node) || core.get(run.id).unwrap().attempts == run.attempt);
                            prop_assert!(saved[&run.id].attempts >= run.attempt, "run before it was saved");
                        }
                        _ => {}
                    }
                }
                // That one was begun is saved at the next tick, or with what else happens to it.
                let but_begun = |records: &BTreeMap<Uuid, Record>| {
                    let mut records = records.clone();
                    for id in &core.begun {
                        records.entry(*id).and_modify(|record| (record.started_ms, record.sandbox) = (None, None));
                    }
                    records
                };
                prop_assert_eq!(but_begun(&saved), but_begun(&core.records));
                let queued: BTreeSet<Uuid> = CLASSES.iter().flat_map(|class| core.queue.of(*class)).collect();
                for (id, record) in &core.records {
                    let aside = core.aside.all().any(|other| other == *id);
                    let places = [queued.contains(id), aside, core.running.node(id).is_some(), core.ended.contains(id)];
                    prop_assert_eq!(places.iter().filter(|p| **p).count(), 1);
                    prop_assert_eq!(record.state, match places { [true, ..] | [_, true, ..] => State::Pending, [_, _, true, _] => State::Running, _ => record.state });
                    let late = record.due_ms().is_some_and(|by| by <= now.wall_ms) && ticks;
                    prop_assert!(!late || record.state.ended() || record.overdue, "past its deadline");
                    if record.state == State::Running {
                        let completed = |id: &Uuid| core.get(*id).is_none_or(|r| r.state == State::Completed);
                        prop_assert!(record.spec.course.after.iter().all(completed), "run before what it waits for");
                        let group = core.records.values().filter(|r| r.state == State::Running && r.spec.wish.apart.is_some());
                        let on: Vec<_> = group.map(|r| r.assigned).collect();
                        prop_assert_eq!(on.iter().collect::<BTreeSet<_>>().len(), on.len(), "two of a group on one node");
                    }
                }
                for candidate in core.candidates(now).values() {
                    prop_assert!(candidate.taken.cpus <= 2);
                }
            }
        }
    }
}
