//! How a turn is begun: its message, what was said before it and its agent's definition become a goal, which is given to
//! the node that the core chose.

use super::{
    desk::{Desk, SAID_BYTES_MAX},
    messages::{Role, Said, Thread, ThreadError, Turn},
};
use crate::{
    agent::{self, AgentError, Goal, Run, Seat, Strategy, tools::ask_agent},
    budget::BudgetError,
    organism::Agent,
    pipeline,
};
use skep_runtime::{NodeId, Wire, defaults::ASK_TIMEOUT};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use uuid::Uuid;

/// How long starting a run may take: its documents are fetched, its record is written, its budget adopted.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Messages of a thread that an agent is told of, at most, and their bytes: what a small model's context holds.
const HISTORY_MAX: usize = 64;
const HISTORY_BYTES_MAX: usize = 24 << 10;
/// Messages that are looked at for those: others may be between agents that this one has nothing to do with.
const LOOKED_AT_MAX: usize = 512;
/// Bytes of the words around another agent's question.
const AROUND_BYTES: usize = 128;

impl Desk {
    /// Has a turn worked on at the node that it names.
    pub(super) async fn start(self: Arc<Self>, id: Uuid) {
        let (turn, thread) = {
            let core = self.core();
            let Some(turn) = core.turn(id).cloned() else { return };
            let Ok(thread) = core.thread(turn.thread).cloned() else { return };
            (turn, thread)
        };
        let Some(node) = turn.node else { return };
        let goal = match self.goal(&turn, &thread).await {
            Ok(goal) => goal,
            // What is wrong with this node may pass.
            Err(error @ (ThreadError::Store(_) | ThreadError::Ledger(_) | ThreadError::Link(_))) => {
                return self.wait(id, &error.to_string());
            }
            Err(ThreadError::Budget(error)) if error.is_passing() => return self.wait(id, &error.to_string()),
            Err(ThreadError::Moving(_)) => return,
            Err(error) => return self.fail(id, &error.to_string()),
        };
        let sandbox = match turn.sandbox.or(goal.sandbox) {
            Some(level) => level,
            None => self.context.fences.found(&self.context).await.best,
        };
        let goal = Goal { sandbox: Some(sandbox), ..goal };
        self.core().capped(id, &goal);
        self.changed();
        let agents = self.context.directory.at::<agent::Message>(node, agent::NAME);
        let started = agents.ask(START_TIMEOUT, |reply| agent::Message::Start(Wire(goal), reply)).await;
        match started {
            Ok(Ok(run)) => self.heard(run).await,
            Ok(Err(AgentError::Full(why))) => self.wait(id, &why),
            // What is wrong with that node need not be wrong with the next.
            Ok(Err(error @ (AgentError::Store(_) | AgentError::Link(_)))) => {
                let (now_ms, uptime) = (self.now_ms(), self.uptime());
                self.core().unstarted(id, &error.to_string(), (now_ms, uptime));
                self.changed();
            }
            Ok(Err(error)) => self.fail(id, &error.to_string()),
            // It may have begun: its node is asked about it soon.
            Err(error) => {
                tracing::debug!(turn = %id, %error, "a node did not say that it began a turn");
                let uptime = self.uptime();
                self.core().unheard(id, uptime);
            }
        }
    }

    async fn heard(self: &Arc<Self>, run: Run) {
        let id = run.id;
        if let Err(error) = self.moved(run).await {
            tracing::debug!(run = %id, %error, "how a run stands could not be noted");
        }
    }

    /// There is no place for a turn now.
    fn wait(&self, id: Uuid, why: &str) {
        tracing::debug!(turn = %id, why, "a turn waits for a place");
        let uptime = self.uptime();
        self.core().crowded(id, uptime);
        self.changed();
    }

    fn fail(&self, id: Uuid, why: &str) {
        let now_ms = self.now_ms();
        self.core().failed(id, agent::bounded(why, 1024), now_ms);
        self.changed();
        self.wake();
    }

