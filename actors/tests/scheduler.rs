//! Schedulers on a mesh in memory, in paused time: where commands go, and what becomes of them when nodes drain, die and
//! come back. Commands are imitated; real processes are `processes.rs`.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use ractor::RpcReplyPort;
use skep_actors::{
    ledger,
    node::{self, messages::Duty},
    runtime::{Handle, Wire, frames, swarm::Finding},
    scheduler::{
        self, Course, Message, Record, ScheduleError, Spec, State,
        messages::{Output, Priority},
    },
    task,
    testing::Swarm,
};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

const DEADLINE: Duration = Duration::from_secs(30);

type Scheduler = Handle<Message>;

async fn boot(swarm: &Swarm, i: usize) -> Scheduler {
    let context = swarm.context(i);
    node::start(context, swarm.root(i)).await.unwrap();
    ledger::start(context, swarm.root(i)).await.unwrap();
    scheduler::start(context, swarm.root(i)).await.unwrap();
    context.directory.here(scheduler::NAME)
}

async fn swarm(n: usize) -> (Swarm, Vec<Scheduler>) {
    let swarm = Swarm::new(n).await;
    let mut schedulers = Vec::new();
    for i in 0..n {
        schedulers.push(boot(&swarm, i).await);
    }
    (swarm, schedulers)
}

fn spec(command: &str) -> Spec {
    Spec::new(command)
}

fn on(node: &str, command: &str) -> Spec {
    Spec { node: Some(node.into()), ..spec(command) }
}

async fn submit(scheduler: &Scheduler, spec: Spec) -> Result<Record, ScheduleError> {
    scheduler.ask(DEADLINE, |reply| Message::Submit(Wire(spec), reply)).await.unwrap()
}

async fn get(scheduler: &Scheduler, id: Uuid) -> Record {
    scheduler.ask(DEADLINE, |reply| Message::Get(Wire(id), reply)).await.unwrap().unwrap()
}

/// The record once it is as wanted, within a virtual minute or two.
async fn until(scheduler: &Scheduler, id: Uuid, wanted: impl Fn(&Record) -> bool) -> Record {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let record = get(scheduler, id).await;
        if wanted(&record) {
            return record;
        }
        assert!(Instant::now() < deadline, "{record:?}");
        sleep(Duration::from_millis(100)).await;
    }
}

async fn ended(scheduler: &Scheduler, id: Uuid) -> Record {
    until(scheduler, id, |r| r.finished_ms.is_some()).await
}

async fn running(scheduler: &Scheduler, id: Uuid) -> Record {
    until(scheduler, id, |r| r.started_ms.is_some()).await
}

#[tokio::test(start_paused = true)]
async fn a_key_names_one_task_whichever_node_is_asked() {
    let (_swarm, schedulers) = swarm(3).await;
    let keyed = |command: &str| Spec { idempotency_key: Some("order 7".into()), ..spec(command) };
    let first = submit(&schedulers[0], keyed("echo once")).await.unwrap();
    let again = submit(&schedulers[0], keyed("echo once")).await.unwrap();
    let elsewhere = submit(&schedulers[2], keyed("echo once")).await.unwrap();
    assert_eq!((again.id, elsewhere.id, elsewhere.owner), (first.id, first.id, first.owner));
    ended(&schedulers[0], first.id).await;
    assert_eq!(submit(&schedulers[1], keyed("echo once")).await.unwrap().output, "once\n");
    let other = submit(&schedulers[1], keyed("echo twice")).await;
    assert_eq!(other.unwrap_err(), ScheduleError::KeyTaken(first.id));
    assert_ne!(submit(&schedulers[0], spec("echo once")).await.unwrap().id, first.id);
}

#[tokio::test(start_paused = true)]
async fn of_two_submissions_with_one_key_at_once_one_is_taken() {
    let (_swarm, schedulers) = swarm(1).await;
    let keyed = || Spec { idempotency_key: Some("order 7".into()), ..spec("attempt") };
    let (one, other) = tokio::join!(submit(&schedulers[0], keyed()), submit(&schedulers[0], keyed()));
    let taken = one.as_ref().or(other.as_ref()).unwrap().id;
    assert!([&one, &other].iter().all(|answer| answer.as_ref().is_ok_and(|r| r.id == taken) || answer.is_err()));
    assert_eq!(ended(&schedulers[0], taken).await.output, "1\n");
}

