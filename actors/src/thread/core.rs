//! What one node decides about threads: which it owns, which turns begin where, what their ends mean.
//!
//! No clock, disk, task or link: events come in with the time, [`Action`]s go out. What has to be written is told by
//! [`Core::unsaved`].
//!
//! ```text
//! Waiting -> tick: its agent is ready, it has no other turn in the thread -> Running at a node, attempt 1
//! Running -> moved: a step | the end -> Completed | Failed
//! Running -> its node is gone, or doesn't know the run -> Waiting, with its steps -> Running elsewhere, attempt 2 -> ...
//! killed  -> Cancelled
//! ```

use super::{
    messages::{
        Activity, Feedback, NewThread, Origin, Page, Role, Said, State, Status, Thread, ThreadError, Turn, Wanted,
    },
    records::{SAID, answer_id},
    start::START_TIMEOUT,
};
use crate::{
    agent::{self, Goal, Run, RunState, Step},
    budget::{Amount, Severity},
    ledger::VALUE_BYTES_MAX,
    ownership::{Presence, Term, Wards},
};
use skep_runtime::{Load, NodeId};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use uuid::Uuid;

/// How often a turn is begun before it counts as failed.
const ATTEMPTS_MAX: u32 = 3;
/// How long a node may be away before its turns are begun elsewhere: longer than a link takes to be made anew.
const GONE: Duration = Duration::from_secs(2);
/// How long nothing may be heard of a turn before its node is asked: its run says at each step how it goes.
const SILENT: Duration = Duration::from_secs(5);
/// Messages of one thread, at about 250 bytes of every member's memory each and a few hundred of its disk.
pub(super) const SAID_MAX: u64 = 2000;
/// Threads of a swarm, at about 700 bytes of every member's memory. Beyond that the oldest that are over are forgotten.
pub(super) const THREADS_MAX: usize = 20_000;
/// Steps of a turn that are kept, the first ones, at up to 4.3 KiB each: its record has to fit the ledger's bound.
const STEPS_MAX: usize = 48;
/// Goals that begin where they are given: half of what one node has places for. More of them are spread.
const HOME_MAX: u32 = 32;
/// Bytes of a step's arguments and of its result, each: what a run keeps of them, and its note of what it left out.
const STEP_BYTES_MAX: usize = (2 << 10) + 64;
/// Bytes of the reason why a turn failed, with the note of what was left out of it.
const ERROR_BYTES_MAX: usize = (1 << 10) + 64;
/// Bytes of a name in a record: an agent's, a tool's or a model's.
const NAME_BYTES_MAX: usize = 256;
/// Bytes of an answer, as its run keeps it, with the run's note of what it left out.
const ANSWER_BYTES_MAX: usize = (64 << 10) + 64;
/// Bytes of the same as a payload, where a character may take six: half of what a record holds, a quarter of a page.
const PAYLOAD_BYTES_MAX: usize = 128 << 10;
/// How long turns wait for an agent that is defined no more: a definition that left it out by mistake is mended by then.
const MISSING: Duration = Duration::from_secs(10 * 60);
/// How long a turn waits that no node had a place for.
const CROWDED: Duration = Duration::from_secs(1);
/// How long a turn waits that a node could not begin: others that have its documents may be on their way back.
const RETRY_PAUSE: Duration = Duration::from_secs(15);
/// Agents that are listed as taking part in a thread: more speak in none.
const PARTICIPANTS_MAX: usize = 64;
/// Messages over all threads of which the newest are listed.
pub(super) const RECENT_MAX: usize = 10_000;

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    /// Have this turn worked on at the node that it names.
    Start(Uuid),
    /// Ask a turn's node how its run is.
    Look(Uuid, Uuid, NodeId),
    /// End a run.
    Cancel(Uuid, NodeId),
    /// The thread is this node's now: keep its budget.
    Inherit(Uuid),
    /// The thread is this other node's now: what is spent here of its budget comes from there.
    Follow(Uuid, NodeId),
}

/// Whether an agent may begin a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ready {
    /// So many at once.
    Yes(u32),
    /// Not now.
    Paused,
    /// There is none of that name any more.
    Gone,
}

/// What a core sees of the world.
pub(super) struct Look<'a> {
    pub(super) now_ms: u64,
    pub(super) uptime: Duration,
    pub(super) peers: &'a [Presence],
    /// Who is up, with what it has to do.
    pub(super) places: &'a [(NodeId, Load)],
    pub(super) ready: &'a dyn Fn(&str) -> Ready,
    pub(super) fresh: &'a dyn Fn() -> Uuid,
}

struct Entry {
    thread: Thread,
    /// Turns that have not ended.
    open: BTreeSet<Uuid>,
    /// It was taken over when this much of it was charged, and its budget is not kept here yet: nothing begins in it.
    inheriting: Option<Amount>,
}

/// Who works, as a look at it begins.
#[derive(Default)]
struct Busy {
    /// Whether an agent may begin a turn, and how many of this node's threads it works on.
    agents: BTreeMap<String, (Ready, u32)>,
    /// Threads of this node, and who works on them.
    threads: BTreeSet<(Uuid, String)>,
    /// Turns that run on each node.
    nodes: BTreeMap<NodeId, u32>,
}