    /// Asks a turn's node how its run is.
    pub(super) async fn ask_after(self: Arc<Self>, id: Uuid, run: Uuid, node: NodeId) {
        let agents = self.context.directory.at::<agent::Message>(node, agent::NAME);
        match agents.ask(ASK_TIMEOUT, |reply| agent::Message::Find(Wire(run), reply)).await {
            Ok(Ok(run)) => self.heard(run).await,
            Ok(Err(AgentError::NoSuchRun(_))) => {
                let same = self.core().turn(id).is_some_and(|turn| turn.run == run);
                if same {
                    let now_ms = self.now_ms();
                    self.core().lost(id, "its node doesn't know of it", now_ms);
                    self.changed();
                    self.wake();
                }
            }
            Ok(Err(error)) => tracing::debug!(turn = %id, %error, "a turn's run can't be read"),
            Err(error) => tracing::debug!(turn = %id, %error, "a turn's node does not answer"),
        }
    }

    /// What the agent is to do, and with what.
    async fn goal(&self, turn: &Turn, thread: &Thread) -> Result<Goal, ThreadError> {
        let said = self.said_at(turn.thread, turn.message)?;
        let said = said.ok_or_else(|| ThreadError::Store("the message is not there".into()))?;
        let known = self.budget(thread.id).await?;
        let remaining = known.remaining();
        if remaining == 0 {
            // Before any of it is spent.
            return Err(BudgetError::Exhausted { wanted: 1, remaining, max: known.max }.into());
        }
        if let Some(goal) = &turn.goal {
            return Ok(self.given(turn, goal, said.content(), remaining));
        }
        let agent = self.agent(&turn.agent)?.ok_or_else(|| ThreadError::NoSuchAgent(turn.agent.clone()))?;
        let mut peers = Vec::new();
        for name in &agent.peers {
            peers.extend(self.agent(name)?.map(|peer| (peer.name, peer.description)));
        }
        let mut tools = agent.tools.clone();
        if !peers.is_empty() {
            tools.push(ask_agent::NAME.into());
        }
        let words = match turn.within {
            Some(_) => {
                format!(
                    "The agent {} asks you:\n{}",
                    turn.from,
                    agent::bounded(&said.content(), SAID_BYTES_MAX - AROUND_BYTES)
                )
            }
            None => said.content(),
        };
        let seat = Seat {
            run: turn.run,
            turn: turn.id,
            thread: thread.id,
            owner: self.context.directory.id(),
            agent: agent.name.clone(),
            instructions: agent.instructions.clone(),
            peers,
            history: self.history(turn)?,
            done: turn.steps.clone(),
            // One whose asker is not known here is waited for all the same.
            waiting: self.waiting_for(turn).map_or(1, |agents| u8::try_from(agents.len() - 1).unwrap_or(u8::MAX)),
        };
        Ok(Goal {
            goal: words,
            strategy: if tools.is_empty() { Strategy::Answer } else { Strategy::React },
            tools,
            model: thread.model.clone().or(agent.model),
            budget: agent.budget.unwrap_or(remaining).min(remaining),
            seat: Some(Box::new(seat)),
            ..Goal::default()
        })
    }

    /// What this agent said and was told before, oldest first: the newest of it that fits.
    fn history(&self, turn: &Turn) -> Result<Vec<pipeline::Turn>, ThreadError> {
        let (mut out, mut bytes) = (VecDeque::new(), 0);
        let meant = |said: &Said| said.from == turn.agent || said.to == turn.agent;
        let known = self.core().said(turn.thread);
        let before = known.iter().rev().filter(|(number, _)| *number < turn.number);
        for (_, message) in before.take(LOOKED_AT_MAX) {
            let Some(said) = self.said_at(turn.thread, *message)? else { continue };
            if !meant(&said) {
                continue;
            }
            let content = said.content();
            bytes += content.len();
            if out.len() >= HISTORY_MAX || bytes > HISTORY_BYTES_MAX {
                break;
            }
            let own = said.from == turn.agent && said.role == Role::Assistant;
            out.push_front(pipeline::Turn { role: if own { "assistant" } else { "user" }.into(), content });
        }
        Ok(out.into())
    }
}

impl Agent {
    /// Whether it may ask the agent of this name.
    pub(super) fn may_ask(&self, name: &str) -> bool {
        self.peers.iter().any(|peer| peer == name)
    }
}
