//! What a run costs that waits for its model: its actor as it is published, with its budget's account, its record and its
//! tasks. (An agent that the swarm has defined and that has nothing to do has no actor: it is a record of the ledger.)
//!
//! A process of its own, for the memory of the whole is looked at. Beside it, in the same run, a bare ractor actor.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed test panics and says where")]

use ractor::{Actor, ActorProcessingErr, ActorRef};
use skep_actors::{
    agent::{self, Goal, Strategy},
    budget, model,
    runtime::Wire,
    testing::Swarm,
};
use std::time::Duration;
use tokio::sync::mpsc;

/// What a run that waits may take, in a build for tests: three of a bare actor. It took 26 to 27 KiB when this was written.
const RUN_BYTES_MAX: u64 = 32 << 10;
const NODES: usize = 32;
/// As many as a node works on at once, but for those that others wait for.
const AGENTS: usize = 48;

/// In the place of the models: has its askers wait.
struct Slow;

impl Actor for Slow {
    type Msg = model::Message;
    type State = (mpsc::UnboundedSender<()>, Vec<model::Message>);
    type Arguments = mpsc::UnboundedSender<()>;

    async fn pre_start(
        &self,
        _: ActorRef<model::Message>,
        asked: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok((asked, Vec::new()))
    }

    async fn handle(
        &self,
        _: ActorRef<model::Message>,
        message: model::Message,
        (asked, kept): &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        kept.push(message);
        Ok(asked.send(())?)
    }
}

/// Does nothing.
struct Bare;

struct Nothing;

impl ractor::Message for Nothing {}

impl Actor for Bare {
    type Msg = Nothing;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Nothing>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

fn goal() -> Goal {
    Goal { goal: "wait".into(), strategy: Strategy::Answer, budget: 1000, ..Goal::default() }
}

#[tokio::test]
async fn a_run_that_waits_takes_less_than_32_kib() {
    let swarm = Swarm::new(NODES).await;
    let (asked, mut asks) = mpsc::unbounded_channel();
    for i in 0..NODES {
        let (context, root) = (swarm.context(i), swarm.root(i));
        budget::start(context, root.clone()).await.unwrap();
        context.directory.spawn(model::NAME, Slow, asked.clone(), Some(root.clone())).await.unwrap();
        agent::start(context, root).await.unwrap();
    }
    let start = async |i: usize| {
        let agents = swarm.context(i).directory.here::<agent::Message>(agent::NAME);
        agents.ask(Duration::from_secs(20), |r| agent::Message::Start(Wire(goal()), r)).await.unwrap().unwrap();
    };
    // What the first one makes for all of them is not counted.
    for i in 0..NODES {
        start(i).await;
        asks.recv().await.unwrap();
    }
    let before = resident_bytes();
    for _ in 1..AGENTS {
        for i in 0..NODES {
            start(i).await;
            asks.recv().await.unwrap();
        }
    }
    let agents = (AGENTS - 1) * NODES;
    let each = (resident_bytes() - before) / agents as u64;
    let before = resident_bytes();
    let mut bare = Vec::new();
    for _ in 0..agents {
        bare.push(Actor::spawn(None, Bare, ()).await.unwrap());
    }
    let bare_each = (resident_bytes() - before) / bare.len() as u64;
    eprintln!("a run that waits takes {each} bytes, a bare ractor actor {bare_each}");
    assert!(each < RUN_BYTES_MAX, "{each} bytes, where a bare ractor actor takes {bare_each}");
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