/// The threads of a swarm, as one node knows them.
pub(super) struct Core {
    me: NodeId,
    threads: BTreeMap<Uuid, Entry>,
    /// Turns that have not ended, and those whose end is not written yet.
    turns: BTreeMap<Uuid, Turn>,
    wards: Wards,
    unsaved: (BTreeSet<Uuid>, BTreeSet<Uuid>),
    /// Answers that are not written yet, by turn: each is written together with its turn's end.
    answers: BTreeMap<Uuid, Said>,
    /// The messages of each thread, and their numbers.
    said: BTreeMap<Uuid, BTreeMap<Uuid, u64>>,
    /// The newest messages: when, thread, id, from, to.
    recent: BTreeMap<(u64, Uuid, Uuid), (String, String)>,
    /// Nothing is done before it is known what others did while this node was away.
    held: bool,
    /// Since when a node is not up.
    away: BTreeMap<NodeId, Duration>,
    /// When a turn's run was last heard of.
    heard: BTreeMap<Uuid, Duration>,
    /// Turns that may not begin yet, and until when: no node had a place for them, or, for as long as it takes, their message
    /// is not acknowledged.
    crowded: BTreeMap<Uuid, Duration>,
    /// Turns of agents that others ask, and how many wait here for the answer.
    waiters: BTreeMap<Uuid, u32>,
    /// Runs of turns that were given up, to be ended.
    given_up: Vec<Action>,
    /// Agents whose last turn failed.
    failed: BTreeSet<String>,
    /// Agents that turns wait for and that are defined no more, and since when that is known.
    missing: BTreeMap<String, Duration>,
}

impl Core {
    pub(super) fn new(me: NodeId) -> Core {
        Core {
            me,
            threads: BTreeMap::new(),
            turns: BTreeMap::new(),
            wards: Wards::default(),
            unsaved: (BTreeSet::new(), BTreeSet::new()),
            answers: BTreeMap::new(),
            said: BTreeMap::new(),
            recent: BTreeMap::new(),
            held: true,
            away: BTreeMap::new(),
            heard: BTreeMap::new(),
            crowded: BTreeMap::new(),
            waiters: BTreeMap::new(),
            given_up: Vec::new(),
            failed: BTreeSet::new(),
            missing: BTreeMap::new(),
        }
    }

    /// What others did meanwhile is known: from now on this node acts on what it owns.
    pub(super) fn release(&mut self) {
        self.held = false;
    }

    /// What the ledger says of a thread now. What this node decided counts for more, unless another has taken it over.
    pub(super) fn learn_thread(&mut self, id: Uuid, heard: Option<Thread>) -> Option<Action> {
        let Some(mut heard) = heard.filter(|heard| heard.id == id) else {
            self.drop_thread(id);
            return None;
        };
        let known = self.threads.get(&id).map(|entry| &entry.thread);
        let mine = known.is_some_and(|known| known.owner == self.me);
        if mine && known.is_some_and(|known| heard.term <= known.term) {
            return None;
        }
        heard.last = heard.last.max(known.map_or(0, |known| known.last));
        let moved = known.is_none_or(|known| known.owner != heard.owner) && heard.owner != self.me;
        let owner = heard.owner;
        let open = self.turns.values().filter(|turn| turn.thread == id && !turn.state.ended()).map(|turn| turn.id);
        self.threads.insert(id, Entry { open: open.collect(), thread: heard, inheriting: None });
        self.note(id);
        moved.then_some(Action::Follow(id, owner))
    }

    /// The same of a turn.
    pub(super) fn learn_turn(&mut self, id: Uuid, heard: Option<Turn>) {
        let owned = |core: &Core, thread: &Uuid| core.threads.get(thread).is_some_and(|e| e.thread.owner == core.me);
        let known = self.turns.get(&id).map(|turn| turn.thread);
        if known.is_some_and(|thread| owned(self, &thread)) {
            return;
        }
        let before = self.turns.remove(&id);
        let Some(thread) = heard.as_ref().map(|turn| turn.thread).or(before.map(|turn| turn.thread)) else { return };
        let open = heard.as_ref().is_some_and(|turn| !turn.state.ended());
        if let Some(turn) = heard {
            self.judge(&turn);
            if open {
                self.turns.insert(id, turn);
            }
        }
        if let Some(entry) = self.threads.get_mut(&thread) {
            if open {
                entry.open.insert(id)
            } else {
                entry.open.remove(&id)
            };
        }
        self.note(thread);
    }

    /// A message that is on the disk.
    pub(super) fn learn_said(&mut self, said: &Said) {
        let at = (said.created_ms, said.thread, said.id);
        let known = self.said.entry(said.thread).or_default().insert(said.id, said.number);
        if known.is_some() && !self.recent.contains_key(&at) {
            // Two halves of a swarm answered the same turn: this is the answer that counts.
            self.recent.retain(|(.., id), _| *id != said.id);
        }
        self.recent.insert(at, (said.from.clone(), said.to.clone()));
        if self.recent.len() > RECENT_MAX {
            self.recent.pop_first();
        }
        if let Some(entry) = self.threads.get_mut(&said.thread) {
            entry.thread.last = entry.thread.last.max(said.number);
        }
    }

    /// A message is gone: nobody was promised it.
    pub(super) fn forget_said(&mut self, thread: Uuid, message: Uuid) {
        let known = self.said.get_mut(&thread).and_then(|said| said.remove(&message));
        if known.is_some() {
            self.recent.retain(|(.., id), _| *id != message);
        }
    }

    /// The messages of a thread in their order: numbers and ids.
    pub(super) fn said(&self, thread: Uuid) -> Vec<(u64, Uuid)> {
        let said = self.said.get(&thread).into_iter().flatten();
        let mut said: Vec<(u64, Uuid)> = said.map(|(id, number)| (*number, *id)).collect();
        said.sort_unstable();
        said
    }

    /// Whose a thread is, for whoever takes over.
    fn note(&mut self, id: Uuid) {
        let theirs = self.threads.get(&id).filter(|entry| entry.thread.owner != self.me);
        // One in which nothing is to be answered waits for its owner; who is told something in it takes it over at once.
        let theirs = theirs.filter(|entry| !entry.open.is_empty()).map(|entry| (entry.thread.owner, false));
        self.wards.note(id, theirs);
    }

