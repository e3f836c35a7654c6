//! External workers talk to whichever node they like, take jobs, do them, and now and then fall silent with one, while
//! nodes crash, one at a time, and come back. Every job that was acknowledged ends, once.

use crate::{
    World, clock,
    property::{self, Jobs},
};
use anyhow::{Result, ensure};
use futures::{StreamExt, future::LocalBoxFuture, stream::FuturesUnordered};
use rand::{RngExt, seq::IndexedRandom};
use skep_actors::{
    scheduler::messages::Priority,
    worker::{self, Finish, Job, Message, Needs, NewJob, NewWorker, Take, Word, Work, WorkerError},
};
use skep_runtime::{Error, Handle, Wire};
use std::time::Duration;
use uuid::Uuid;

const NODES: usize = 4;
const WORKERS: usize = 4;
/// How often a node crashes.
const CRASHES: usize = 6;
/// Jobs between two crashes.
const JOBS: usize = 5;
/// How long a question may take, beyond what a take waits.
const ASK_TIMEOUT: Duration = Duration::from_secs(20);
/// Seconds that a take waits at most.
const WAIT_S: u32 = 8;
/// Seconds that a worker may be silent over a job.
const LEASE_S: u32 = 15;
/// How long a worker that falls silent stays so: longer than any lease.
const SILENCE: Duration = Duration::from_secs(40);
/// How long after the last fault the last job may take to end: leases run out, and three attempts.
const END_TIMEOUT: Duration = Duration::from_secs(300);

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(NODES).await?;
    property::view_becomes_truth(world).await?;
    let mut shop = Shop { jobs: Jobs::default(), hands: Vec::new(), under_way: FuturesUnordered::new(), results: 0 };
    for number in 0..WORKERS {
        shop.hands.push(Hand { id: format!("worker {number}"), known: false, job: None, until: Duration::ZERO });
        shop.next(world, number);
    }
    for _ in 0..CRASHES {
        for _ in 0..JOBS {
            shop.submit(world);
            let pause = world.rng().random_range(0..4000);
            shop.go_on(world, Duration::from_millis(pause), true).await?;
        }
        let victim = world.rng().random_range(0..NODES);
        world.crash(victim)?;
        let pause = world.rng().random_range(0..30_000);
        shop.go_on(world, Duration::from_millis(pause), true).await?;
        world.start(victim).await?;
        // The next one dies when this one knows what it missed.
        shop.go_on(world, Duration::from_secs(20), true).await?;
    }
    property::view_becomes_truth(world).await?;
    let start = clock::now();
    loop {
        shop.go_on(world, Duration::from_secs(5), false).await?;
        shop.jobs.are_kept(world).await?;
        let (all, open) = shop.jobs.count();
        if open == 0 {
            world.note(&format!("all of {all} jobs have ended"));
            break;
        }
        ensure!(clock::now() - start < END_TIMEOUT, "{open} of {all} jobs never end");
    }
    drop(shop.under_way);
    property::ledgers_become_equal(world).await?;
    shop.jobs.are_kept(world).await?;
    property::nothing_outlives_its_node(world).await
}

/// What came of a question.
enum Came {
    Submitted(Result<Result<Job, WorkerError>, Error>),
    Registered(usize, bool),
    Said(usize, Result<Result<u64, WorkerError>, Error>),
    Took(usize, Result<Result<Option<Job>, WorkerError>, Error>),
    Finished(usize, Result<Result<Job, WorkerError>, Error>),
    /// A worker has worked, rested or been silent for a while.
    Passed(usize),
}

/// A worker.
struct Hand {
    id: String,
    /// It has registered.
    known: bool,
    /// The job that it has, and what comes of it.
    job: Option<(Uuid, String)>,
    /// Until when it works on it.
    until: Duration,
}

/// The workers and their questions.
struct Shop {
    jobs: Jobs,
    hands: Vec<Hand>,
    under_way: FuturesUnordered<LocalBoxFuture<'static, Came>>,
    results: u32,
}

impl Shop {
    /// Somebody has a job to be done.
    fn submit(&mut self, world: &mut World) {
        let classes = [Priority::Low, Priority::Normal, Priority::High, Priority::Critical, Priority::Urgent];
        let priority = *classes.choose(world.rng()).unwrap_or(&Priority::Normal);
        let work = Work { task_type: "t".into(), model: "m".into(), prompt: "p".into(), parameters: "{}".into() };
        let new = NewJob { work, priority, needs: Needs::default() };
        let Some(door) = door(world) else { return };
        self.under_way.push(Box::pin(async move {
            Came::Submitted(door.ask(ASK_TIMEOUT, |reply| Message::Submit(Wire(new), reply)).await)
        }));
    }

    /// Lets time pass, in which workers ask, are answered and ask again.
    async fn go_on(&mut self, world: &mut World, time: Duration, may_fail: bool) -> Result<()> {
        let end = clock::now() + time;
        loop {
            let left = end.saturating_sub(clock::now());
            tokio::select! {
                biased;
                Some(came) = self.under_way.next() => self.came(world, came, may_fail)?,
                () = world.pass(left) => return Ok(()),
            }
        }
    }

