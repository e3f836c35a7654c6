//! A goal that a node is given, and its budget: what scenarios do with agents.

use crate::{World, clock};
use anyhow::{Context, Result, ensure};
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
/// How often is looked: thinking takes no virtual time, only words on their way do.
pub(super) const LOOK_PERIOD: Duration = Duration::from_millis(20);
const BUDGET_TOKENS: u64 = 20_000;
const DOCUMENTS: usize = 12;

/// A goal under way.
pub(super) struct Errand {
    home: usize,
    run: Uuid,
    thread: Uuid,
    since: Duration,
}

impl Errand {
    /// Gives `home` a goal over some documents. `Err` if it doesn't take it.
    pub(super) async fn start(world: &World, home: usize, model: &str) -> Result<Errand> {
        let agents = world.node(home)?.directory().here::<Agents>(agent::NAME);
        let run = agents.ask(ASK_TIMEOUT, |reply| Agents::Give(Wire(goal(model)), reply)).await??;
        world.note(&format!("{home} took a goal"));
        Ok(Errand { home, run: run.id, thread: run.thread, since: clock::now() })
    }

    /// The run as its home knows it.
    pub(super) async fn look(&self, world: &World) -> Result<Run> {
        let agents = world.node(self.home)?.directory().here::<Agents>(agent::NAME);
        Ok(agents.ask(ASK_TIMEOUT, |reply| Agents::Get(Wire(self.run), reply)).await??)
    }

    /// What is spent, reserved and leased never exceeds the budget, at any moment. `None`: whoever keeps it is being found.
    pub(super) async fn is_kept(&self, world: &World) -> Result<Option<Budget>> {
        let budgets = world.node(self.home)?.directory().here::<Budgets>(budget::NAME);
        let known = budgets.ask(ASK_TIMEOUT, |reply| Budgets::Get(Wire(self.thread), reply)).await?;
        let Ok(budget) = known else { return Ok(None) };
        let out = budget.spent() + budget.reserved + budget.leased;
        ensure!(out <= BUDGET_TOKENS, "{out} tokens are out of {BUDGET_TOKENS}: {budget:?}");
        Ok(Some(budget))
    }

    /// `None` while it is worked on. It ends within [`GOAL_TIMEOUT`], with an answer or a reason.
    pub(super) async fn ended(&self, world: &World) -> Result<Option<Run>> {
        let run = self.look(world).await?;
        if run.state.ended() {
            ensure!(run.state == RunState::Completed || run.error.is_some(), "it ended without a reason: {run:?}");
            let (children, why) = (run.children.len(), &run.error);
            world.note(&format!("the goal is {:?} with {children} sub-agents: {why:?}", run.state));
            return Ok(Some(run));
        }
        let took = clock::now() - self.since;
        ensure!(took < GOAL_TIMEOUT, "after {} s the goal is: {run:?}", took.as_secs());
        Ok(None)
    }

    /// When it has ended, its leases come to an end, too.
    pub(super) async fn settled(&self, world: &World) -> Result<()> {
        let start = clock::now();
        loop {
            let budget = self.is_kept(world).await.context("after the goal's end")?;
            if let Some(budget) = budget.as_ref().filter(|budget| budget.reserved + budget.leased == 0) {
                world.note(&format!("the goal cost {} tokens", budget.spent()));
                return Ok(());
            }
            ensure!(clock::now() - start < SETTLE_TIMEOUT, "tokens stay out: {budget:?}");
            world.pass(LOOK_PERIOD).await;
        }
    }
}

fn goal(model: &str) -> Goal {
    let documents =
        (0..DOCUMENTS).map(|n| (format!("page {n}"), format!("The {n}th bee went out and came back. ").repeat(8)));
    Goal {
        goal: "What happened?".into(),
        strategy: Strategy::MapReduce,
        model: Some(model.into()),
        budget: BUDGET_TOKENS,
        documents: documents.collect(),
        ..Goal::default()
    }
}
