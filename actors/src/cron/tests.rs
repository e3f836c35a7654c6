//! Jobs of two nodes in one process, on paused time.

use super::{CronError, Job, Kind, Message, NewJob, RunState, Wanted};
use crate::{
    ledger, node,
    scheduler::{self, Spec},
    testing::Swarm,
};
use skep_runtime::{Wire, defaults::ASK_TIMEOUT};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(60);

fn new(kind: Kind, expr: &str) -> NewJob {
    NewJob {
        name: "bees".into(),
        description: None,
        agent_id: None,
        kind,
        expr: expr.into(),
        tz: "UTC".into(),
        spec: Spec::new("echo hum"),
    }
}

async fn start(swarm: &Swarm, i: usize) {
    let (context, root) = (swarm.context(i), swarm.root(i));
    // Its card says what fences it has.
    node::start(context, root.clone()).await.unwrap();
    ledger::start(context, root.clone()).await.unwrap();
    scheduler::start(context, root.clone()).await.unwrap();
    super::start(context, root).await.unwrap();
}

async fn add(swarm: &Swarm, i: usize, new: NewJob) -> Result<Job, CronError> {
    let cron = swarm.context(i).directory.here::<Message>(super::NAME);
    cron.ask(ASK_TIMEOUT, |reply| Message::Add(Wire(new), reply)).await.unwrap()
}

async fn job(swarm: &Swarm, i: usize, id: Uuid) -> Option<Job> {
    let cron = swarm.context(i).directory.here::<Message>(super::NAME);
    cron.ask(ASK_TIMEOUT, |reply| Message::Get(Wire(id), reply)).await.unwrap().ok()
}

async fn until(swarm: &Swarm, i: usize, id: Uuid, so: impl Fn(Option<&Job>) -> bool) -> Option<Job> {
    let start = Instant::now();
    loop {
        let job = job(swarm, i, id).await;
        if so(job.as_ref()) {
            return job;
        }
        assert!(start.elapsed() < PATIENCE, "still {job:?}");
        sleep(Duration::from_millis(100)).await;
    }
}

fn done(job: &Job) -> usize {
    job.progress.runs.iter().filter(|run| run.state == RunState::Completed).count()
}

#[tokio::test(start_paused = true)]
async fn a_job_that_its_owner_leaves_behind_goes_on_elsewhere_without_a_gap() {
    let mut swarm = Swarm::new(2).await;
    start(&swarm, 0).await;
    start(&swarm, 1).await;
    let made = add(&swarm, 0, new(Kind::Every, "3s")).await.unwrap();
    let id = made.definition.id;
    let known = until(&swarm, 1, id, |job| job.is_some_and(|job| done(job) >= 2)).await.unwrap();
    assert_eq!((known.progress.owner, known.definition.clone()), (swarm.id(0), made.definition));
    swarm.kill(0).await;
    let heir =
        until(&swarm, 1, id, |job| job.is_some_and(|job| job.progress.owner == swarm.id(1) && done(job) >= 6)).await;
    let heir = heir.unwrap();
    assert!(heir.progress.term > known.progress.term);
    let moments: Vec<u64> = heir.progress.runs.iter().map(|run| run.at_ms).collect();
    assert!(moments.windows(2).all(|pair| pair[1] - pair[0] == 3000), "{moments:?}");
    assert!(heir.progress.runs.iter().all(|run| run.state != RunState::Missed), "{heir:?}");
    // Comes back, the first owner leaves it where it is.
    swarm.restart(0).await;
    start(&swarm, 0).await;
    let back = until(&swarm, 0, id, |job| job.is_some_and(|job| job.progress.owner == swarm.id(1))).await.unwrap();
    until(&swarm, 0, id, |job| job.is_some_and(|job| done(job) > done(&back))).await;
}

#[tokio::test(start_paused = true)]
async fn a_job_is_shown_with_what_its_runs_said_and_removed_on_any_node() {
    let swarm = Swarm::new(2).await;
    start(&swarm, 0).await;
    start(&swarm, 1).await;
    let id = add(&swarm, 0, new(Kind::Cron, "*/2 * * * * *")).await.unwrap().definition.id;
    until(&swarm, 1, id, |job| job.is_some_and(|job| done(job) >= 3)).await;
    let cron = swarm.context(1).directory.here::<Message>(super::NAME);
    let wanted = Wanted { job: Some(id), limit: 2, ..Wanted::default() };
    let runs = cron.ask(ASK_TIMEOUT, |reply| Message::Runs(Wire(wanted), reply)).await.unwrap();
    assert!(runs.len() == 2 && runs[0].run.at_ms > runs[1].run.at_ms, "{runs:?}");
    assert!(runs.iter().any(|run| run.run.output == "hum\n"), "{runs:?}");
    cron.ask(ASK_TIMEOUT, |reply| Message::Remove(Wire(id), reply)).await.unwrap().unwrap();
    until(&swarm, 0, id, |job| job.is_none()).await;
    let again = cron.ask(ASK_TIMEOUT, |reply| Message::Remove(Wire(id), reply)).await.unwrap();
    assert_eq!(again, Err(CronError::NoSuchJob(id.to_string())));
    // What its owner has still wanted to say of it changes nothing.
    sleep(Duration::from_secs(10)).await;
    assert!(job(&swarm, 0, id).await.is_none() && job(&swarm, 1, id).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_job_that_makes_no_sense_is_refused_with_its_field() {
    let swarm = Swarm::new(1).await;
    start(&swarm, 0).await;
    let check = async |new: NewJob, wrong: &str| match add(&swarm, 0, new).await {
        Err(CronError::Invalid { field, .. }) => assert_eq!(field, wrong),
        other => panic!("{wrong}: {other:?}"),
    };
    let fine = new(Kind::Every, "1m");
    check(NewJob { name: " ".into(), ..fine.clone() }, "name").await;
    check(NewJob { name: "a\nb".into(), ..fine.clone() }, "name").await;
    check(NewJob { description: Some("d".repeat(1025)), ..fine.clone() }, "description").await;
    check(NewJob { spec: Spec::new("x".repeat(17 << 10)), ..fine.clone() }, "command").await;
    check(NewJob { spec: Spec::new(""), ..fine.clone() }, "command").await;
    check(NewJob { tz: "Nowhere".into(), ..fine.clone() }, "schedule_tz").await;
    check(new(Kind::Cron, "hourly"), "schedule_expr").await;
    check(new(Kind::Cron, "0 0 30 2 *"), "schedule_expr").await;
    check(new(Kind::Once, "2020-01-01 00:00"), "schedule_expr").await;
}