    fn came(&mut self, world: &mut World, came: Came, may_fail: bool) -> Result<()> {
        let number = match came {
            Came::Submitted(Ok(Ok(job))) => {
                self.jobs.note(job.slip.id);
                return Ok(());
            }
            // A refusal, or no answer, promises nothing.
            Came::Submitted(_) => return Ok(()),
            Came::Registered(number, well) => {
                self.hands[number].known = well;
                number
            }
            Came::Said(number, said) => {
                if let Ok(Err(WorkerError::NoSuchWorker(_))) = said {
                    self.hands[number].known = false;
                }
                number
            }
            Came::Took(number, Ok(Ok(Some(job)))) => {
                self.results += 1;
                let takes = world.rng().random_range(0..20_000);
                let hand = &mut self.hands[number];
                hand.job = Some((job.slip.id, format!("{}", self.results)));
                hand.until = clock::now() + Duration::from_millis(takes);
                if may_fail && world.rng().random_bool(0.15) {
                    // It falls silent, and has forgotten everything when it is back.
                    if world.rng().random_bool(0.5) {
                        self.hands[number].job = None;
                    }
                    self.rest(number, SILENCE);
                    return Ok(());
                }
                number
            }
            Came::Took(number, taken) => {
                if let Ok(Err(WorkerError::NoSuchWorker(_))) = taken {
                    self.hands[number].known = false;
                }
                number
            }
            Came::Finished(number, finished) => {
                match finished {
                    Ok(Ok(job)) => {
                        self.jobs.ended(&job)?;
                        self.hands[number].job = None;
                    }
                    // It is another's, or nobody's any more.
                    Ok(Err(WorkerError::Lost(_) | WorkerError::NoSuchJob(_))) => self.hands[number].job = None,
                    // It says so again.
                    _ => {
                        self.rest(number, Duration::from_secs(1));
                        return Ok(());
                    }
                }
                number
            }
            Came::Passed(number) => number,
        };
        self.next(world, number);
        Ok(())
    }

    fn rest(&mut self, number: usize, time: Duration) {
        self.under_way.push(Box::pin(async move {
            tokio::time::sleep(time).await;
            Came::Passed(number)
        }));
    }

    /// What a worker does next.
    fn next(&mut self, world: &mut World, number: usize) {
        let Some(door) = door(world) else { return self.rest(number, Duration::from_secs(1)) };
        let (hand, draw) = (&self.hands[number], world.rng().random_range(0..10));
        let id = hand.id.clone();
        let next: LocalBoxFuture<'static, Came> = match &hand.job {
            _ if !hand.known => Box::pin(async move {
                let new =
                    NewWorker { id, kind: "worker".into(), metadata: "{}".into(), weight: 1, ..NewWorker::default() };
                let asked = door.ask(ASK_TIMEOUT, |reply| Message::Register(Wire(new), reply)).await;
                let well = matches!(asked, Ok(Ok(_)));
                if !well {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Came::Registered(number, well)
            }),
            Some((job, result)) if hand.until <= clock::now() => {
                let finish = Finish {
                    worker: id,
                    job: *job,
                    attempt: None,
                    ok: draw > 0,
                    result: Some(result.clone()),
                    error: None,
                };
                Box::pin(async move {
                    Came::Finished(number, door.ask(ASK_TIMEOUT, |reply| Message::Finish(Wire(finish), reply)).await)
                })
            }
            Some((job, _)) => {
                let has = (draw < 5).then(|| [*job].into());
                let (left, said) = (hand.until - clock::now(), Wire((id, Word::Heartbeat(has))));
                Box::pin(async move {
                    let said = door.ask(ASK_TIMEOUT, |reply| Message::Say(said, reply)).await;
                    tokio::time::sleep(left.min(Duration::from_secs(4))).await;
                    Came::Said(number, said)
                })
            }
            None => {
                let has = (draw < 5).then(Default::default);
                let wait_s = world.rng().random_range(0..=WAIT_S);
                let take = Take { worker: id, wait_s, lease_s: LEASE_S, has };
                Box::pin(async move {
                    let deadline = ASK_TIMEOUT + Duration::from_secs(wait_s.into());
                    let took = door.ask(deadline, |reply| Message::Take(Wire(take), reply)).await;
                    if !matches!(took, Ok(Ok(Some(_)))) {
                        tokio::time::sleep(Duration::from_millis(500)).await;
                    }
                    Came::Took(number, took)
                })
            }
        };
        self.under_way.push(next);
    }
}

/// Any node that runs.
fn door(world: &mut World) -> Option<Handle<Message>> {
    let running = world.running();
    let number = *running.choose(world.rng())?;
    Some(world.node(number).ok()?.directory().here(worker::NAME))
}