    fn drop_thread(&mut self, id: Uuid) {
        self.threads.remove(&id);
        self.wards.note(id, None);
        self.turns.retain(|_, turn| turn.thread != id);
        self.answers.retain(|_, said| said.thread != id);
        self.said.remove(&id);
        self.recent.retain(|(_, thread, _), _| *thread != id);
        self.unsaved.0.remove(&id);
    }

    /// A thread, if it is known.
    pub(super) fn thread(&self, id: Uuid) -> Result<&Thread, ThreadError> {
        self.threads.get(&id).map(|entry| &entry.thread).ok_or(ThreadError::NoSuchThread(id))
    }

    /// A turn that has not ended.
    pub(super) fn turn(&self, id: Uuid) -> Option<&Turn> {
        self.turns.get(&id)
    }

    /// A thread that begins here.
    ///
    /// So much of its budget is charged from the beginning.
    pub(super) fn open(
        &mut self,
        id: Uuid,
        new: NewThread,
        (budget, charged): (u64, Amount),
        now_ms: u64,
    ) -> Result<Thread, ThreadError> {
        if self.threads.len() >= THREADS_MAX {
            return Err(ThreadError::Full(format!("{THREADS_MAX} threads are kept, and none of them is over")));
        }
        let thread = Thread {
            id,
            agent: new.agent,
            origin: new.origin,
            title: new.title,
            model: new.model,
            owner: self.me,
            term: Term::first(now_ms, self.me),
            status: Status::Active,
            participants: Vec::new(),
            last: 0,
            turns: 0,
            error: None,
            budget,
            budget_cost: new.budget_cost,
            charged,
            warned: None,
            prompt: 0,
            completion: 0,
            cost: 0,
            created_ms: now_ms,
            updated_ms: now_ms,
        };
        self.threads.insert(id, Entry { thread: thread.clone(), open: BTreeSet::new(), inheriting: None });
        self.unsaved.0.insert(id);
        Ok(thread)
    }

    /// The oldest thread that is over, if there are as many as may be. One of this node's, or of one that left the swarm: of
    /// others' it doesn't know yet what is said in them. And one in which something was said: another was only just begun.
    pub(super) fn to_forget(&self, left: impl Fn(NodeId) -> bool) -> Option<Uuid> {
        if self.threads.len() < THREADS_MAX {
            return None;
        }
        let free = |owner: NodeId| owner == self.me || left(owner);
        let over = |Entry { thread, open, .. }: &&Entry| free(thread.owner) && thread.last > 0 && open.is_empty();
        let over = self.threads.values().filter(over);
        over.min_by_key(|entry| (entry.thread.updated_ms, entry.thread.id)).map(|entry| entry.thread.id)
    }

    /// Writes something down in a thread of this node's.
    pub(super) fn say(&mut self, id: Uuid, mut said: Said) -> Result<Said, ThreadError> {
        let entry = self.threads.get_mut(&id).ok_or(ThreadError::NoSuchThread(id))?;
        let thread = &mut entry.thread;
        if thread.status == Status::Killed {
            return Err(ThreadError::Killed(id));
        }
        // What is answered was taken: its answer is, too.
        if thread.last >= SAID_MAX && said.turn.is_none_or(|_| said.role == Role::User) {
            return Err(ThreadError::Full(format!("thread {id} has {SAID_MAX} messages: start a new one")));
        }
        thread.last += 1;
        thread.updated_ms = thread.updated_ms.max(said.created_ms);
        said.number = thread.last;
        for name in [&said.from, &said.to] {
            if !thread.participants.contains(name) && thread.participants.len() < PARTICIPANTS_MAX {
                thread.participants.push(name.clone());
            }
        }
        self.unsaved.0.insert(id);
        Ok(said)
    }

    /// Something is said that is to be answered; `only_idle`: if all turns of the thread have ended.
    pub(super) fn post(&mut self, said: Said, mut turn: Turn, only_idle: bool) -> Result<(Said, Turn), ThreadError> {
        if only_idle && self.threads.get(&said.thread).is_some_and(|entry| !entry.open.is_empty()) {
            return Err(ThreadError::Busy(said.thread));
        }
        let said = self.say(said.thread, said)?;
        turn.number = said.number;
        if let Some(entry) = self.threads.get_mut(&said.thread) {
            entry.open.insert(turn.id);
            entry.thread.turns += 1;
            entry.thread.status = Status::Active;
        }
        self.turns.insert(turn.id, turn.clone());
        self.unsaved.1.insert(turn.id);
        // Whoever is told that nothing was taken must not find it answered.
        self.crowded.insert(turn.id, Duration::MAX);
        Ok((said, turn))
    }

    /// A turn's message is acknowledged: it may begin.
    pub(super) fn confirmed(&mut self, turn: Uuid) {
        self.crowded.remove(&turn);
    }

    /// What was said could not be written: nobody was promised it.
    pub(super) fn retract(&mut self, thread: Uuid, turn: Option<Uuid>) {
        if let Some(turn) = turn {
            self.turns.remove(&turn);
            self.unsaved.1.remove(&turn);
            self.crowded.remove(&turn);
        }
        if let Some(entry) = self.threads.get_mut(&thread) {
            if let Some(turn) = turn {
                entry.open.remove(&turn);
                entry.thread.turns = entry.thread.turns.saturating_sub(1);
            }
            self.settle(thread);
        }
    }