#[tokio::test(start_paused = true)]
async fn a_command_runs_on_the_node_that_was_chosen_and_any_node_knows_its_record() {
    let (swarm, schedulers) = swarm(3).await;
    let record = submit(&schedulers[0], on("n2", "echo hello; sleep 5; exit 3")).await.unwrap();
    assert_eq!(record.owner, swarm.id(0));
    let live = running(&schedulers[1], record.id).await;
    assert_eq!((live.assigned, live.output.as_str()), (Some(swarm.id(2)), "hello\n"));
    let record = ended(&schedulers[1], record.id).await;
    assert_eq!((record.state, record.exit_code, record.output.as_str()), (State::Failed, Some(3), "hello\n"));
    let listed = schedulers[2].ask(DEADLINE, |reply| Message::List(Wire(10), reply)).await.unwrap();
    assert_eq!(listed, [record]);
    let counted = swarm.context(0).metrics.values();
    assert_eq!((counted["tasks_submitted"], counted["tasks_failed"]), (1, 1), "{counted:?}");
}

#[tokio::test(start_paused = true)]
async fn commands_go_where_the_fewest_run_and_the_preferred_node_comes_first() {
    let (swarm, schedulers) = swarm(2).await;
    let mut places = Vec::new();
    for _ in 0..4 {
        places.push(submit(&schedulers[0], spec("sleep 60")).await.unwrap().assigned.unwrap());
    }
    places.sort();
    assert_eq!(places, [swarm.id(0), swarm.id(0), swarm.id(1), swarm.id(1)]);
    let preferred = Spec { preferred_node: Some("n1".into()), ..spec("sleep 60") };
    assert_eq!(submit(&schedulers[0], preferred).await.unwrap().assigned, Some(swarm.id(1)));
}

#[tokio::test(start_paused = true)]
async fn what_needs_all_cores_waits_for_its_turn_by_class() {
    let (_swarm, schedulers) = swarm(1).await;
    let all = |priority| Spec { cpus: 4, priority, ..spec("sleep 1") };
    let first = submit(&schedulers[0], all(Priority::Low)).await.unwrap();
    let low = submit(&schedulers[0], all(Priority::Low)).await.unwrap();
    let urgent = submit(&schedulers[0], all(Priority::Urgent)).await.unwrap();
    assert_eq!((first.state, low.state, urgent.state), (State::Running, State::Pending, State::Pending));
    let (low, urgent) = (ended(&schedulers[0], low.id).await, ended(&schedulers[0], urgent.id).await);
    assert!(urgent.started_ms < low.started_ms && urgent.finished_ms <= low.started_ms);
    let too_much = Spec { cpus: 5, ..spec("true") };
    assert!(matches!(submit(&schedulers[0], too_much).await, Err(ScheduleError::Impossible(_))));
}

