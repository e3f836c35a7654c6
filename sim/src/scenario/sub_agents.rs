//! A goal over some documents is worked on by sub-agents on other nodes, which die under them. It ends with an answer or
//! a reason; its budget is kept; nothing of it stays reserved or leased.

use crate::{World, clock, property};
use anyhow::{Context, Result, ensure};
use rand::RngExt;
use skep_actors::{
    agent::{self, Message as Agents, Run, RunState, messages::Goal, messages::Strategy},
    budget::{self, Budget, Message as Budgets},
};
use skep_runtime::Wire;
use std::time::Duration;
use uuid::Uuid;

const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a goal may take, with nodes that die and are missed.
const GOAL_TIMEOUT: Duration = Duration::from_secs(900);
/// How long a lease may be out after the goal has ended: its holder has to be missed, and its rest to come back.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(120);
/// How often is looked, and perhaps struck: thinking takes no virtual time, only words on their way do.
const LOOK_PERIOD: Duration = Duration::from_millis(20);
const BUDGET_TOKENS: u64 = 20_000;
const DOCUMENTS: usize = 12;

pub(super) async fn run(world: &mut World) -> Result<()> {
    let model = world.plant_model()?;
    world.form(4).await?;
    property::view_becomes_truth(world).await?;
    property::cards_are_known(world).await?;
    let nodes = world.shuffled();
    let home = nodes[0];

    let goal = goal(model);
    let agents = world.node(home)?.directory().here::<Agents>(agent::NAME);
    let run = agents.ask(ASK_TIMEOUT, |reply| Agents::Start(Wire(goal), reply)).await??;
    world.note("the goal was taken");
    let start = clock::now();
    let mut deaths = world.rng().random_range(0..=3);
    let run = loop {
        world.pass(LOOK_PERIOD).await;
        let now = look(world, home, run.id).await?;
        kept(world, home, run.thread).await?;
        if now.state.ended() {
            break now;
        }
        let strikes = deaths > 0 && !now.children.is_empty() && world.rng().random_bool(0.05);
        if strikes {
            deaths -= 1;
            let victim = nodes[world.rng().random_range(1..nodes.len())];
            world.crash(victim)?;
            world.pass_up_to(Duration::from_secs(20)).await;
            world.start(victim).await?;
        }
        let took = clock::now() - start;
        ensure!(took < GOAL_TIMEOUT, "after {} s the goal is: {now:?}", took.as_secs());
    };
    world.note(&format!("the goal is {:?} with {} sub-agents: {:?}", run.state, run.children.len(), run.error));
    ensure!(run.state == RunState::Completed || run.error.is_some(), "it ended without a reason: {run:?}");
    settled(world, home, run.thread).await?;
    property::view_becomes_truth(world).await?;
    property::nothing_outlives_its_node(world).await
}

fn goal(model: &str) -> Goal {
    let documents =
        (0..DOCUMENTS).map(|n| (format!("page {n}"), format!("The {n}th bee went out and came back. ").repeat(8)));
    Goal {
        goal: "What happened?".into(),
        strategy: Strategy::MapReduce,
        tools: Vec::new(),
        model: Some(model.into()),
        node: None,
        budget: BUDGET_TOKENS,
        parent: None,
        documents: documents.collect(),
        folder: None,
    }
}

async fn look(world: &World, home: usize, run: Uuid) -> Result<Run> {
    let agents = world.node(home)?.directory().here::<Agents>(agent::NAME);
    Ok(agents.ask(ASK_TIMEOUT, |reply| Agents::Get(Wire(run), reply)).await??)
}

async fn budget_of(world: &World, home: usize, thread: Uuid) -> Result<Budget> {
    let budgets = world.node(home)?.directory().here::<Budgets>(budget::NAME);
    Ok(budgets.ask(ASK_TIMEOUT, |reply| Budgets::Look(Wire(thread), reply)).await??)
}

/// What is spent, reserved and leased never exceeds the budget, at any moment.
async fn kept(world: &World, home: usize, thread: Uuid) -> Result<Budget> {
    let budget = budget_of(world, home, thread).await?;
    let out = budget.spent() + budget.reserved + budget.leased;
    ensure!(out <= BUDGET_TOKENS, "{out} tokens are out of {BUDGET_TOKENS}: {budget:?}");
    Ok(budget)
}

/// When a goal has ended, its leases come to an end, too.
async fn settled(world: &World, home: usize, thread: Uuid) -> Result<()> {
    let start = clock::now();
    loop {
        let budget = kept(world, home, thread).await.context("after the goal's end")?;
        if budget.reserved + budget.leased == 0 {
            world.note(&format!("the goal cost {} tokens", budget.spent()));
            return Ok(());
        }
        ensure!(clock::now() - start < SETTLE_TIMEOUT, "tokens stay out: {budget:?}");
        world.pass(LOOK_PERIOD).await;
    }
}