    /// Time has passed: takes over what is due for that, and begins what can begin.
    pub(super) fn tick(&mut self, look: &Look) -> Vec<Action> {
        if self.held {
            return Vec::new();
        }
        let mut out = Vec::new();
        for (id, _) in self.wards.due(self.me, look.peers.iter().copied(), look.uptime) {
            out.extend(self.adopt(id));
        }
        let up = |node: NodeId| node == self.me || look.places.iter().any(|(id, _)| *id == node);
        let away: BTreeSet<NodeId> =
            self.turns.values().filter_map(|turn| turn.node).filter(|node| !up(*node)).collect();
        self.away.retain(|node, _| away.contains(node));
        for node in away {
            self.away.entry(node).or_insert(look.uptime);
        }
        let mine: Vec<Uuid> = self
            .turns
            .values()
            .filter(|turn| self.owns(turn.thread) && !turn.state.ended())
            .map(|turn| turn.id)
            .collect();
        for id in &mine {
            self.watch(*id, look, &mut out);
        }
        let mut waiting: Vec<(u64, u64, Uuid)> = mine
            .iter()
            .filter_map(|id| self.turns.get(id))
            .filter(|turn| turn.state == State::Waiting)
            .map(|turn| (turn.created_ms, turn.number, turn.id))
            .collect();
        if waiting.is_empty() {
            return out;
        }
        waiting.sort_unstable();
        let mut busy = self.busy_with(look);
        for (_, _, id) in waiting {
            self.begin(id, look, &mut busy, &mut out);
        }
        out
    }

    /// Who works now. Each agent is asked for once, however many turns wait for it.
    fn busy_with(&mut self, look: &Look) -> Busy {
        let mut busy = Busy::default();
        for turn in self.turns.values().filter(|turn| !turn.state.ended()) {
            if turn.state == State::Running {
                turn.node.into_iter().for_each(|node| *busy.nodes.entry(node).or_default() += 1);
            }
            if !self.owns(turn.thread) {
                continue;
            }
            let agent = busy.agents.entry(turn.agent.clone());
            let (_, running) = agent.or_insert_with(|| ((look.ready)(&turn.agent), 0));
            if turn.state == State::Running {
                *running += 1;
                busy.threads.insert((turn.thread, turn.agent.clone()));
            }
        }
        self.missing.retain(|name, _| busy.agents.get(name).is_some_and(|(ready, _)| *ready == Ready::Gone));
        for (name, (ready, _)) in busy.agents.iter_mut().filter(|(_, (ready, _))| *ready == Ready::Gone) {
            let since = *self.missing.entry(name.clone()).or_insert(look.uptime);
            if look.uptime.saturating_sub(since) < MISSING {
                *ready = Ready::Paused;
            }
        }
        busy
    }

    pub(super) fn owns(&self, thread: Uuid) -> bool {
        self.threads.get(&thread).is_some_and(|entry| entry.thread.owner == self.me)
    }

    /// This node decides about a thread from now on. Its turns that run elsewhere go on.
    pub(super) fn adopt(&mut self, id: Uuid) -> Option<Action> {
        let me = self.me;
        let entry = self.threads.get_mut(&id)?;
        if entry.thread.owner == me {
            return None;
        }
        tracing::info!(thread = %id, from = ?entry.thread.owner, "this node takes a thread over");
        entry.thread.owner = me;
        entry.thread.term = entry.thread.term.next(me);
        entry.inheriting = Some(entry.thread.charged);
        let open = entry.open.clone();
        self.unsaved.0.insert(id);
        self.unsaved.1.extend(open);
        self.wards.note(id, None);
        Some(Action::Inherit(id))
    }

    /// What another member that is up knows of a thread that this node has taken over. It may have heard the last words of who
    /// kept it before, and this one not.
    pub(super) fn witnessed(&mut self, known: &Thread) {
        let Some(entry) = self.threads.get_mut(&known.id).filter(|entry| entry.inheriting.is_some()) else { return };
        if let Some(charged) = &mut entry.inheriting {
            *charged = charged.most(known.charged);
        }
        let thread = &mut entry.thread;
        thread.charged = thread.charged.most(known.charged);
        (thread.prompt, thread.completion) = (thread.prompt.max(known.prompt), thread.completion.max(known.completion));
        (thread.cost, thread.warned) = (thread.cost.max(known.cost), thread.warned.max(known.warned));
        if known.status == Status::Killed {
            thread.status = Status::Killed;
        }
        self.unsaved.0.insert(known.id);
    }

    /// The same of a turn: its end counts, whoever told it.
    pub(super) fn witnessed_turn(&mut self, known: &Turn) {
        let inheriting = self.threads.get(&known.thread).is_some_and(|entry| entry.inheriting.is_some());
        let open = self.turns.get(&known.id).is_some_and(|turn| !turn.state.ended());
        if inheriting && open && known.state.ended() {
            self.turns.insert(known.id, known.clone());
            self.unsaved.1.insert(known.id);
            if let Some(entry) = self.threads.get_mut(&known.thread) {
                entry.open.remove(&known.id);
            }
            self.settle(known.thread);
        }
    }

    /// What was charged of a thread when this node took it over, or is now.
    pub(super) fn spent_before(&self, id: Uuid) -> Result<Amount, ThreadError> {
        let entry = self.threads.get(&id).ok_or(ThreadError::NoSuchThread(id))?;
        Ok(entry.inheriting.unwrap_or(entry.thread.charged))
    }

    /// The budget of a thread that was taken over is kept here from now on.
    pub(super) fn inherited(&mut self, id: Uuid) {
        if let Some(entry) = self.threads.get_mut(&id) {
            entry.inheriting = None;
        }
    }

    /// Another node has taken a thread over, in a later term: this one lets go of it until it hears who did.
    pub(super) fn fenced(&mut self, id: Uuid) {
        self.unsaved.0.remove(&id);
        if let Some(entry) = self.threads.get_mut(&id) {
            // Below every term: whatever is heard counts.
            entry.thread.term = Term(0);
            let open = entry.open.clone();
            self.unsaved.1.retain(|turn| !open.contains(turn));
        }
        self.answers.retain(|_, said| said.thread != id);
    }

