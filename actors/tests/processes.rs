//! Real processes: what they leave behind (nothing), what they may write (much, and little is kept), how they end.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use skep_actors::{
    ledger, node,
    runtime::{Handle, Wire, frames},
    scheduler::{self, Message, Record, Spec, State, messages::Output},
    task::{Mark, family::Family},
    testing::Swarm,
};
use std::{collections::BTreeMap, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, interval},
};

const DEADLINE: Duration = Duration::from_secs(30);

struct Lone {
    swarm: Swarm,
    scheduler: Handle<Message>,
}

impl Lone {
    async fn new() -> Lone {
        let swarm = Swarm::of_machine(1).await;
        node::start(swarm.context(0), swarm.root(0)).await.unwrap();
        ledger::start(swarm.context(0), swarm.root(0)).await.unwrap();
        scheduler::start(swarm.context(0), swarm.root(0)).await.unwrap();
        let scheduler = swarm.context(0).directory.here(scheduler::NAME);
        Lone { swarm, scheduler }
    }

    async fn submit(&self, spec: Spec) -> Record {
        self.scheduler.ask(DEADLINE, |reply| Message::Submit(Wire(spec), reply)).await.unwrap().unwrap()
    }

    /// The output up to the end, or to `marker`.
    async fn follow(&self, record: &Record, marker: Option<&str>) -> (Vec<u8>, u64) {
        let context = self.swarm.context(0);
        let expected = context.directory.expect(self.swarm.id(0), context.env.ticket()).unwrap();
        let follow = (record.id, self.swarm.id(0), expected.ticket());
        self.scheduler.ask(DEADLINE, |reply| Message::Follow(Wire(follow), reply)).await.unwrap().unwrap();
        let mut stream = expected.opened().await.unwrap();
        let (mut text, mut skipped) = (Vec::new(), 0);
        while let Some(frame) = frames::read::<Output>(&mut stream.reader).await.unwrap() {
            match frame {
                Output::Bytes(bytes) => text.extend(bytes),
                Output::Skipped(bytes) => skipped += bytes,
                Output::Ended(_) => break,
            }
            if marker.is_some_and(|m| String::from_utf8_lossy(&text).contains(m)) {
                break;
            }
        }
        (text, skipped)
    }

    async fn get(&self, id: uuid::Uuid) -> Record {
        self.scheduler.ask(DEADLINE, |reply| Message::Get(Wire(id), reply)).await.unwrap().unwrap()
    }

    async fn run(&self, spec: Spec) -> Record {
        let record = self.submit(spec).await;
        self.follow(&record, None).await;
        self.get(record.id).await
    }

    /// The record of a command that has said "ready". Right after its submission it may wait, without an attempt.
    async fn ready(&self, spec: Spec) -> Record {
        let record = self.submit(spec).await;
        self.follow(&record, Some("ready")).await;
        let record = self.get(record.id).await;
        assert!(left(&record), "it runs: {record:?}");
        record
    }

    async fn cancel(&self, record: &Record) -> Record {
        self.scheduler.ask(DEADLINE, |reply| Message::Cancel(Wire(record.id), reply)).await.unwrap().unwrap()
    }
}

/// This program can't stand between a node and its commands, so there is no fence around them.
fn spec(command: &str) -> Spec {
    Spec::new(command).unfenced()
}

fn left(record: &Record) -> bool {
    let mark = Mark { node: record.owner, task: record.id, attempt: record.attempts };
    !Family::of_mark(mark).is_gone()
}