#[tokio::test(start_paused = true)]
async fn a_command_whose_node_dies_runs_elsewhere_and_a_forced_one_fails() {
    let (mut swarm, schedulers) = swarm(3).await;
    let free = Spec { preferred_node: Some("n2".into()), ..spec("sleep 20; echo done") };
    let free = submit(&schedulers[0], free).await.unwrap();
    let forced = submit(&schedulers[0], on("n2", "sleep 20")).await.unwrap();
    running(&schedulers[0], free.id).await;
    running(&schedulers[0], forced.id).await;
    swarm.kill(2).await;
    let forced = ended(&schedulers[0], forced.id).await;
    assert_eq!((forced.state, forced.error.as_deref()), (State::Failed, Some("node n2 died")));
    let free = ended(&schedulers[0], free.id).await;
    assert_eq!((free.state, free.attempts, free.output.as_str()), (State::Completed, 2, "done\n"));
    assert!(matches!(submit(&schedulers[0], on("n2", "true")).await, Err(ScheduleError::NodeDown(_))));
    let unknown = ScheduleError::Named { field: "node".into(), error: node::NodeError::NoSuchNode("n9".into()) };
    assert_eq!(submit(&schedulers[0], on("n9", "true")).await.map(drop), Err(unknown));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_was_given_up_is_stopped_when_its_node_is_back() {
    let (swarm, schedulers) = swarm(2).await;
    let away = Spec { preferred_node: Some("n1".into()), ..spec("sleep 600") };
    let record = submit(&schedulers[0], away).await.unwrap();
    running(&schedulers[0], record.id).await;
    swarm.cut(1);
    let record = until(&schedulers[0], record.id, |r| r.attempts == 2 && r.started_ms.is_some()).await;
    assert_eq!(record.assigned, Some(swarm.id(0)));
    swarm.heal(1);
    let here = |stats: scheduler::Stats| stats.running_here;
    for _ in 0..100 {
        if here(schedulers[1].ask(DEADLINE, Message::Stats).await.unwrap()) == 0 {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(here(schedulers[1].ask(DEADLINE, Message::Stats).await.unwrap()), 0);
    assert_eq!(get(&schedulers[0], record.id).await.state, State::Running);
}

#[tokio::test(start_paused = true)]
async fn a_draining_node_takes_no_new_work_and_ends_what_it_has() {
    let (swarm, schedulers) = swarm(2).await;
    let old = submit(&schedulers[0], on("n1", "sleep 30; echo old")).await.unwrap();
    running(&schedulers[0], old.id).await;
    let node: Handle<node::Message> = swarm.context(1).directory.here(node::NAME);
    node.ask(DEADLINE, |reply| node::Message::Drain(Wire(Duty::NoNewWork), reply)).await.unwrap().unwrap();
    let findings: Vec<Finding> = node
        .ask(DEADLINE, node::Message::Health)
        .await
        .unwrap()
        .checks
        .into_iter()
        .map(|(finding, _)| finding)
        .collect();
    assert!(findings.iter().any(|f| f.check == "drain" && f.detail.contains("draining")));
    for _ in 0..3 {
        assert_eq!(submit(&schedulers[1], spec("sleep 9")).await.unwrap().assigned, Some(swarm.id(0)));
    }
    let waits = submit(&schedulers[0], on("n1", "echo new")).await.unwrap();
    assert_eq!(waits.state, State::Pending);
    assert_eq!(ended(&schedulers[0], old.id).await.output, "old\n");
    node.ask(DEADLINE, |reply| node::Message::Drain(Wire(Duty::Work), reply)).await.unwrap().unwrap();
    assert_eq!(ended(&schedulers[0], waits.id).await.output, "new\n");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_emptied_sends_its_work_to_others_but_for_what_must_run_there() {
    let (swarm, schedulers) = swarm(2).await;
    let away = Spec { preferred_node: Some("n1".into()), ..spec("sleep 20; echo done") };
    let long = submit(&schedulers[0], away).await.unwrap();
    let must = submit(&schedulers[0], on("n1", "sleep 300")).await.unwrap();
    running(&schedulers[0], long.id).await;
    running(&schedulers[0], must.id).await;
    let node: Handle<node::Message> = swarm.context(1).directory.here(node::NAME);
    node.ask(DEADLINE, |reply| node::Message::Drain(Wire(Duty::NoWork { within_s: 5 }), reply)).await.unwrap().unwrap();
    let record = ended(&schedulers[0], long.id).await;
    assert_eq!((record.state, record.assigned, record.attempts), (State::Completed, Some(swarm.id(0)), 2));
    assert_eq!(record.strikes, 0, "that is no fault of the command's");
    let record = ended(&schedulers[0], must.id).await;
    assert_eq!((record.state, record.error.as_deref()), (State::Failed, Some("node n1 was drained")));
}

#[tokio::test(start_paused = true)]
async fn a_step_waits_for_another_nodes_task_and_goes_on_when_its_keeper_is_gone() {
    let (mut swarm, schedulers) = swarm(3).await;
    let first = submit(&schedulers[1], on("n2", "sleep 20; echo first")).await.unwrap();
    let course = Course { after: vec![first.id], ..Course::default() };
    let second = submit(&schedulers[0], Spec { course: course.clone(), ..on("n2", "echo second") }).await.unwrap();
    assert_eq!(second.state, State::Pending);
    let unknown = Course { after: vec![Uuid::from_u128(7)], ..Course::default() };
    let refused = submit(&schedulers[0], Spec { course: unknown, ..spec("true") }).await.unwrap_err().to_string();
    assert!(refused.contains("no task 00000000-0000-0000-0000-000000000007 is known"), "{refused}");
    running(&schedulers[1], first.id).await;
    // Both the owner of what it waits for and its own are gone: an heir knows what it waits for.
    swarm.kill(0).await;
    swarm.kill(1).await;
    assert_eq!(ended(&schedulers[2], second.id).await.output, "second\n");
    let late = submit(&schedulers[2], Spec { course, ..spec("echo late") }).await.unwrap();
    assert_eq!(ended(&schedulers[2], late.id).await.output, "late\n");
}

#[tokio::test(start_paused = true)]
async fn cancelling_ends_what_runs_and_what_waits_from_any_node() {
    let (_swarm, schedulers) = swarm(3).await;
    let cancel = |scheduler: &Scheduler, id| {
        let scheduler = scheduler.clone();
        async move { scheduler.ask(DEADLINE, |reply| Message::Cancel(Wire(id), reply)).await.unwrap() }
    };
    let all = |command: &str| Spec { cpus: 4, ..on("n1", command) };
    let runs = submit(&schedulers[0], all("sleep 600")).await.unwrap();
    let waits = submit(&schedulers[0], all("sleep 600")).await.unwrap();
    running(&schedulers[0], runs.id).await;
    assert_eq!(cancel(&schedulers[2], waits.id).await.unwrap().state, State::Cancelled);
    assert_eq!(cancel(&schedulers[2], runs.id).await.unwrap().state, State::Cancelled);
    assert_eq!(cancel(&schedulers[0], runs.id).await, Err(ScheduleError::Over("cancelled".into())));
    assert_eq!(cancel(&schedulers[0], Uuid::nil()).await, Err(ScheduleError::NoSuchTask(Uuid::nil())));
    let stats = schedulers[0].ask(DEADLINE, Message::Stats).await.unwrap();
    assert_eq!((stats.cancelled, stats.in_flight), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_cancel_outlives_the_node_that_was_told() {
    for restarts in [false, true] {
        let (mut swarm, mut schedulers) = swarm(3).await;
        let long = Spec { preferred_node: Some("n1".into()), ..spec("sleep 1000") };
        let id = submit(&schedulers[0], long).await.unwrap().id;
        running(&schedulers[2], id).await;
        // It can't reach the node that runs it, and dies before it can.
        swarm.part(0, 1);
        let (told, witness) = (schedulers[0].clone(), &schedulers[2]);
        let dies = async {
            sleep(Duration::from_secs(1)).await;
            assert_eq!(get(witness, id).await.state, State::Running);
            swarm.kill(0).await;
        };
        let (cancelled, ()) = tokio::join!(told.ask(DEADLINE, |reply| Message::Cancel(Wire(id), reply)), dies);
        assert!(!matches!(cancelled, Ok(Ok(_))), "nobody was told that it has ended");
        swarm.meet(0, 1);
        if restarts {
            swarm.restart(0).await;
            schedulers[0] = boot(&swarm, 0).await;
        }
        let record = ended(&schedulers[2], id).await;
        assert_eq!((record.state, record.attempts), (State::Cancelled, 1), "{record:?}");
        // Nothing of it runs on.
        let scheduler = &schedulers[1];
        let deadline = Instant::now() + DEADLINE;
        while scheduler.ask(DEADLINE, Message::Stats).await.unwrap().running_here > 0 {
            assert!(Instant::now() < deadline, "it runs on");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_restarts_goes_on_with_its_records() {
    let (mut swarm, schedulers) = swarm(2).await;
    let there = submit(&schedulers[0], on("n1", "sleep 20; echo there")).await.unwrap();
    let here = submit(&schedulers[0], Spec { preferred_node: Some("n0".into()), ..spec("sleep 20; echo here") })
        .await
        .unwrap();
    let waits = submit(&schedulers[0], Spec { cpus: 4, ..on("n1", "sleep 1; echo a") }).await.unwrap();
    let waits_too = submit(&schedulers[0], Spec { cpus: 4, ..on("n1", "sleep 1; echo b") }).await.unwrap();
    running(&schedulers[0], there.id).await;
    running(&schedulers[0], here.id).await;
    swarm.kill(0).await;
    swarm.restart(0).await;
    let owner = boot(&swarm, 0).await;
    let there = ended(&owner, there.id).await;
    assert_eq!((there.output.as_str(), there.attempts), ("there\n", 1), "it ran through");
    let here = ended(&owner, here.id).await;
    assert_eq!((here.output.as_str(), here.attempts), ("here\n", 2), "it died with its node, and was run again");
    assert_eq!(ended(&owner, waits.id).await.output, "a\n");
    assert_eq!(ended(&owner, waits_too.id).await.output, "b\n");
}

#[tokio::test(start_paused = true)]
async fn an_ending_waits_for_its_owner_to_come_back() {
    let (mut swarm, schedulers) = swarm(2).await;
    let record = submit(&schedulers[0], on("n1", "sleep 5; echo x")).await.unwrap();
    running(&schedulers[0], record.id).await;
    swarm.kill(0).await;
    sleep(Duration::from_secs(60)).await;
    swarm.restart(0).await;
    let owner = boot(&swarm, 0).await;
    let record = ended(&owner, record.id).await;
    assert_eq!((record.output.as_str(), record.attempts), ("x\n", 1));
}

#[tokio::test(start_paused = true)]
async fn a_follower_sees_the_output_as_it_comes_also_if_it_came_before_the_command_ran() {
    let (swarm, schedulers) = swarm(3).await;
    submit(&schedulers[0], Spec { cpus: 4, ..on("n1", "sleep 10") }).await.unwrap();
    let record = submit(
        &schedulers[0],
        Spec { cpus: 4, ..on("n1", "echo one; sleep 5; echo two; sleep 5; flood 100000; exit 4") },
    )
    .await
    .unwrap();
    assert_eq!(record.state, State::Pending);
    let directory = &swarm.context(2).directory;
    let expected = directory.expect(swarm.id(0), swarm.context(2).env.ticket()).unwrap();
    let follow = (record.id, swarm.id(2), expected.ticket());
    schedulers[2].ask(DEADLINE, |reply| Message::Follow(Wire(follow), reply)).await.unwrap().unwrap();
    let mut stream = expected.opened().await.unwrap();
    let (mut text, mut skipped) = (Vec::new(), 0);
    let ending = loop {
        match frames::read::<Output>(&mut stream.reader).await.unwrap().expect("it ends with its ending") {
            Output::Bytes(bytes) => text.extend(bytes),
            Output::Skipped(bytes) => skipped += bytes,
            Output::Ended(ending) => break ending,
        }
    };
    assert!(text.starts_with(b"one\ntwo\n"));
    assert_eq!((text.len() as u64 + skipped, ending.output_bytes), (100_008, 100_008));
    assert_eq!((ending.state, ending.exit_code), (State::Failed, Some(4)));
}

#[tokio::test(start_paused = true)]
async fn who_stops_following_a_quiet_command_leaves_its_place_to_others() {
    let (swarm, schedulers) = swarm(2).await;
    let record = submit(&schedulers[0], on("n1", "sleep 3600")).await.unwrap();
    running(&schedulers[0], record.id).await;
    // More than there are places at once.
    for _ in 0..300 {
        let directory = &swarm.context(0).directory;
        let expected = directory.expect(swarm.id(0), swarm.context(0).env.ticket()).unwrap();
        let follow = (record.id, swarm.id(0), expected.ticket());
        schedulers[0].ask(DEADLINE, |reply| Message::Follow(Wire(follow), reply)).await.unwrap().unwrap();
        drop(expected.opened().await.unwrap());
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_asker_that_gives_up_ends_neither_the_scheduler_nor_a_command() {
    let (swarm, schedulers) = swarm(1).await;
    let record = submit(&schedulers[0], spec("sleep 3600")).await.unwrap();
    running(&schedulers[0], record.id).await;
    let directory = &swarm.context(0).directory;
    let (node, task) = (directory.here::<node::Message>(node::NAME), directory.here(task::name(record.id)));
    node.tell(node::Message::Status(nobody())).await.unwrap();
    node.tell(node::Message::List(nobody())).await.unwrap();
    node.tell(node::Message::Waiting(nobody())).await.unwrap();
    node.tell(node::Message::MetricsText(nobody())).await.unwrap();
    task.tell(task::Message::Look(nobody())).await.unwrap();
    schedulers[0].tell(Message::Own(Wire(1), nobody())).await.unwrap();
    schedulers[0].tell(Message::Stats(nobody())).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert!(node.ask(DEADLINE, node::Message::Status).await.is_ok());
    assert!(task.ask(DEADLINE, task::Message::Look).await.is_ok());
    assert_eq!(get(&schedulers[0], record.id).await.state, State::Running);
}

/// A port whose asker has gone.
fn nobody<T: Send + 'static>() -> RpcReplyPort<Wire<T>> {
    tokio::sync::oneshot::channel().0.into()
}

#[tokio::test(start_paused = true)]
async fn a_time_limit_ends_a_command() {
    let (_swarm, schedulers) = swarm(1).await;
    let record = submit(&schedulers[0], Spec { timeout_s: 2, ..spec("sleep 600") }).await.unwrap();
    let record = ended(&schedulers[0], record.id).await;
    assert_eq!(record.state, State::Failed);
    assert!(record.error.unwrap().contains("limit of 2 s"));
}
