//! Commands are given to one node and run on another. What they do is imitated by the task actor; that they run, where,
//! and what becomes of them when a node dies is real.

use crate::{World, clock, property};
use anyhow::{Context, Result, ensure};
use skep_actors::scheduler::{self, Message, Record, Spec, State};
use skep_runtime::{Handle, Wire};
use std::time::Duration;
use uuid::Uuid;

/// How long a question to a scheduler may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a record is looked at.
const LOOK_PERIOD: Duration = Duration::from_millis(200);

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(4).await?;
    property::view_becomes_truth(world).await?;
    property::cards_are_known(world).await?;
    let nodes = world.shuffled();
    let (owner, there, victim) = (nodes[0], nodes[1], nodes[2]);
    let desk: Handle<Message> = world.node(owner)?.directory().here(scheduler::NAME);

    let on = Spec { node: Some(world.name(there).into()), ..spec("sleep 2; echo hello; exit 3") };
    let record = submit(&desk, on).await?;
    let record = until(world, &desk, record.id, Duration::from_secs(20), ended).await?;
    ensure!(record.state == State::Failed && record.exit_code == Some(3), "it did not fail with 3: {record:?}");
    ensure!(record.output == "hello\n", "its output is {:?}", record.output);
    ensure!(record.assigned == Some(world.id(there)), "it did not run where it was told to");

    let preferred = Spec { preferred_node: Some(world.name(victim).into()), ..spec("sleep 20; echo done") };
    let record = submit(&desk, preferred).await?;
    let runs = |record: &Record| record.state == State::Running && record.started_ms.is_some();
    let record = until(world, &desk, record.id, Duration::from_secs(20), runs).await?;
    ensure!(record.assigned == Some(world.id(victim)), "it does not run where it was preferred to");
    world.crash(victim)?;
    let record = until(world, &desk, record.id, Duration::from_secs(60), ended).await?;
    ensure!(record.state == State::Completed && record.attempts == 2, "it did not run again: {record:?}");
    world.start(victim).await?;
    property::view_becomes_truth(world).await?;
    property::nothing_outlives_its_node(world).await
}

fn ended(record: &Record) -> bool {
    record.state.ended()
}

async fn submit(desk: &Handle<Message>, spec: Spec) -> Result<Record> {
    let record = desk.ask(ASK_TIMEOUT, |reply| Message::Submit(Wire(spec), reply)).await?;
    record.context("the command was not taken")
}

async fn until(
    world: &World,
    desk: &Handle<Message>,
    id: Uuid,
    patience: Duration,
    done: impl Fn(&Record) -> bool,
) -> Result<Record> {
    let start = clock::now();
    loop {
        let record = desk.ask(ASK_TIMEOUT, |reply| Message::Get(Wire(id), reply)).await??;
        if done(&record) {
            world.note(&format!("a command is {:?} after {} attempts", record.state, record.attempts));
            return Ok(record);
        }
        ensure!(clock::now() - start < patience, "after {} s the command is: {record:?}", patience.as_secs());
        world.pass(LOOK_PERIOD).await;
    }
}

fn spec(command: &str) -> Spec {
    Spec { cpus: 1, ..Spec::new(command) }
}
