//! What agents were told: nothing of it is lost, and each is answered once or says why not.

use crate::{World, clock};
use anyhow::{Result, ensure};
use rand::RngExt;
use skep_actors::{
    agent::{self, Goal, messages::Strategy},
    organism,
    thread::{self, Message, Order, Origin, Post, Posted, Role, Thread, Turn, messages::WantedSaid},
};
use skep_runtime::Wire;
use std::{collections::BTreeMap, time::Duration};
use uuid::Uuid;

/// How long a question may take: an acknowledgement by another member is waited for 10 s, and a thread may have to be taken
/// over first.
const ASK_TIMEOUT: Duration = Duration::from_secs(30);
/// How long after the last fault the last answer may take: three attempts, each missed and begun again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);
const BUDGET_TOKENS: u64 = 30_000;
const AGENTS: [&str; 2] = ["lead", "clerk"];

/// What nodes have acknowledged.
pub struct Talks {
    posted: Vec<Posted>,
    /// Turns that were seen to have ended, and how.
    ended: BTreeMap<Uuid, thread::State>,
}

impl Talks {
    /// Defines agents that think with this model.
    pub async fn define(world: &World, by: usize, model: &str) -> Result<Talks> {
        let text = format!(
            "agents:\n  - {{name: lead, description: leads, model: '{model}'}}\n  - {{name: clerk, description: writes, model: '{model}'}}\n"
        );
        let organism = world.node(by)?.directory().here::<organism::Message>(organism::NAME);
        organism.ask(ASK_TIMEOUT, |reply| organism::Message::Load(Wire(text), reply)).await??;
        // The others know it by the next comparison at the latest.
        for number in world.running() {
            let organism = world.node(number)?.directory().here::<organism::Message>(organism::NAME);
            let start = clock::now();
            while organism.ask(ASK_TIMEOUT, organism::Message::List).await??.agents.len() < AGENTS.len() {
                ensure!(clock::now() - start < Duration::from_secs(60), "{number} doesn't know the agents");
                world.pass(Duration::from_millis(200)).await;
            }
        }
        Ok(Talks { posted: Vec::new(), ended: BTreeMap::new() })
    }

    /// Says something to an agent, in a new thread or in one that there is. A refusal promises nothing.
    pub async fn say(&mut self, world: &mut World, by: usize) -> Result<()> {
        // Nobody is told anything in a goal's thread.
        let talks: Vec<Uuid> =
            self.posted.iter().filter(|posted| !posted.message.is_nil()).map(|posted| posted.thread).collect();
        let old = (!talks.is_empty() && world.rng().random_bool(0.5))
            .then(|| talks[world.rng().random_range(0..talks.len())]);
        let agent = AGENTS[world.rng().random_range(0..AGENTS.len())];
        let post = Post {
            thread: old,
            to: Some(agent.into()),
            from: "user".into(),
            kind: None,
            payload: "{\"content\": \"What is a bee?\"}".into(),
            origin: Origin::Message,
            budget: Some(BUDGET_TOKENS),
            only_idle: false,
        };
        let threads = world.node(by)?.directory().here::<Message>(thread::NAME);
        let order = Wire(Order::new(post));
        match threads.ask(ASK_TIMEOUT, |reply| Message::Post(order, reply)).await {
            Ok(Ok(posted)) => {
                world.note(&format!("{by} took {} for {agent} in {}", posted.turn, posted.thread));
                self.posted.push(posted);
            }
            Ok(Err(error)) => world.note(&format!("{by} refused: {error}")),
            Err(error) => world.note(&format!("{by} did not answer: {error}")),
        }
        Ok(())
    }

    /// Gives a goal over some documents, which no agent is told: it goes on whoever dies. A refusal promises nothing.
    pub async fn give(&mut self, world: &World, by: usize, model: &str) -> Result<()> {
        let page = |n| (format!("page {n}"), format!("The {n}th bee went out and came back. ").repeat(8));
        let goal = Goal {
            goal: "What happened?".into(),
            strategy: Strategy::MapReduce,
            model: Some(model.into()),
            budget: BUDGET_TOKENS,
            documents: (0..6).map(page).collect(),
            ..Goal::default()
        };
        let agents = world.node(by)?.directory().here::<agent::Message>(agent::NAME);
        match agents.ask(ASK_TIMEOUT, |reply| agent::Message::Give(Wire(goal), reply)).await {
            Ok(Ok(run)) => {
                world.note(&format!("{by} took the goal {}", run.id));
                self.posted.push(Posted { thread: run.thread, message: Uuid::nil(), turn: run.id });
            }
            Ok(Err(error)) => world.note(&format!("{by} refused a goal: {error}")),
            Err(error) => world.note(&format!("{by} did not answer for a goal: {error}")),
        }
        Ok(())
    }