    /// A turn that runs: whether its run is still there.
    fn watch(&mut self, id: Uuid, look: &Look, out: &mut Vec<Action>) {
        let Some(Turn { state: State::Running, node: Some(node), run, .. }) = self.turns.get(&id) else { return };
        let (node, run) = (*node, *run);
        if let Some(since) = self.away.get(&node) {
            if look.uptime.saturating_sub(*since) >= GONE {
                // It may only be away: its run would go on, and tell nobody.
                out.push(Action::Cancel(run, node));
                self.lost(id, &format!("node {} went down", node.short()), look.now_ms);
            }
            return;
        }
        let heard = self.heard.entry(id).or_insert(look.uptime);
        if look.uptime.saturating_sub(*heard) >= SILENT {
            *heard = look.uptime;
            out.push(Action::Look(id, run, node));
        }
    }

    /// A turn that waits: whether it can begin, and where.
    fn begin(&mut self, id: Uuid, look: &Look, busy: &mut Busy, out: &mut Vec<Action>) {
        let Some(turn) = self.turns.get(&id) else { return };
        let held = self.crowded.get(&id).is_some_and(|until| *until > look.uptime);
        if held || self.threads.get(&turn.thread).is_some_and(|entry| entry.inheriting.is_some()) {
            return;
        }
        self.crowded.remove(&id);
        let (thread, agent) = (turn.thread, turn.agent.clone());
        let Some((ready, running)) = busy.agents.get_mut(&agent) else { return };
        match *ready {
            Ready::Yes(most) if *running < most && busy.threads.insert((thread, agent.clone())) => *running += 1,
            Ready::Gone => {
                return self.end(id, State::Failed, Some(format!("there is no agent {agent} any more")), look.now_ms);
            }
            Ready::Yes(_) | Ready::Paused => return,
        }
        let node = self.place(turn, look, &busy.nodes);
        *busy.nodes.entry(node).or_default() += 1;
        let Some(turn) = self.turns.get_mut(&id) else { return };
        turn.state = State::Running;
        turn.attempt += 1;
        turn.node = Some(node);
        turn.run = (look.fresh)();
        turn.started_ms.get_or_insert(look.now_ms);
        // Its node says that it has begun, or that it has not: until then it isn't asked.
        self.heard.insert(id, look.uptime + START_TIMEOUT);
        self.unsaved.1.insert(id);
        out.push(Action::Start(id));
    }

    /// Where fewest turns run, then where least is to do; not where it was lost, if there is another. A goal begins on the
    /// node that it names, or else here, if there is room: its sub-agents go to others.
    fn place(&self, turn: &Turn, look: &Look, runs: &BTreeMap<NodeId, u32>) -> NodeId {
        let lost = turn.node.filter(|_| turn.attempt > 0);
        let goal = turn.goal.as_ref().filter(|_| turn.attempt == 0);
        let named = goal.and_then(|goal| goal.node.as_ref());
        let runs = |node: &NodeId| runs.get(node).copied().unwrap_or(0);
        let rank = |(node, load): &&(NodeId, Load)| {
            let work = u32::from(load.running) + u32::from(load.queued);
            let home = goal.is_some() && *node == self.me && runs(node) < HOME_MAX;
            let named = named.is_some_and(|named| *named == node.to_string());
            (Some(*node) == lost, !named, !home, runs(node), work, load.cpu_permille, *node)
        };
        let fit = look.places.iter().filter(|(_, load)| !load.draining);
        fit.min_by_key(rank).map_or(self.me, |(node, _)| *node)
    }

    /// The node that was to run a turn has no place for it: that was no attempt.
    pub(super) fn crowded(&mut self, id: Uuid, uptime: Duration) {
        let Some(turn) = self.turns.get_mut(&id).filter(|turn| turn.state == State::Running) else { return };
        turn.state = State::Waiting;
        turn.attempt = turn.attempt.saturating_sub(1);
        self.crowded.insert(id, uptime + CROWDED);
        self.unsaved.1.insert(id);
    }

    /// The node that was to run a turn could not begin it: that was an attempt, and another one is made after a while.
    pub(super) fn unstarted(&mut self, id: Uuid, why: &str, (now_ms, uptime): (u64, Duration)) {
        self.lost(id, why, now_ms);
        if self.turns.get(&id).is_some_and(|turn| turn.state == State::Waiting) {
            self.crowded.insert(id, uptime + RETRY_PAUSE);
        }
    }

    /// Nobody knows whether a turn has begun: its node is asked soon.
    pub(super) fn unheard(&mut self, id: Uuid, uptime: Duration) {
        if let Some(heard) = self.heard.get_mut(&id) {
            *heard = (*heard).min(uptime);
        }
    }

    /// A turn can't be answered.
    pub(super) fn failed(&mut self, id: Uuid, why: String, now_ms: u64) {
        if self.turns.get(&id).is_some_and(|turn| turn.state == State::Running && self.owns(turn.thread)) {
            self.end(id, State::Failed, Some(why), now_ms);
        }
    }

    /// A turn is about to begin, may spend this much, thinks with this model, and has its commands kept in so.
    pub(super) fn capped(&mut self, id: Uuid, goal: &Goal) {
        if let Some(turn) = self.turns.get_mut(&id) {
            (turn.cap, turn.wanted, turn.sandbox) = (goal.budget, goal.model.clone(), goal.sandbox);
            self.unsaved.1.insert(id);
        }
    }

    /// So much of a thread of this node's may have been spent. Whether that is more than is on record.
    pub(super) fn charge(&mut self, id: Uuid, charged: Amount) -> Result<bool, ThreadError> {
        if !self.owns(id) {
            return Err(ThreadError::Moving(id));
        }
        let thread = &mut self.threads.get_mut(&id).ok_or(ThreadError::NoSuchThread(id))?.thread;
        let more = !charged.within(thread.charged);
        thread.charged = thread.charged.most(charged);
        if more {
            self.unsaved.0.insert(id);
        }
        Ok(more)
    }

