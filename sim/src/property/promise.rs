//! Acknowledged commands: what was taken is done, or fails with a reason.

use crate::{World, clock, log};
use anyhow::{Result, ensure};
use futures::future::join_all;
use skep_actors::scheduler::{self, Message, Record, ScheduleError, Spec, State};
use skep_runtime::{Error, Wire};
use std::time::Duration;
use uuid::Uuid;

/// How long a question to a scheduler may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long after the last fault the last command may take to end: three attempts, each of whose nodes has to be missed.
const END_TIMEOUT: Duration = Duration::from_secs(180);
/// How long a node that has come back may still be taken for dead by another, which takes its commands over at that moment.
const UNAWARE_MAX: Duration = Duration::from_secs(2);
const LOOK_PERIOD: Duration = Duration::from_millis(500);
/// How long an owner has to tell others that a command is to end, on a bad link.
const WITHDRAW_TIMEOUT: Duration = Duration::from_secs(2);

/// The commands that nodes have acknowledged, and how they ended as far as that was seen.
#[derive(Default)]
pub struct Promises {
    taken: Vec<Promise>,
}

struct Promise {
    owner: usize,
    id: Uuid,
    /// What it waits for, and how long each of those takes.
    after: Vec<(Uuid, Duration)>,
    /// The record as it was seen last.
    seen: Option<Record>,
    /// The record as it was first seen ended, and when.
    ended: Option<(Record, Duration)>,
    /// Since when its cancel is on the disks of those that its owner reaches.
    withdrawn: Option<Duration>,
}

/// What came of a submission.
#[derive(Debug)]
pub enum Submitted {
    /// It was acknowledged.
    Taken(Uuid),
    /// It was refused, so nothing is promised.
    Refused(ScheduleError),
    /// No answer came: it may or may not be taken.
    Unheard(Error),
}

/// Gives a command to the scheduler of `owner`.
pub async fn submit(world: &World, owner: usize, spec: Spec) -> Result<Submitted> {
    let desk = world.node(owner)?.directory().here::<Message>(scheduler::NAME);
    Ok(match desk.ask(ASK_TIMEOUT, |reply| Message::Submit(Wire(spec), reply)).await {
        Ok(Ok(record)) => Submitted::Taken(record.id),
        Ok(Err(error)) => Submitted::Refused(error),
        Err(error) => Submitted::Unheard(error),
    })
}

impl Promises {
    /// A node has acknowledged this command.
    pub fn note(&mut self, owner: usize, id: Uuid) {
        self.note_after(owner, id, Vec::new());
    }

    /// The same for one that waits for these, of which each takes so long.
    pub fn note_after(&mut self, owner: usize, id: Uuid, after: Vec<(Uuid, Duration)>) {
        self.taken.push(Promise { owner, id, after, seen: None, ended: None, withdrawn: None });
    }

    /// Wants everything ended that `owner` has given to `runner`, which can't be told any more. What is withdrawn is never
    /// started again, whoever decides about it next.
    pub async fn withdraw(&mut self, world: &World, owner: usize, runner: usize) -> Result<()> {
        let desk = world.node(owner)?.directory().here::<Message>(scheduler::NAME);
        let mut wanted = Vec::new();
        for (at, promise) in self.taken.iter().enumerate() {
            let known = desk.ask(ASK_TIMEOUT, |reply| Message::Find(Wire(promise.id), reply)).await;
            let there = |record: &Record| record.state == State::Running && record.assigned == Some(world.id(runner));
            if known.ok().flatten().as_ref().is_some_and(there) {
                wanted.push(at);
            }
        }
        // The answer would come with the end.
        let asked = wanted
            .iter()
            .map(|at| desk.ask(WITHDRAW_TIMEOUT, |reply| Message::Cancel(Wire(self.taken[*at].id), reply)));
        join_all(asked).await;
        world.note(&format!("{owner} was told to end {} commands of {runner}, which is gone", wanted.len()));
        for at in wanted {
            self.taken[at].withdrawn = Some(clock::now());
        }
        Ok(())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.taken.len()
    }

    /// An acknowledged command is known to whoever it was given to whenever that runs, ends once and never again, only
    /// by its last attempt, and is never started after it was seen to have ended. Only where somebody who lives could be
    /// taken for dead may another owner, which took it over meanwhile, say otherwise: it runs at least once.
    pub async fn are_kept(&mut self, world: &World) -> Result<()> {
        for promise in &mut self.taken {
            promise.look(world).await?;
        }
        Ok(())
    }

