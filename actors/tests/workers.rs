//! External workers and their jobs over nodes in one process, under paused time.

#![expect(clippy::unwrap_used, reason = "a script that can't go on fails its test right there")]

use skep_actors::{
    ledger, node,
    runtime::{Wire, defaults::ASK_TIMEOUT},
    scheduler::messages::Priority,
    testing::Swarm,
    worker::{
        self, Finish, Job, Message, Needs, NewJob, NewWorker, State, Status, Strategy, Take, Word, Work, WorkerError,
    },
};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::{advance, sleep};
use uuid::Uuid;

struct Stage {
    swarm: Swarm,
}

impl Stage {
    async fn new(nodes: usize) -> Stage {
        let stage = Stage { swarm: Swarm::new(nodes).await };
        for i in 0..nodes {
            stage.play(i).await;
        }
        // Everyone has been compared with somebody, and acts on what it owns.
        sleep(Duration::from_secs(10)).await;
        stage
    }

    async fn play(&self, i: usize) {
        let (context, root) = (self.swarm.context(i), self.swarm.root(i));
        ledger::start(context, root.clone()).await.unwrap();
        node::start(context, root.clone()).await.unwrap();
        worker::start(context, root).await.unwrap();
    }

    fn workers(&self, i: usize) -> skep_actors::runtime::Handle<Message> {
        self.swarm.context(i).directory.here(worker::NAME)
    }

    async fn register(&self, i: usize, id: &str, capabilities: &[&str]) {
        let new = NewWorker {
            id: id.into(),
            kind: "worker".into(),
            capabilities: capabilities.iter().map(ToString::to_string).collect(),
            metadata: "{}".into(),
            weight: 1,
            ..NewWorker::default()
        };
        self.workers(i).ask(ASK_TIMEOUT * 3, |port| Message::Register(Wire(new), port)).await.unwrap().unwrap();
    }

    async fn submit(&self, i: usize, priority: Priority, capabilities: &[&str]) -> Uuid {
        let needs = Needs { capabilities: capabilities.iter().map(ToString::to_string).collect(), kind: None };
        let work = Work { task_type: "t".into(), model: "m".into(), prompt: "p".into(), parameters: "{}".into() };
        let new = NewJob { work, priority, needs };
        let asked = self.workers(i).ask(ASK_TIMEOUT * 3, |port| Message::Submit(Wire(new), port)).await;
        asked.unwrap().unwrap().slip.id
    }

    async fn take(&self, i: usize, id: &str, wait_s: u32) -> Option<Job> {
        let take = Take { worker: id.into(), wait_s, lease_s: 60, has: None };
        let asked = self.workers(i).ask(Duration::from_secs(60), |port| Message::Take(Wire(take), port)).await;
        asked.unwrap().unwrap()
    }

    async fn finish(&self, i: usize, id: &str, job: Uuid, result: &str) -> Result<Job, WorkerError> {
        let finish =
            Finish { worker: id.into(), job, attempt: None, ok: true, result: Some(result.into()), error: None };
        self.workers(i).ask(ASK_TIMEOUT * 4, |port| Message::Finish(Wire(finish), port)).await.unwrap()
    }

    async fn beat(&self, i: usize, id: &str, has: Option<BTreeSet<Uuid>>) -> Result<u64, WorkerError> {
        let said = (id.to_string(), Word::Heartbeat(has));
        self.workers(i).ask(ASK_TIMEOUT * 2, |port| Message::Say(Wire(said), port)).await.unwrap()
    }

    async fn get(&self, i: usize, id: Uuid) -> worker::Found {
        self.workers(i).ask(ASK_TIMEOUT, |port| Message::Get(Wire(id), port)).await.unwrap().unwrap()
    }