    /// A thread of this node's is told of a threshold of its budget. Whether it was not yet.
    pub(super) fn warn(&mut self, id: Uuid, severity: Severity) -> bool {
        let owned = self.owns(id);
        let Some(entry) = self.threads.get_mut(&id).filter(|_| owned) else { return false };
        let news = Some(severity) > entry.thread.warned;
        if news {
            entry.thread.warned = Some(severity);
            self.unsaved.0.insert(id);
        }
        news
    }

    /// A turn's run is gone, or was never there.
    pub(super) fn lost(&mut self, id: Uuid, why: &str, now_ms: u64) {
        let Some(turn) = self.turns.get_mut(&id).filter(|turn| turn.state == State::Running) else { return };
        if turn.attempt >= ATTEMPTS_MAX {
            return self.end(id, State::Failed, Some(format!("it was lost {ATTEMPTS_MAX} times, last: {why}")), now_ms);
        }
        tracing::info!(turn = %id, why, "a turn is begun again");
        turn.state = State::Waiting;
        turn.before = (turn.prompt, turn.completion, turn.cost);
        self.unsaved.1.insert(id);
    }

    /// How a turn's run stands. Answers what is said with its end. `None`: there is no such turn here that waits for it.
    pub(super) fn moved(&mut self, run: &Run, now_ms: u64, uptime: Duration) -> Option<Option<Said>> {
        let id = run.goal.seat.as_ref()?.turn;
        if !self
            .turns
            .get(&id)
            .is_some_and(|turn| turn.run == run.id && turn.state == State::Running && self.owns(turn.thread))
        {
            return None;
        }
        let turn = self.turns.get_mut(&id)?;
        self.heard.insert(id, uptime);
        let steps: Vec<Step> = run.steps.iter().take(STEPS_MAX).map(kept).collect();
        if turn.steps != steps {
            turn.steps = steps;
            self.unsaved.1.insert(id);
        }
        turn.context = run.context.or(turn.context);
        turn.prompt = turn.before.0.saturating_add(run.prompt_tokens);
        turn.completion = turn.before.1.saturating_add(run.tokens.saturating_sub(run.prompt_tokens));
        turn.model = run.answered_by.as_deref().map(|model| agent::bounded(model, NAME_BYTES_MAX));
        let (thread, agent, from) = (turn.thread, turn.agent.clone(), turn.from.clone());
        match run.state {
            RunState::Pending | RunState::Running => return Some(None),
            RunState::Completed => self.end(id, State::Completed, None, now_ms),
            RunState::Lost => self.lost(id, "its node went down", now_ms),
            RunState::Failed if run.was_interrupted() => self.lost(id, "its node started anew", now_ms),
            RunState::Failed | RunState::Cancelled => {
                let why = run.error.clone().unwrap_or_else(|| "it was cancelled".into());
                self.end(id, State::Failed, Some(why), now_ms);
            }
        }
        let ended = self.turns.get(&id).is_some_and(|turn| turn.state.ended());
        let Some(output) = run.output.as_ref().filter(|_| ended) else { return Some(None) };
        let said = Said {
            id: answer_id(id),
            thread,
            number: 0,
            from: agent,
            to: from,
            role: Role::Assistant,
            kind: if run.state == RunState::Completed { "Answer" } else { "Partial" }.into(),
            payload: payload_of(output),
            turn: Some(id),
            created_ms: now_ms,
        };
        Some(self.say(thread, said).ok())
    }

    /// A run that is at work though its turn waits for another one by now, or for none: how it is ended. Only in threads of
    /// this node's, or that it knows nothing of any more: what became of others' turns it may not have heard yet.
    pub(super) fn stale(&self, run: &Run) -> Option<Action> {
        let seat = run.goal.seat.as_ref()?;
        let waits = |turn: &Turn| turn.run == run.id && turn.state == State::Running;
        let wanted = self.held || run.state.ended() || self.turns.get(&seat.turn).is_some_and(waits);
        let theirs = self.threads.get(&seat.thread).is_some_and(|entry| entry.thread.owner != self.me);
        (!wanted && !theirs).then_some(Action::Cancel(run.id, run.node))
    }

    /// This is what a turn that has ended says: it is written together with its end.
    pub(super) fn answered(&mut self, said: Said) {
        let Some(id) = said.turn else { return };
        let bytes = SAID.encode(&said).len();
        if bytes <= VALUE_BYTES_MAX {
            self.answers.insert(id, said);
        } else if let Some(turn) = self.turns.get_mut(&id) {
            // No disk would ever take it, and nothing else of this node's threads meanwhile.
            let why = format!("its answer has {bytes} bytes as a record, which has {VALUE_BYTES_MAX} at most");
            (turn.state, turn.error) = (State::Failed, Some(why.clone()));
            let (thread, ended) = (turn.thread, turn.clone());
            self.unsaved.1.insert(id);
            self.judge(&ended);
            if let Some(entry) = self.threads.get_mut(&thread) {
                entry.thread.error = Some(why);
            }
            self.settle(thread);
        }
    }

    /// What a turn says, if it is not written yet.
    pub(super) fn unwritten(&self, turn: Uuid) -> Option<Said> {
        self.answers.get(&turn).cloned()
    }

    /// Somebody waits for what an agent asked another one.
    pub(super) fn wait_for(&mut self, turn: Uuid) {
        *self.waiters.entry(turn).or_default() += 1;
    }