    /// A turn that ended stays as it ended, whoever is asked; no thread spends more than its budget.
    pub async fn are_kept(&mut self, world: &World) -> Result<()> {
        for number in world.running() {
            let threads = world.node(number)?.directory().here::<Message>(thread::NAME);
            for posted in &self.posted {
                let thread = threads.ask(ASK_TIMEOUT, |reply| Message::Get(Wire(posted.thread), reply)).await?;
                if let Ok(Thread { budget, prompt, completion, .. }) = thread {
                    let spent = prompt + completion;
                    ensure!(spent <= budget, "{} of {budget} tokens are spent in {}", spent, posted.thread);
                }
                let turn = threads.ask(ASK_TIMEOUT, |reply| Message::Turn(Wire(posted.turn), reply)).await?;
                let Ok(Turn { state, error, .. }) = turn else { continue };
                if state.ended() {
                    ensure!(
                        state != thread::State::Failed || error.is_some(),
                        "{} failed without a reason",
                        posted.turn
                    );
                    self.ended.entry(posted.turn).or_insert(state);
                }
            }
        }
        Ok(())
    }

    /// No acknowledged message is lost: within [`ANSWER_TIMEOUT`] after the last fault each one's turn has ended, everyone
    /// knows how, and a completed one has its answer.
    pub async fn are_answered(&mut self, world: &World) -> Result<()> {
        let start = clock::now();
        for number in world.running() {
            let threads = world.node(number)?.directory().here::<Message>(thread::NAME);
            for posted in &self.posted {
                loop {
                    let turn = threads.ask(ASK_TIMEOUT, |reply| Message::Turn(Wire(posted.turn), reply)).await?;
                    if turn.as_ref().is_ok_and(|turn| turn.state.ended()) {
                        let turn = turn.expect("it was looked at");
                        self.is_answered(world, number, posted, &turn).await?;
                        break;
                    }
                    let late = clock::now() - start >= ANSWER_TIMEOUT;
                    ensure!(!late, "at {number} the acknowledged turn {} is {turn:?}", posted.turn);
                    world.pass(Duration::from_millis(500)).await;
                }
            }
        }
        let failed = self.ended.values().filter(|state| **state == thread::State::Failed).count();
        world.note(&format!("{} messages were answered, {failed} of them not", self.posted.len()));
        Ok(())
    }

    async fn is_answered(&self, world: &World, number: usize, posted: &Posted, turn: &Turn) -> Result<()> {
        if turn.state != thread::State::Completed {
            let why = turn.error.as_deref().unwrap_or_default();
            ensure!(!why.is_empty(), "{} ended without a reason", posted.turn);
            // Whoever keeps a budget next has it.
            let words = ["No budget found", "can't be reached", "on record", "could not be saved"];
            let lost = words.iter().any(|words| why.contains(words));
            ensure!(!lost, "the budget of {} was lost: {why}", posted.turn);
            // A goal has its answer but for these, however many died.
            let spent = ["the budget is exhausted", "it was lost 3 times"].iter().any(|words| why.contains(words));
            ensure!(spent || !posted.message.is_nil(), "the goal {} failed: {why}", posted.turn);
            return Ok(());
        }
        let start = clock::now();
        let wanted =
            WantedSaid { thread: Some(posted.thread), agent: None, oldest_first: true, offset: 0, limit: 1000 };
        let threads = world.node(number)?.directory().here::<Message>(thread::NAME);
        loop {
            let said = threads.ask(ASK_TIMEOUT, |reply| Message::Said(Wire(wanted.clone()), reply)).await?;
            // It may have heard of the turn before its thread.
            let items = said.map(|page| page.items).unwrap_or_default();
            let of = |role| items.iter().filter(|said| said.turn == Some(posted.turn) && said.role == role).count();
            let (asked, answers) = (of(Role::User), of(Role::Assistant));
            if (asked, answers) == (1, 1) {
                return Ok(());
            }
            let late = clock::now() - start >= ANSWER_TIMEOUT;
            ensure!(!late, "{number} has {asked} questions and {answers} answers of {}", posted.turn);
            world.pass(Duration::from_millis(500)).await;
        }
    }
}