    /// Every acknowledged command ends, as done or with a reason, within [`END_TIMEOUT`] after the last fault.
    pub async fn come_to_an_end(&mut self, world: &World) -> Result<()> {
        let start = clock::now();
        loop {
            self.are_kept(world).await?;
            let open = self.taken.iter().filter(|promise| promise.ended.is_none()).count();
            if open == 0 {
                let done = self.taken.iter().filter(|promise| promise.is(State::Completed)).count();
                world.note(&format!("of {} commands {done} were done, all have ended", self.taken.len()));
                return Ok(());
            }
            let Some(first) = self.taken.iter().find(|promise| promise.ended.is_none()) else { continue };
            let (late, count) = (clock::now() - start >= END_TIMEOUT, self.taken.len());
            ensure!(
                !late,
                "{open} of {count} commands never end, such as {} of {}: {:?}",
                first.id,
                first.owner,
                first.seen
            );
            world.pass(LOOK_PERIOD).await;
        }
    }
}

impl Promise {
    fn is(&self, state: State) -> bool {
        self.ended.as_ref().is_some_and(|(record, _)| record.state == state)
    }

    async fn look(&mut self, world: &World) -> Result<()> {
        if let Some(at) = self.withdrawn {
            let again = log::starts(self.id).into_iter().find(|start| *start > at);
            ensure!(again.is_none(), "{} was cancelled and runs again: {again:?}", self.id);
        }
        // A command begins only after each that it waits for had begun, and had its time.
        for start in log::starts(self.id) {
            let over =
                |(id, takes): &&(Uuid, Duration)| log::starts(*id).into_iter().any(|began| began + *takes <= start);
            let early = self.after.iter().find(|prerequisite| !over(prerequisite));
            ensure!(early.is_none(), "{} began before {early:?}, for which it waits, was over", self.id);
        }
        // Whoever it was given to knows it, or has left the swarm in which others took it over.
        let given_to = world.node(self.owner).is_ok();
        let answers_for_it = given_to && !world.was_uprooted(self.owner);
        let others = world.running().into_iter().filter(|number| *number != self.owner);
        let mut found = None;
        for asked in given_to.then_some(self.owner).into_iter().chain(others) {
            let desk = world.node(asked)?.directory().here::<Message>(scheduler::NAME);
            match desk.ask(ASK_TIMEOUT, |reply| Message::Get(Wire(self.id), reply)).await {
                Ok(Err(ScheduleError::NoSuchTask(_))) => {}
                Ok(answer) => {
                    let record = answer?;
                    let decides = world.id(asked) == record.owner;
                    found = Some((record, decides));
                    break;
                }
                // Who has just been started may be too busy to answer.
                Err(_) => return Ok(()),
            }
        }
        let Some((record, decides)) = found else {
            // While it is away, others may know: it had to confirm it with one of them, who may be away too.
            ensure!(!answers_for_it, "{} was acknowledged by {} and is lost", self.id, self.owner);
            return Ok(());
        };
        self.seen = Some(record.clone());
        if let Some((before, at)) = &self.ended {
            // Who was away may not have heard yet: of the end, or that it is no longer the one who decides.
            if record.term < before.term || (!decides && record != *before && record.term == before.term) {
                return Ok(());
            }
            // Unless it never may run twice at once: half of the swarm knows of its ending then, and who would run it again
            // needs more than half. Who is cut off with the only ones that know of an ending can't tell the others, who then run it again; and
            // an owner that comes back tells of an ending until it hears that another one has begun anew meanwhile.
            let once = before.spec.course.once;
            let aware = if once { *at } else { *at + UNAWARE_MAX };
            let again = log::starts(self.id).into_iter().find(|start| *start > aware);
            ensure!(
                again.is_none() || (world.was_divided() && !once),
                "a command that had ended runs again: {before:?}, {again:?}"
            );
            let right = record == *before || record.term > before.term;
            ensure!(right, "a command that had ended changed: {before:?} -> {record:?}");
            if record.state.ended() {
                return Ok(());
            }
            self.ended = None;
        }
        if record.state.ended() {
            let said = record.output.lines().last().and_then(|line| line.parse().ok());
            let right = record.state != State::Completed || said == Some(record.attempts);
            ensure!(right, "a command was ended by an attempt that counted no more: {record:?}");
            ensure!(record.state != State::Failed || record.error.is_some(), "it failed without a reason: {record:?}");
            let starts = log::starts(self.id).len();
            ensure!(
                record.state != State::Completed || starts >= record.attempts.min(1) as usize,
                "it is called done and was never started: {record:?}"
            );
            self.ended = Some((record, clock::now()));
        }
        Ok(())
    }
}

/// A command that never may run twice at once doesn't: at no time do two nodes run it, nor one of them twice.
pub fn never_runs_twice_at_once(task: Uuid) -> Result<()> {
    let runs = log::runs(task);
    for (at, earlier) in runs.iter().enumerate() {
        let over = |later: &log::Run| earlier.over.is_some_and(|over| over <= later.began);
        let beside = runs[at + 1..].iter().find(|later| !over(later));
        ensure!(beside.is_none(), "{task} runs twice at once: {earlier:?} and {beside:?}");
    }
    Ok(())
}

/// A command that says which attempt it is, and takes this long.
pub fn command(seconds: u64) -> Spec {
    Spec { cpus: 1, ..Spec::new(format!("attempt; sleep {seconds}")) }
}