    async fn look(&self, i: usize, id: &str) -> worker::Profile {
        self.workers(i).ask(ASK_TIMEOUT, |port| Message::Look(Wire(id.into()), port)).await.unwrap().unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_given_to_one_node_is_taken_at_another_and_ended_at_a_third() {
    let stage = Stage::new(3).await;
    stage.register(1, "w", &["gpu"]).await;
    let id = stage.submit(0, Priority::Normal, &["gpu"]).await;
    // At a node that is not its home, too.
    let job = stage.take(2, "w", 5).await.unwrap();
    assert_eq!((job.slip.id, job.slip.state, job.slip.attempts), (id, State::Assigned, 1));
    assert_eq!(stage.get(2, id).await.waits_for.as_deref(), Some("agent w"));
    let ended = stage.finish(2, "w", id, "1").await.unwrap();
    assert_eq!((ended.slip.state, ended.result.as_deref()), (State::Completed, Some("1")));
    // Said again, the first word counts; another worker is refused.
    assert_eq!(stage.finish(0, "w", id, "2").await.unwrap().result.as_deref(), Some("1"));
    assert!(matches!(stage.finish(1, "v", id, "3").await, Err(WorkerError::Lost(_))));
    for i in 0..3 {
        assert_eq!(stage.get(i, id).await.job.result.as_deref(), Some("1"));
        let profile = stage.look(i, "w").await;
        assert_eq!((profile.status, profile.record.completed, profile.held), (Status::Active, 1, 0));
    }
    let stats = stage.workers(2).ask(ASK_TIMEOUT, Message::Stats).await.unwrap();
    assert_eq!((stats.tally.assigned, stats.tally.completed, stats.weights.len()), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_gets_a_job_as_soon_as_there_is_one_that_suits() {
    let stage = Stage::new(2).await;
    stage.register(0, "plain", &[]).await;
    stage.register(1, "able", &["gpu"]).await;
    let asked = async {
        futures::join!(stage.take(0, "plain", 20), stage.take(1, "able", 20), async {
            sleep(Duration::from_secs(2)).await;
            stage.submit(0, Priority::Low, &["gpu"]).await
        })
    };
    let (plain, able, id) = asked.await;
    assert_eq!((plain.map(|job| job.slip.id), able.map(|job| job.slip.id)), (None, Some(id)));
    // What nobody could do waits, and says so.
    let odd = stage.submit(1, Priority::Urgent, &["laser"]).await;
    let waits = stage.get(0, odd).await.waits_for.unwrap();
    assert_eq!(waits, "a worker with laser: none is registered");
}

#[tokio::test(start_paused = true)]
async fn classes_are_served_strictly_wherever_their_jobs_are_owned() {
    let stage = Stage::new(2).await;
    stage.register(0, "w", &[]).await;
    let mut ids = Vec::new();
    for (i, class) in [(0, Priority::Low), (1, Priority::Urgent), (0, Priority::High), (1, Priority::High)] {
        ids.push(stage.submit(i, class, &[]).await);
        sleep(Duration::from_millis(10)).await;
    }
    let mut got = Vec::new();
    while let Some(job) = stage.take(0, "w", 0).await {
        got.push(job.slip.id);
    }
    assert_eq!(got, [ids[1], ids[2], ids[3], ids[0]]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_worker_is_stale_and_its_job_is_the_first_of_its_queue_again() {
    let stage = Stage::new(2).await;
    stage.register(0, "silent", &[]).await;
    stage.register(1, "loud", &[]).await;
    let id = stage.submit(1, Priority::Normal, &[]).await;
    stage.submit(1, Priority::Normal, &[]).await;
    assert_eq!(stage.take(0, "silent", 0).await.unwrap().slip.id, id);
    sleep(Duration::from_secs(40)).await;
    assert_eq!(stage.look(1, "silent").await.status, Status::Stale);
    assert!(stage.look(1, "silent").await.health <= 0.5);
    sleep(Duration::from_secs(30)).await;
    let again = stage.take(1, "loud", 0).await.unwrap();
    assert_eq!((again.slip.id, again.slip.attempts), (id, 2));
    assert!(matches!(stage.finish(0, "silent", id, "1").await, Err(WorkerError::Lost(_))));
    assert_eq!(stage.finish(1, "loud", id, "2").await.unwrap().result.as_deref(), Some("2"));
    assert_eq!(stage.look(0, "silent").await.record.lost, 1);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_heard_of_keeps_its_job_and_what_it_does_not_name_goes_back() {
    let stage = Stage::new(2).await;
    stage.register(0, "w", &[]).await;
    let id = stage.submit(1, Priority::Normal, &[]).await;
    stage.take(0, "w", 0).await.unwrap();
    for _ in 0..10 {
        sleep(Duration::from_secs(20)).await;
        // At either node.
        stage.beat(1, "w", Some([id].into())).await.unwrap();
    }
    assert_eq!(stage.get(0, id).await.job.slip.attempts, 1);
    stage.beat(0, "w", Some(BTreeSet::new())).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    let slip = stage.get(0, id).await.job.slip;
    assert_eq!((slip.state, slip.attempts), (State::Queued, 1));
    assert!(matches!(stage.beat(0, "stranger", None).await, Err(WorkerError::NoSuchWorker(_))));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_takes_gives_the_job_back_uncounted() {
    let stage = Stage::new(1).await;
    stage.register(0, "w", &[]).await;
    let gone = tokio::time::timeout(Duration::from_secs(1), stage.take(0, "w", 30)).await;
    assert!(gone.is_err());
    let id = stage.submit(0, Priority::Normal, &[]).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(stage.get(0, id).await.job.slip.state, State::Queued);
    let job = stage.take(0, "w", 5).await.unwrap();
    assert_eq!((job.slip.id, job.slip.attempts), (id, 1));
}

#[tokio::test(start_paused = true)]
async fn what_an_owner_had_acknowledged_is_taken_over_when_it_dies() {
    let mut stage = Stage::new(3).await;
    stage.register(2, "w", &[]).await;
    let (held, waiting) = (stage.submit(0, Priority::High, &[]).await, stage.submit(0, Priority::Low, &[]).await);
    assert_eq!(stage.take(2, "w", 0).await.unwrap().slip.id, held);
    stage.swarm.kill(0).await;
    sleep(Duration::from_secs(10)).await;
    stage.beat(1, "w", None).await.unwrap();
    for i in 1..3 {
        assert_eq!(stage.get(i, waiting).await.job.slip.state, State::Queued);
        assert_ne!(stage.get(i, waiting).await.job.slip.owner, stage.swarm.id(0));
    }
    assert_eq!(stage.finish(1, "w", held, "1").await.unwrap().slip.state, State::Completed);
    assert_eq!(stage.take(1, "w", 5).await.unwrap().slip.id, waiting);
    stage.swarm.restart(0).await;
    stage.play(0).await;
    sleep(Duration::from_secs(30)).await;
    assert_eq!(stage.get(0, held).await.job.result.as_deref(), Some("1"));
    assert_eq!(stage.finish(0, "w", waiting, "2").await.unwrap().slip.state, State::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_home_dies_moves_in_with_whoever_it_talks_to() {
    let mut stage = Stage::new(2).await;
    stage.register(0, "w", &[]).await;
    stage.swarm.kill(0).await;
    sleep(Duration::from_secs(5)).await;
    stage.beat(1, "w", None).await.unwrap();
    let profile = stage.look(1, "w").await;
    assert_eq!((profile.worker.home, profile.status), (stage.swarm.id(1), Status::Active));
}

#[tokio::test(start_paused = true)]
async fn a_cleared_queue_is_empty_on_every_node() {
    let stage = Stage::new(2).await;
    let low = stage.submit(0, Priority::Low, &[]).await;
    stage.submit(1, Priority::Low, &[]).await;
    stage.submit(1, Priority::High, &[]).await;
    let cleared = stage.workers(1).ask(ASK_TIMEOUT, |port| Message::Clear(Wire(Priority::Low), port)).await;
    assert_eq!(cleared.unwrap(), 2);
    assert_eq!(stage.get(1, low).await.job.slip.state, State::Cancelled);
    advance(Duration::from_secs(1)).await;
    let stats = stage.workers(0).ask(ASK_TIMEOUT, Message::Stats).await.unwrap();
    assert_eq!((stats.queued[&Priority::Low], stats.queued[&Priority::High]), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_choice_of_strategy_is_the_whole_swarms_and_survives_a_restart() {
    let mut stage = Stage::new(2).await;
    let set = Message::Balance;
    stage.workers(0).ask(ASK_TIMEOUT, |port| set(Wire(Strategy::Weighted), port)).await.unwrap().unwrap();
    sleep(Duration::from_secs(1)).await;
    stage.swarm.kill(1).await;
    stage.swarm.restart(1).await;
    stage.play(1).await;
    sleep(Duration::from_secs(10)).await;
    let stats = stage.workers(1).ask(ASK_TIMEOUT, Message::Stats).await.unwrap();
    assert_eq!(stats.strategy, Strategy::Weighted);
}