    /// One fewer does; `in_vain`: there was no answer. What nobody waits for any more is given up.
    pub(super) fn waited_for(&mut self, turn: Uuid, in_vain: bool, now_ms: u64) {
        let left = self.waiters.get(&turn).map_or(0, |waiters| waiters.saturating_sub(1));
        if left > 0 {
            self.waiters.insert(turn, left);
            return;
        }
        self.waiters.remove(&turn);
        if in_vain && self.turns.get(&turn).is_some_and(|turn| self.owns(turn.thread)) {
            self.give_up(turn, now_ms);
        }
    }

    /// The runs of turns that were given up since this was last asked.
    pub(super) fn given_up(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.given_up)
    }

    /// Nobody waits for what comes of a turn.
    fn give_up(&mut self, id: Uuid, now_ms: u64) {
        let Some(turn) = self.turns.get(&id).filter(|turn| !turn.state.ended()) else { return };
        if let (State::Running, Some(node)) = (turn.state, turn.node) {
            self.given_up.push(Action::Cancel(turn.run, node));
        }
        self.end(id, State::Cancelled, Some("nobody waits for its answer any more".into()), now_ms);
    }

    fn end(&mut self, id: Uuid, state: State, error: Option<String>, now_ms: u64) {
        // First, so that the thread's error is that of the turn that somebody asked for.
        for asked in self.asked_in(id) {
            self.give_up(asked, now_ms);
        }
        let Some(turn) = self.turns.get_mut(&id) else { return };
        turn.state = state;
        turn.error = error.map(|why| agent::bounded(&why, ERROR_BYTES_MAX));
        turn.ended_ms = Some(now_ms);
        let (thread, ended) = (turn.thread, turn.clone());
        self.unsaved.1.insert(id);
        self.heard.remove(&id);
        self.crowded.remove(&id);
        self.judge(&ended);
        if let Some(entry) = self.threads.get_mut(&thread) {
            entry.open.remove(&id);
            entry.thread.error.clone_from(&ended.error);
            entry.thread.updated_ms = entry.thread.updated_ms.max(now_ms);
        }
        self.unsaved.0.insert(thread);
        self.settle(thread);
    }

    /// The turns in which other agents answer this one's.
    fn asked_in(&self, id: Uuid) -> Vec<Uuid> {
        let entry = self.turns.get(&id).and_then(|turn| self.threads.get(&turn.thread));
        let open = entry.into_iter().flat_map(|entry| entry.open.iter().copied());
        open.filter(|asked| self.turns.get(asked).is_some_and(|turn| turn.within == Some(id))).collect()
    }

    /// What a thread's status follows from its turns.
    fn settle(&mut self, id: Uuid) {
        if let Some(Entry { thread, open, .. }) = self.threads.get_mut(&id)
            && thread.status != Status::Killed
        {
            thread.status = match (open.is_empty(), &thread.error) {
                (true, Some(_)) => Status::Error,
                (true, None) if thread.turns > 0 => Status::Completed,
                _ => Status::Active,
            };
            self.unsaved.0.insert(id);
        }
    }

    /// Whether an agent's last turn failed.
    fn judge(&mut self, turn: &Turn) {
        match turn.state {
            State::Completed => drop(self.failed.remove(&turn.agent)),
            State::Failed => drop(self.failed.insert(turn.agent.clone())),
            _ => {}
        }
    }

    /// Somebody ends a thread of this node's.
    pub(super) fn kill(&mut self, id: Uuid, now_ms: u64) -> Result<Vec<Action>, ThreadError> {
        let open = self.threads.get(&id).ok_or(ThreadError::NoSuchThread(id))?.open.clone();
        let mut out = Vec::new();
        for turn in open {
            if let Some(Turn { state: State::Running, node: Some(node), run, .. }) = self.turns.get(&turn) {
                out.push(Action::Cancel(*run, *node));
            }
            self.end(turn, State::Cancelled, Some("the thread was killed".into()), now_ms);
        }
        if let Some(entry) = self.threads.get_mut(&id) {
            entry.thread.status = Status::Killed;
            entry.thread.updated_ms = entry.thread.updated_ms.max(now_ms);
        }
        self.unsaved.0.insert(id);
        out.extend(self.given_up());
        Ok(out)
    }

    /// Gives a thread of this node's another title.
    pub(super) fn rename(&mut self, id: Uuid, title: String) {
        if let Some(entry) = self.threads.get_mut(&id) {
            entry.thread.title = Some(title);
            self.unsaved.0.insert(id);
        }
    }

    /// What was spent in a thread of this node's, by its budget.
    pub(super) fn spent(&mut self, id: Uuid, (prompt, completion, cost): (u64, u64, u64)) {
        if let Some(Entry { thread, .. }) = self.threads.get_mut(&id)
            && (thread.prompt, thread.completion, thread.cost) != (prompt, completion, cost)
        {
            (thread.prompt, thread.completion) = (thread.prompt.max(prompt), thread.completion.max(completion));
            thread.cost = thread.cost.max(cost);
            self.unsaved.0.insert(id);
        }
    }

    /// What the own tokens of a turn's run cost so far, in millionths.
    pub(super) fn cost(&mut self, run: &Run, cost: u64) {
        let turn = run.goal.seat.as_ref().and_then(|seat| self.turns.get_mut(&seat.turn));
        if let Some(turn) = turn.filter(|turn| turn.run == run.id) {
            turn.cost = turn.before.2.saturating_add(cost);
        }
    }

    /// A turn that has ended, as it is graded now.
    pub(super) fn graded(
        mut turn: Turn,
        grade: u8,
        comment: Option<String>,
        again: bool,
        now_ms: u64,
    ) -> Result<Turn, ThreadError> {
        match (&turn.feedback, again) {
            (Some(_), false) => return Err(ThreadError::Graded(turn.id)),
            (None, true) => return Err(ThreadError::NoFeedback(turn.id)),
            _ => {}
        }
        let created_ms = turn.feedback.as_ref().map_or(now_ms, |feedback| feedback.created_ms);
        turn.feedback = Some(Feedback { grade, comment, created_ms });
        Ok(turn)
    }

    /// What is to be written, as it is now: each is told once, unless [`Core::save_again`] says that it could not be.
    pub(super) fn unsaved(&mut self) -> (Vec<Thread>, Vec<Turn>, Vec<Said>) {
        let (threads, turns) = std::mem::take(&mut self.unsaved);
        let threads =
            threads.iter().filter(|id| self.owns(**id)).filter_map(|id| Some(self.threads.get(id)?.thread.clone()));
        let turns = turns.iter().filter_map(|id| self.turns.get(id).filter(|turn| self.owns(turn.thread)).cloned());
        let said = self.answers.values().filter(|said| self.owns(said.thread)).cloned();
        (threads.collect(), turns.collect(), said.collect())
    }

    /// These are written: answers and ended turns are read from the disk from now on.
    pub(super) fn saved(&mut self, turns: &[Turn], said: &[Said]) {
        for turn in said.iter().filter_map(|said| said.turn) {
            self.answers.remove(&turn);
        }
        for turn in turns.iter().filter(|turn| turn.state.ended()) {
            if !self.unsaved.1.contains(&turn.id) {
                self.turns.remove(&turn.id);
            }
        }
    }

    /// Nothing more is written about a thread: its records are about to be removed.
    pub(super) fn let_go(&mut self, id: Uuid) {
        self.unsaved.0.remove(&id);
        self.unsaved.1.retain(|turn| self.turns.get(turn).is_some_and(|turn| turn.thread != id));
        self.answers.retain(|_, said| said.thread != id);
    }

    /// They could not be removed: what there is of it is written again.
    pub(super) fn keep(&mut self, id: Uuid) {
        self.unsaved.0.insert(id);
        self.unsaved.1.extend(self.turns.values().filter(|turn| turn.thread == id).map(|turn| turn.id));
    }

    /// These could not be written.
    pub(super) fn save_again(&mut self, threads: &[Thread], turns: &[Turn]) {
        self.unsaved.0.extend(threads.iter().map(|thread| thread.id));
        self.unsaved.1.extend(turns.iter().map(|turn| turn.id));
    }

    /// Turns that have not ended, of threads of this node.
    pub(super) fn open_turns(&self, thread: Uuid) -> Vec<Turn> {
        let open = self.threads.get(&thread).into_iter().flat_map(|entry| &entry.open);
        open.filter_map(|id| self.turns.get(id).cloned()).collect()
    }

    /// In which term this node writes about a thread.
    pub(super) fn term(&self, thread: Uuid) -> u64 {
        self.threads.get(&thread).map_or(0, |entry| entry.thread.term.0)
    }

    /// Whether something is to be looked at soon.
    pub(super) fn busy(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Threads, the last active ones first.
    pub(super) fn list(&self, wanted: &Wanted) -> Page<Thread> {
        let fits = |thread: &&Thread| {
            wanted.status.is_none_or(|status| thread.status == status)
                && wanted.origin.is_none_or(|origin: Origin| thread.origin == origin)
                && wanted.agent.as_ref().is_none_or(|name| thread.agent == *name || thread.participants.contains(name))
        };
        let mut fit: Vec<&Thread> = self.threads.values().map(|entry| &entry.thread).filter(fits).collect();
        fit.sort_by_key(|thread| (Reverse(thread.updated_ms), thread.id));
        let total = fit.len() as u64;
        let items = fit.into_iter().skip(wanted.offset as usize).take(wanted.limit as usize).cloned().collect();
        Page { items, total }
    }

    /// The newest messages over all threads: which, newest first, and how many are kept.
    pub(super) fn recent(&self, agent: Option<&str>, offset: usize, limit: usize) -> (Vec<(Uuid, Uuid)>, u64) {
        let fits = |(from, to): &(String, String)| agent.is_none_or(|name| from == name || to == name);
        let fit = || {
            self.recent.iter().rev().filter(|(_, ends)| fits(ends)).map(|((_, thread, message), _)| (*thread, *message))
        };
        (fit().skip(offset).take(limit).collect(), fit().count() as u64)
    }

    /// What each agent has to do and has done.
    pub(super) fn activity(&self) -> Vec<(String, Activity)> {
        let mut out: BTreeMap<String, Activity> = BTreeMap::new();
        for turn in self.turns.values() {
            let activity = out.entry(turn.agent.clone()).or_default();
            match turn.state {
                State::Waiting => activity.waiting += 1,
                State::Running => {
                    activity.running += 1;
                    activity.thread = Some(turn.thread);
                }
                _ => {}
            }
        }
        for ((at_ms, ..), (from, to)) in &self.recent {
            for name in [from, to] {
                let activity = out.entry(name.clone()).or_default();
                activity.messages += 1;
                activity.last_ms = activity.last_ms.max(Some(*at_ms));
            }
        }
        for name in &self.failed {
            out.entry(name.clone()).or_default().failed = true;
        }
        out.into_iter().collect()
    }
}

/// A step as its turn keeps it. A run bounds it, too; who says how a run goes may be of another version, or worse.
fn kept(step: &Step) -> Step {
    let text = |text: &str| agent::bounded(text, STEP_BYTES_MAX);
    Step {
        tool: agent::bounded(&step.tool, NAME_BYTES_MAX),
        args: text(&step.args),
        result: step.result.as_deref().map(text),
        ..*step
    }
}

/// An answer as a payload that fits its record, however much of it has to be escaped.
fn payload_of(output: &str) -> String {
    let mut room = ANSWER_BYTES_MAX;
    loop {
        let payload = serde_json::json!({ "content": agent::bounded(output, room) }).to_string();
        if payload.len() <= PAYLOAD_BYTES_MAX {
            return payload;
        }
        room /= 2;
    }
}