async fn cancelled_leaves_nothing(command: &str) {
    let lone = Lone::new().await;
    let record = lone.ready(spec(command)).await;
    assert_eq!(lone.cancel(&record).await.state, State::Cancelled);
    assert!(!left(&record), "{command}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_command_leaves_nothing_of_its_group() {
    cancelled_leaves_nothing("sleep 300 & echo ready; sleep 300").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_command_leaves_nothing_that_left_its_group_and_session() {
    cancelled_leaves_nothing("setsid sleep 300 & (setsid sh -c 'sleep 300 & sleep 300' &) ; echo ready; sleep 300")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_ignores_the_polite_signal_is_killed() {
    cancelled_leaves_nothing("trap '' TERM; echo ready; while :; do sleep 300; done").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_leaves_in_the_background_ends_with_it() {
    let lone = Lone::new().await;
    let record = lone.run(spec("setsid sleep 300 & sleep 300 & echo bye")).await;
    assert_eq!((record.state, record.output.as_str()), (State::Completed, "bye\n"));
    assert!(!left(&record));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_counted_and_little_of_it_is_kept() {
    let lone = Lone::new().await;
    let record = lone.submit(spec("yes 0123456789abcde | head -c 32000000")).await;
    let record = loop {
        let (_, _) = lone.follow(&record, None).await;
        let now = lone.get(record.id).await;
        if now.finished_ms.is_some() {
            break now;
        }
    };
    assert_eq!((record.state, record.output_bytes), (State::Completed, 32_000_000));
    assert!(record.output.len() <= 16 << 10);
    let folder = lone.swarm.context(0).home.join("tasks").join(record.id.to_string()).join("output");
    let bytes: u64 = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes <= 8 << 20, "{bytes}");
    let (text, skipped) = lone.follow(&record, None).await;
    assert_eq!(text.len() as u64 + skipped, 32_000_000);
    assert!(text.len() >= 7 << 20 && text.chunks_exact(16).all(|line| line == b"0123456789abcde\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_flood_can_be_cancelled() {
    let lone = Lone::new().await;
    let record = lone.ready(spec("echo ready; exec yes")).await;
    let record = lone.cancel(&record).await;
    assert!(record.state == State::Cancelled && !left(&record));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_has_a_clean_environment_and_a_folder_of_its_own() {
    let lone = Lone::new().await;
    let env = BTreeMap::from([("COLOUR".to_string(), "red & blue".to_string())]);
    let record = lone.run(Spec { env, ..spec("echo $COLOUR; pwd; echo $HOME; env | wc -l; cat") }).await;
    let lines: Vec<&str> = record.output.lines().collect();
    assert_eq!((lines[0], lines[1]), ("red & blue", lines[2]), "its home is where it is");
    // PATH, HOME, LANG, SKEP_TASK, COLOUR, and what the shell adds (PWD, SHLVL, _).
    assert!(lines[3].trim().parse::<u32>().unwrap() <= 8);
    let argv = Spec { args: vec!["a b".into(), "$HOME".into()], ..spec("echo") };
    assert_eq!(lone.run(argv).await.output, "a b $HOME\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn endings_say_what_happened() {
    let lone = Lone::new().await;
    let check = async |spec: Spec, state: State, code: Option<i32>, why: &str| {
        let record = lone.run(spec.clone()).await;
        assert_eq!((record.state, record.exit_code), (state, code), "{spec:?}");
        assert!(record.error.clone().unwrap_or_default().contains(why), "{:?}", record.error);
    };
    check(spec("true"), State::Completed, Some(0), "").await;
    check(spec("exit 7"), State::Failed, Some(7), "status 7").await;
    check(spec("nosuchprogram"), State::Failed, Some(127), "no such program").await;
    check(spec("kill -SEGV $$"), State::Failed, None, "signal 11").await;
    check(Spec { args: vec!["x".into()], ..spec("/no/such") }, State::Failed, None, "could not be started").await;
    check(Spec { dir: Some("/no/such".into()), ..spec("true") }, State::Failed, None, "is no folder").await;
    check(Spec { timeout_s: 1, ..spec("sleep 60") }, State::Failed, None, "limit of 1 s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_ends_its_commands() {
    let lone = Lone::new().await;
    let (_alive, _) = watch::channel(());
    let record = lone.ready(spec("echo ready; sleep 300 & sleep 300")).await;
    lone.swarm.root(0).stop_children_and_wait(None, Some(DEADLINE)).await;
    assert!(!left(&record));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_that_dies_takes_its_commands_with_it() {
    let lone = Lone::new().await;
    let record = lone.ready(spec("echo ready; sleep 300")).await;
    lone.swarm.root(0).kill();
    let (mut look, by) = (interval(Duration::from_millis(20)), Instant::now() + DEADLINE);
    while left(&record) {
        assert!(Instant::now() < by);
        look.tick().await;
    }
}
