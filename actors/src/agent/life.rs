//! One run, from its goal to its end: its record, limits, rights and sub-agents around a strategy. No I/O.
//!
//! What happens comes in as an [`Event`] with the [`World`] as it is; what is to be done goes out as [`Action`]s.
//! This file is long because a run's life is one thought.

use super::{
    AgentError, Goal, Parent, Run, RunState, Snapshot, Step,
    children::{Children, Gone, Start, World, find_place},
    data::bounded,
    documents::Document,
    strategy::{self, Errand, Failure, Move, Outcome, Plan, Prompt, Room},
    thinking::{Thought, Unthought},
    tools,
};
use crate::{digest::Digest, pipeline::Turn};
use serde_json::Value;
use skep_runtime::NodeId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use uuid::Uuid;

/// How deep sub-agents may nest: the goal that a person gave is 0.
pub(super) const DEPTH_MAX: u8 = 4;
/// Steps that a record keeps.
const STEPS_MAX: usize = 64;
/// Runs below this one whose tokens are counted: more than a tree may have.
const BELOW_MAX: usize = 128;
/// The most tokens that a run below this one is believed to have spent: sums of these can't overflow.
const BELOW_TOKENS_MAX: u64 = 1 << 40;
/// Bytes of a step's arguments and of its result in the record, each.
const STEP_BYTES_MAX: usize = 2 << 10;
/// Bytes of an answer: a record has to fit one message beside its goal and steps.
const OUTPUT_BYTES_MAX: usize = 64 << 10;

/// What the record calls a sub-agent that the run's owner sent, and not its strategy.
const OUTSIDE: &str = "spawned";
/// What came of a call that was under way when the run ended.
const ENDED: &str = "the run has ended";
/// The number of a step that an earlier attempt may have made after this one went another way, and that must not be made twice:
/// so the next attempt knows it, too.
const OUTSTANDING: u32 = 0;
/// What a tool's result ends with of which only the record's beginning is left.
const REST_LOST: &str = "(the rest was lost with the machine that the call was made on)";

/// What happened.
pub(super) enum Event {
    /// The model is there and takes this much; or not.
    Ready(Result<Room, Failure>),
    /// The model answered, or why not.
    Thought(Result<Thought, Unthought>),
    /// The tool call of this step gave this.
    Observed(u32, Result<String, String>),
    /// The sub-agent of this step may be sent.
    Allowed(u32),
    /// A sub-agent was started, or not.
    Started(Uuid, Result<(), AgentError>),
    /// A record of a sub-agent, or of one of its own.
    Moved(Box<Run>),
    /// Who is up has changed.
    Picture,
    /// Somebody ends it.
    Cancel,
    /// Its time is over.
    Overdue,
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(super) enum Action {
    /// Ask the model, for at most this many tokens in all.
    Think(Prompt, u64),
    /// Call a tool that is allowed, for this step.
    ///
    /// With `true` it may have been done already: somebody has to be asked.
    Call(u32, String, Value, bool),
    /// Ask whether a sub-agent may be sent, for this step.
    ///
    /// With `true` it may have been done already: somebody has to be asked.
    Ask(u32, String, Value, bool),
    /// Write down that a call was refused, and why: it is beyond what the run may do, so that nobody was asked about it.
    Refused(String, Value, String),
    /// Write down what came of sending the sub-agent that was asked about last: it was started, or why not.
    Sent(Result<String, String>),
    /// Start a sub-agent on a node.
    Start(NodeId, Box<Goal>),
    /// End a sub-agent.
    Stop(Uuid, NodeId),
}

/// A run.
pub(super) struct Life {
    run: Run,
    plan: Plan,
    children: Children,
    /// Errands that the run's owner gave, and not its strategy: that one isn't told of their ends.
    outside: BTreeSet<usize>,
    /// Errands of which it is not known yet whether they may be sent, by step.
    asked: BTreeMap<u32, Errand>,
    /// A sub-agent may be sent, and it isn't known yet whether it was started. A strategy that asks sends one at a time.
    sending: bool,
    /// The step of each sub-agent that is out.
    child_steps: BTreeMap<Uuid, u32>,
    /// Tokens of the runs below this one.
    below: BTreeMap<Uuid, u64>,
    /// When each open step began.
    began: BTreeMap<u32, u64>,
    last_step: u32,
    thinking: Option<u32>,
    changed: bool,
    /// What an earlier attempt had done and this one has not come to yet.
    done: VecDeque<Step>,
    /// Steps at the head of the record that are an earlier attempt's: until this one comes to them.
    earlier: usize,
}

impl Life {
    /// The run of this record, with what was said before it and the documents that the record only names.
    pub(super) fn new(mut run: Run, history: Vec<Turn>, documents: Vec<Document>) -> Life {
        let plan = Plan::new(&run.goal, history, documents);
        let mut done = VecDeque::new();
        if let Some(seat) = &mut run.goal.seat {
            // On record from the beginning, for this attempt's node may die before it has come to any of it.
            run.steps = std::mem::take(&mut seat.done);
            // Only what the strategy asked for is asked for again, and comes once.
            let asked = |step: &&Step| step.state != RunState::Lost && step.tool != OUTSIDE;
            done.extend(run.steps.iter().filter(asked).cloned());
            // The plan has them: they need not go along with each record.
            (seat.instructions, seat.peers) = (String::new(), Vec::new());
        }
        Life {
            plan,
            done,
            earlier: run.steps.len(),
            last_step: run.steps.iter().map(|step| step.number).max().unwrap_or(0),
            run,
            children: Children::default(),
            outside: BTreeSet::new(),
            asked: BTreeMap::new(),
            sending: false,
            child_steps: BTreeMap::new(),
            below: BTreeMap::new(),
            began: BTreeMap::new(),
            thinking: None,
            changed: true,
        }
    }

    /// Its record now.
    pub(super) fn run(&self) -> &Run {
        &self.run
    }

    /// Whether this node may say how that run goes: of a sub-agent, the one that it was sent to; of one further below, any
    /// that hosts a sub-agent, which passes on what it was told.
    pub(super) fn believes(&self, node: NodeId, run: &Run) -> bool {
        match self.run.children.iter().find(|(child, _)| *child == run.id) {
            Some((_, host)) => *host == node && run.node == node,
            None => self.run.children.iter().any(|(_, host)| *host == node),
        }
    }

    /// Whether the record changed since this was last asked.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// What to do, now that this happened.
    pub(super) fn on(&mut self, event: Event, world: &World) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.run.state.ended() {
            match event {
                // The call that was given up says what it cost, and what it had said, all the same.
                Event::Thought(thought) => {
                    self.count(&thought);
                    let (Ok(Thought { text, .. }) | Err(Unthought { partial: text, .. })) = thought;
                    if self.run.output.is_none() && !text.trim().is_empty() {
                        self.run.output = Some(bounded(text.trim(), OUTPUT_BYTES_MAX));
                    }
                    self.changed = true;
                }
                Event::Allowed(_) => actions.push(Action::Sent(Err(ENDED.into()))),
                _ => {}
            }
            return actions;
        }
        match event {
            Event::Ready(Ok(room)) => {
                self.forget_earlier();
                self.drive(strategy::Event::Begin(room), world, &mut actions);
            }
            Event::Ready(Err(failure)) => self.fail(failure, None, world, &mut actions),
            Event::Thought(thought) => self.thought(thought, world, &mut actions),
            Event::Allowed(step) => {
                if let Some(errand) = self.asked.remove(&step) {
                    // Its step is opened when it is sent.
                    self.discard_step(step);
                    // Known by the step that asked for it, which another attempt at this run finds again.
                    let name = format!("{} {step}", errand.purpose);
                    self.children.send_as(errand, name);
                    self.sending = true;
                }
            }
            Event::Observed(step, result) => {
                self.asked.remove(&step);
                let (state, text) = match result {
                    Ok(text) => (RunState::Completed, text),
                    Err(text) => (RunState::Failed, text),
                };
                self.close_step(step, state, Some(&text), world);
                self.drive(strategy::Event::Observed(text), world, &mut actions);
            }
            Event::Started(id, Ok(())) => {
                if self.was_asked_for(id) {
                    self.sent(Ok(format!("the sub-agent {id} was started")), &mut actions);
                }
            }
            Event::Started(id, Err(error)) => self.not_started(id, error, world, &mut actions),
            Event::Moved(run) => self.moved(&run, world, &mut actions),
            Event::Picture => self.picture(world, &mut actions),
            Event::Cancel => self.end(RunState::Cancelled, None, world, &mut actions),
            Event::Overdue => {
                self.fail(
                    Failure::new("its time was over: give it less to do, or more budget per step"),
                    None,
                    world,
                    &mut actions,
                );
            }
        }
        self.start_due(world, &mut actions);
        actions
    }

    /// Starts a sub-agent that the run's owner asks for, with the rights that the run's own would have: what to do, and
    /// which sub-agent it is.
    pub(super) fn spawn(&mut self, args: &Value, world: &World) -> Result<(Vec<Action>, Uuid, NodeId), AgentError> {
        if self.run.state.ended() {
            return Err(AgentError::Limit("the run has ended".into()));
        }
        if !self.children.has_room() {
            return Err(AgentError::Limit("as many of this run's are at work as may be at once".into()));
        }
        let invalid = |reason| AgentError::Invalid { field: "goal".into(), reason };
        let errand = match tools::spawn_sub_agent::beyond(args, &self.run.goal.tools) {
            Some(tool) => return Err(AgentError::Rights(bounded(&tool, 64))),
            None => Errand { purpose: OUTSIDE, ..self.errand(args, world).map_err(invalid)? },
        };
        // No other one is known by this name: whoever asks twice wants two.
        let name = format!("{OUTSIDE} {}", (world.fresh)());
        let number = self.children.send_as(errand, name);
        self.outside.insert(number);
        let mut actions = Vec::new();
        self.start_due(world, &mut actions);
        match self.children.place_of(number) {
            Some((id, node)) => Ok((actions, id, node)),
            None => Err(AgentError::Limit("others wait before it".into())),
        }
    }

    fn thought(&mut self, thought: Result<Thought, Unthought>, world: &World, actions: &mut Vec<Action>) {
        let step = self.thinking.take();
        let tokens = spent(&thought);
        self.count(&thought);
        if let Some(step) = step.and_then(|n| self.step(n)) {
            step.tokens = tokens;
        }
        match thought {
            Ok(Thought { text, .. }) => {
                step.into_iter().for_each(|n| self.close_step(n, RunState::Completed, Some(&text), world));
                self.drive(strategy::Event::Thought(text), world, actions);
            }
            Err(Unthought { failure, partial, .. }) => {
                step.into_iter().for_each(|n| self.close_step(n, RunState::Failed, Some(&failure.reason), world));
                self.fail(failure, Some(partial), world, actions);
            }
        }
    }

    fn count(&mut self, thought: &Result<Thought, Unthought>) {
        let prompt = match thought {
            Ok(Thought { prompt, model, .. }) => {
                self.run.answered_by = Some(model.clone());
                *prompt
            }
            Err(Unthought { prompt, .. }) => *prompt,
        };
        self.run.tokens = self.run.tokens.saturating_add(spent(thought));
        self.run.prompt_tokens = self.run.prompt_tokens.saturating_add(prompt);
    }

    fn moved(&mut self, run: &Run, world: &World, actions: &mut Vec<Action>) {
        if self.below.len() < BELOW_MAX || self.below.contains_key(&run.id) {
            self.below.insert(run.id, run.tokens.min(BELOW_TOKENS_MAX));
        }
        let step = self.child_steps.get(&run.id).copied();
        if let Some(step) = step.and_then(|n| self.step(n)) {
            step.tokens = run.tokens.min(BELOW_TOKENS_MAX);
            self.changed = true;
        }
        // One whose node was only away, and whose errand is another's by now.
        let own = run.goal.parent.is_some_and(|parent| parent.run == self.run.id);
        if own && !run.state.ended() && !self.children.out().any(|out| out == (run.id, run.node)) {
            actions.push(Action::Stop(run.id, run.node));
        }
        if let Some(gone) = self.children.moved(run) {
            self.gone(run.id, gone, run.error.as_deref().unwrap_or_default(), world, actions);
        }
    }

    fn not_started(&mut self, id: Uuid, error: AgentError, world: &World, actions: &mut Vec<Action>) {
        if matches!(error, AgentError::Full(_)) {
            // As if it had not been tried: it keeps its id, which its tree has counted.
            if self.children.full(id, world.now_ms)
                && let Some(step) = self.child_steps.remove(&id)
            {
                self.discard_step(step);
                self.changed = true;
            }
            return;
        }
        let reason = error.to_string();
        // It may have started all the same, its answer lost.
        actions.extend(self.children.out().filter(|(out, _)| *out == id).map(|(id, node)| Action::Stop(id, node)));
        let exhausted = matches!(&error, AgentError::Budget(error) if error.is_exhausted());
        let gone = match error {
            AgentError::Invalid { .. }
            | AgentError::Rights(_)
            | AgentError::Warrant(_)
            | AgentError::Limit(_)
            | AgentError::Budget(_) => self.children.refused(id, Failure { reason: reason.clone(), exhausted }),
            _ => self.children.lost(id, &reason),
        };
        if let Some(gone) = gone {
            self.gone(id, gone, &reason, world, actions);
        }
    }

    fn picture(&mut self, world: &World, actions: &mut Vec<Action>) {
        if let Some(parent) = self.run.goal.parent.filter(|parent| !world.up(parent.node)) {
            self.run.error = Some(format!("the node of its parent, {}, went down", parent.node.short()));
            return self.end(RunState::Cancelled, None, world, actions);
        }
        for (id, node) in self.children.stranded(world) {
            let why = format!("node {} went down", node.short());
            if let Some(gone) = self.children.lost(id, &why) {
                self.gone(id, gone, &why, world, actions);
            }
        }
    }

    /// A sub-agent is no longer out: its step is closed, and the strategy told unless it is started again.
    fn gone(&mut self, id: Uuid, gone: Gone, why: &str, world: &World, actions: &mut Vec<Action>) {
        let step = self.child_steps.remove(&id);
        match gone {
            Gone::Again => {
                let note = format!("lost: {why}; it is started again on another node");
                step.into_iter().for_each(|n| self.close_step(n, RunState::Lost, Some(&note), world));
            }
            Gone::Ended(number, outcome) => {
                let state = if outcome.failure.is_some() { RunState::Failed } else { RunState::Completed };
                let text = outcome.failure.as_ref().map(|f| f.reason.clone()).or_else(|| outcome.output.clone());
                step.into_iter().for_each(|n| self.close_step(n, state, text.as_deref(), world));
                if !self.outside.remove(&number) {
                    let failed = outcome.failure.as_ref().map(|failure| failure.reason.clone());
                    self.sent(failed.map_or_else(|| Ok("it has ended".into()), Err), actions);
                    let event = self.as_told(number, outcome);
                    self.drive(event, world, actions);
                }
            }
        }
    }

    /// Whether the strategy asked for this sub-agent, and not the run's owner.
    fn was_asked_for(&self, id: Uuid) -> bool {
        let step = self.child_steps.get(&id);
        let step = step.and_then(|number| self.run.steps.iter().find(|step| step.number == *number));
        step.is_some_and(|step| step.tool == tools::spawn_sub_agent::NAME)
    }

    /// It is known what came of the call that sends a sub-agent.
    fn sent(&mut self, result: Result<String, String>, actions: &mut Vec<Action>) {
        if std::mem::take(&mut self.sending) {
            actions.push(Action::Sent(result));
        }
    }

    /// How the strategy hears of a sub-agent's end: `react` called a tool, `map_reduce` sent an errand.
    fn as_told(&self, number: usize, outcome: Outcome) -> strategy::Event {
        match (&self.plan, outcome) {
            (Plan::React(_), Outcome { output, failure: None }) => {
                strategy::Event::Observed(output.unwrap_or_else(|| "(it answered nothing)".into()))
            }
            (Plan::React(_), Outcome { output, failure: Some(failure) }) => {
                let so_far = output.map(|text| format!("; so far: {text}")).unwrap_or_default();
                strategy::Event::Observed(format!("the sub-agent failed: {}{so_far}", failure.reason))
            }
            (_, outcome) => strategy::Event::Returned(number, outcome),
        }
    }

    /// Tells the strategy, does what it says, tells it what came of that at once, until it waits.
    fn drive(&mut self, event: strategy::Event, world: &World, actions: &mut Vec<Action>) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for next in self.plan.on(event) {
                match next {
                    Move::Think(prompt) => {
                        self.run.context.get_or_insert_with(|| snapshot(&prompt));
                        if self.was_done(prompt.purpose) {
                            events.extend(self.replay(world).map(strategy::Event::Thought));
                            continue;
                        }
                        let asked = prompt.turns.last().map(|turn| turn.content.as_str()).unwrap_or_default();
                        let args = serde_json::json!({ "prompt": bounded(asked, STEP_BYTES_MAX / 4) });
                        self.thinking = Some(self.open_step(prompt.purpose, &args, world));
                        actions.push(Action::Think(prompt, self.share()));
                    }
                    Move::Call(tool, args) => events.extend(self.call(tool, args, world, actions)),
                    Move::Send(errands) if self.depth() >= DEPTH_MAX => {
                        drop(errands);
                        return self.fail(Failure::new(too_deep()), None, world, actions);
                    }
                    Move::Send(errands) => {
                        let numbers = self.children.send(errands);
                        events.extend(self.replay_sent(numbers));
                    }
                    Move::Recall(failure) => {
                        let outcome = Outcome { output: None, failure: Some(failure) };
                        let told = |number| strategy::Event::Returned(number, outcome.clone());
                        events.extend(self.children.recall().into_iter().map(told));
                    }
                    Move::Finish(text) => {
                        self.run.output = Some(bounded(&text, OUTPUT_BYTES_MAX));
                        return self.end(RunState::Completed, None, world, actions);
                    }
                    Move::Fail(failure) => return self.fail(failure, None, world, actions),
                }
            }
        }
        self.run.output = self.plan.so_far().map(|text| bounded(&text, OUTPUT_BYTES_MAX));
    }

    /// Whether an earlier attempt came to the end of its next step, which has to be this one. Else nothing more of it is told
    /// again: this attempt goes another way.
    fn was_done(&mut self, what: &str) -> bool {
        let next = self.done.front().filter(|step| step.tool == what);
        if let Some(step) = next {
            // By its old number it is known to whoever was asked for it before.
            self.last_step = step.number.saturating_sub(1);
        }
        let fits = next.is_some_and(is_known);
        if !fits {
            let left = std::mem::take(&mut self.done).into_iter().filter(|step| tools::is_once(&step.tool));
            for step in left {
                self.push_step(Step { number: OUTSTANDING, result: None, state: RunState::Lost, ..step });
            }
        }
        fits
    }

    /// The earlier attempt's steps are put on record again as this one comes to them; what is outstanding stays there.
    fn forget_earlier(&mut self) {
        let mut left = std::mem::take(&mut self.earlier);
        self.run.steps.retain(|step| {
            let own = left == 0;
            left = left.saturating_sub(1);
            own || step.number == OUTSTANDING
        });
    }

    /// Takes the next step of an earlier attempt as this one's own, and tells what came of it.
    fn replay(&mut self, world: &World) -> Option<String> {
        let step = self.done.pop_front()?;
        let (number, result) = (self.open_step(&step.tool, &Value::Null, world), step.result.clone());
        self.began.remove(&number);
        if let Some(own) = self.step(number) {
            *own = Step { number, tokens: 0, ..step };
        }
        result.map(|text| if is_cut(&text) { format!("{text}\n{REST_LOST}") } else { text })
    }

    /// Whether a call of this tool may be one that an earlier attempt made, of which it is not known what came of it, and
    /// that must not be made twice.
    fn is_doubtful(&mut self, tool: &str) -> bool {
        let at = self.run.steps.iter().position(|step| step.number == OUTSTANDING && step.tool == tool);
        at.map(|at| self.run.steps.remove(at)).is_some()
    }

    /// Takes what sub-agents of an earlier attempt came to for the errands from this number on. What they had not come to the
    /// end of is sent anew.
    fn replay_sent(&mut self, first: usize) -> Vec<strategy::Event> {
        let (mut told, mut all) = (Vec::new(), true);
        let last = self.done.iter().map(|step| step.number).max().unwrap_or_default();
        self.last_step = self.last_step.max(last);
        for number in first.. {
            let Some(errand) = self.children.waiting(number) else { break };
            let (purpose, about) = (errand.purpose, about(errand));
            let is_its = |step: &Step| step.tool == purpose && is_about(step, &about);
            let at = self.done.iter().position(|step| is_its(step) && is_known(step));
            let Some(step) = at.and_then(|at| self.done.remove(at)) else {
                all = false;
                continue;
            };
            self.children.settle(number);
            let outcome = Outcome { output: step.result.clone(), failure: None };
            self.run.steps.push(Step { tokens: 0, ..step });
            told.push(strategy::Event::Returned(number, outcome));
        }
        // What came after them followed from all of them.
        self.done.retain(|step| all && step.tool != "map");
        self.changed = true;
        told
    }

    /// A tool call that the model wants: done, or refused as what the tool said.
    fn call(&mut self, tool: String, args: Value, world: &World, actions: &mut Vec<Action>) -> Option<strategy::Event> {
        if self.was_done(&tool) {
            return self.replay(world).map(strategy::Event::Observed);
        }
        let step = self.open_step(&bounded(&tool, 64), &args, world);
        let wanted = if !self.run.goal.tools.contains(&tool) {
            let allowed = self.run.goal.tools.join(", ");
            Err(format!("refused: the tool {} is not allowed here; allowed are: {allowed}", bounded(&tool, 64)))
        } else if tool == tools::spawn_sub_agent::NAME {
            self.errand(&args, world).map(Some).map_err(|reason| format!("refused: {reason}"))
        } else {
            Ok(None)
        };
        match wanted {
            Ok(errand) => {
                let doubtful = self.is_doubtful(&tool);
                actions.push(match errand {
                    Some(errand) => {
                        self.asked.insert(step, errand);
                        Action::Ask(step, tool, args, doubtful)
                    }
                    None => Action::Call(step, tool, args, doubtful),
                });
                None
            }
            Err(why) => {
                self.close_step(step, RunState::Failed, Some(&why), world);
                actions.push(Action::Refused(tool, args, why.clone()));
                Some(strategy::Event::Observed(why))
            }
        }
    }

    fn errand(&self, args: &Value, world: &World) -> Result<Errand, String> {
        if self.depth() >= DEPTH_MAX {
            return Err(too_deep());
        }
        let errand = tools::spawn_sub_agent::errand(args, &self.run.goal.tools)?;
        match errand.node.as_deref().map(|text| (text, find_place(world.places, text))) {
            Some((text, None)) => Err(AgentError::NoSuchNode(bounded(text, 64)).to_string()),
            _ => Ok(errand),
        }
    }

    fn start_due(&mut self, world: &World, actions: &mut Vec<Action>) {
        if self.run.state.ended() {
            return;
        }
        let own = self.run.goal.errand(self.run.id);
        for Start { id, node, errand, name, .. } in self.children.due(world) {
            let mut args = about(&errand);
            args["goal"] = bounded(&errand.goal, STEP_BYTES_MAX / 4).into();
            args["node"] = node.to_string().into();
            let step = self.open_step(errand.purpose, &args, world);
            self.child_steps.insert(id, step);
            self.run.children.retain(|(known, _)| *known != id);
            self.run.children.push((id, node));
            let parent = Parent {
                run: self.run.id,
                node: world.me,
                thread: self.run.thread,
                budget_owner: self.run.goal.budget_owner(world.me),
                root: self.run.goal.parent.map_or(self.run.id, |parent| parent.root),
                root_node: self.run.goal.parent.map_or(world.me, |parent| parent.root_node),
                turn: self.run.goal.turn(self.run.id),
                depth: self.depth() + 1,
                child: id,
                errand: Digest::of(format!("{own} {name}").as_bytes()),
            };
            let goal = Goal {
                goal: errand.goal,
                strategy: errand.strategy,
                tools: errand.tools,
                sandbox: self.run.goal.sandbox,
                model: self.run.goal.model.clone(),
                budget: self.share(),
                parent: Some(parent),
                documents: errand.documents,
                agent: Some(self.run.goal.agent_name().to_owned()).filter(|name| !name.is_empty()),
                ..Goal::default()
            };
            actions.push(Action::Start(node, Box::new(goal)));
        }
    }

    fn fail(&mut self, failure: Failure, partial: Option<String>, world: &World, actions: &mut Vec<Action>) {
        self.run.exhausted = failure.exhausted;
        self.run.error = Some(failure.reason);
        self.end(RunState::Failed, partial.filter(|text| !text.is_empty()), world, actions);
    }

    fn end(&mut self, state: RunState, partial: Option<String>, world: &World, actions: &mut Vec<Action>) {
        if state != RunState::Completed {
            let so_far = self.plan.so_far().or(partial).map(|text| bounded(&text, OUTPUT_BYTES_MAX));
            self.run.output = so_far.or(self.run.output.take());
        }
        self.sent(Err(ENDED.into()), actions);
        actions.extend(self.children.out().map(|(id, node)| Action::Stop(id, node)));
        let open: Vec<u32> = self.began.keys().copied().collect();
        open.into_iter().for_each(|step| self.close_step(step, RunState::Cancelled, None, world));
        // An earlier attempt's that this one never came to.
        self.run.steps.iter_mut().filter(|step| !step.state.ended()).for_each(|step| step.state = RunState::Cancelled);
        self.run.state = state;
        self.run.completed_ms = Some(world.now_ms);
        self.changed = true;
    }

    fn depth(&self) -> u8 {
        self.run.goal.parent.map_or(0, |parent| parent.depth)
    }

    /// What it may still spend of its own share. The thread's budget may be smaller: that is the ledger's to say.
    fn share(&self) -> u64 {
        let below: u64 = self.below.values().sum();
        self.run.goal.budget.saturating_sub(self.run.tokens).saturating_sub(below)
    }

    fn open_step(&mut self, tool: &str, args: &Value, world: &World) -> u32 {
        self.last_step += 1;
        let number = self.last_step;
        self.push_step(Step {
            number,
            tool: tool.to_owned(),
            args: bounded(&args.to_string(), STEP_BYTES_MAX),
            result: None,
            state: RunState::Running,
            elapsed_ms: 0,
            tokens: 0,
        });
        self.began.insert(number, world.now_ms);
        number
    }

    fn push_step(&mut self, step: Step) {
        if self.run.steps.len() >= STEPS_MAX {
            let oldest = self.run.steps.iter().position(|step| step.number != OUTSTANDING);
            self.run.steps.remove(oldest.unwrap_or(0));
            self.earlier = self.earlier.saturating_sub(1);
        }
        self.run.steps.push(step);
        self.changed = true;
    }

    fn close_step(&mut self, number: u32, state: RunState, result: Option<&str>, world: &World) {
        let began = self.began.remove(&number);
        if let Some(step) = self.step(number) {
            step.state = state;
            step.result = result.map(|text| bounded(text, STEP_BYTES_MAX));
            step.elapsed_ms = world.now_ms.saturating_sub(began.unwrap_or(world.now_ms));
        }
        self.changed = true;
    }

    fn discard_step(&mut self, number: u32) {
        self.began.remove(&number);
        self.run.steps.retain(|step| step.number != number);
        if self.last_step == number {
            self.last_step -= 1;
        }
    }

    fn step(&mut self, number: u32) -> Option<&mut Step> {
        self.run.steps.iter_mut().find(|step| step.number == number)
    }
}

fn spent(thought: &Result<Thought, Unthought>) -> u64 {
    match thought {
        Ok(thought) => thought.tokens,
        Err(unthought) => unthought.tokens,
    }
}

fn snapshot(prompt: &Prompt) -> Snapshot {
    let bytes = |turn: &Turn| u32::try_from(turn.content.len()).unwrap_or(u32::MAX);
    let sum = |turns: &[Turn]| turns.iter().map(bytes).fold(0, u32::saturating_add);
    let history = prompt.turns.get(1..prompt.turns.len().saturating_sub(1)).unwrap_or_default();
    let system = prompt.turns.first().map_or(0, bytes);
    Snapshot { system, history: sum(history), depth: history.len() as u32, whole: sum(&prompt.turns) }
}

/// What tells an errand from others of its kind.
fn about(errand: &Errand) -> Value {
    let names: Vec<&str> = errand.documents.iter().map(|(name, _)| name.as_str()).collect();
    let texts: Vec<&str> = errand.documents.iter().map(|(_, text)| text.as_str()).collect();
    serde_json::json!({ "documents": names, "texts": Digest::of(texts.concat().as_bytes()).to_string() })
}

fn is_about(step: &Step, about: &Value) -> bool {
    // What was cut is no JSON any more.
    let args: Value = serde_json::from_str(&step.args).unwrap_or_default();
    ["documents", "texts"].iter().all(|field| args.get(field) == about.get(field))
}

/// Whether the record has all that came of a step. Words that were cut are not what the model said: it is asked again. A
/// tool's result that was cut is told with a remark.
fn is_known(step: &Step) -> bool {
    let Some(result) = &step.result else { return false };
    let is_tool = tools::ALL.iter().any(|tool| tool.name == step.tool);
    is_tool || (step.state == RunState::Completed && !is_cut(result))
}

/// Whether this is only the beginning of a step's result: what [`bounded`] adds makes it longer than a whole one can be.
fn is_cut(result: &str) -> bool {
    result.len() > STEP_BYTES_MAX
}

fn too_deep() -> String {
    AgentError::Limit(format!("they nest {DEPTH_MAX} deep at most")).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{Seat, Strategy, children::Place};

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    fn run(id: u128, strategy: Strategy, parent: Option<Parent>) -> Run {
        let goal = Goal { goal: "g".into(), strategy, budget: 1000, parent, ..Goal::default() };
        Run::new(Uuid::from_u128(id), goal, node(1), 0)
    }

    fn on(life: &mut Life, event: Event, nodes: &[u8]) -> Vec<Action> {
        let place = |n: &u8| Place { id: node(*n), name: format!("n{n}"), load: skep_runtime::Load::default() };
        let places: Vec<Place> = nodes.iter().map(place).collect();
        let count = std::cell::Cell::new(nodes.len() as u128 * 100);
        let fresh = || {
            count.set(count.get() + 1);
            Uuid::from_u128(count.get())
        };
        life.on(event, &World { now_ms: 0, me: node(1), places: &places, fresh: &fresh })
    }

    fn thought(text: &str, tokens: u64) -> Thought {
        Thought { text: text.into(), tokens, prompt: tokens, model: "m".into() }
    }

    /// One sub-agent out on node 2.
    fn with_child() -> (Life, Goal) {
        let mut life = Life::new(run(1, Strategy::MapReduce, None), Vec::new(), vec![("d".into(), "text".into())]);
        let actions = on(&mut life, Event::Ready(Ok(Room { bytes: 1000, answer_tokens: 50 })), &[1, 2]);
        let [Action::Start(at, goal)] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(*at, node(2));
        (life, (**goal).clone())
    }

    fn child(goal: &Goal, tokens: u64) -> Box<Run> {
        let parent = goal.parent.unwrap();
        let child = run(0, Strategy::Answer, Some(parent));
        Box::new(Run { id: parent.child, node: node(2), tokens, ..child })
    }

    #[test]
    fn what_a_given_up_model_had_said_is_the_output() {
        for thought in [
            Err(Unthought { failure: Failure::new("ended"), partial: "half an ".into(), tokens: 7, prompt: 5 }),
            Ok(thought("half an", 7)),
        ] {
            let mut life = Life::new(run(1, Strategy::Answer, None), Vec::new(), Vec::new());
            on(&mut life, Event::Ready(Ok(Room { bytes: 1000, answer_tokens: 50 })), &[1]);
            on(&mut life, Event::Cancel, &[1]);
            on(&mut life, Event::Thought(thought), &[1]);
            assert_eq!((life.run().output.as_deref(), life.run().tokens), (Some("half an"), 7));
        }
    }

    #[test]
    fn a_sub_agent_whose_node_was_only_away_is_stopped_when_it_is_back() {
        let (mut life, goal) = with_child();
        assert!(on(&mut life, Event::Moved(child(&goal, 5)), &[1, 2]).is_empty());
        let again = on(&mut life, Event::Picture, &[1, 3]);
        assert!(matches!(&again[..], [Action::Start(at, _)] if *at == node(3)), "{again:?}");
        let back = on(&mut life, Event::Moved(child(&goal, 9)), &[1, 2, 3]);
        assert_eq!(back, [Action::Stop(goal.parent.unwrap().child, node(2))]);
    }

    fn step(number: u32, tool: &str, state: RunState, result: Option<&str>) -> Step {
        let (args, result) = ("null".into(), result.map(str::to_owned));
        Step { number, tool: tool.into(), args, result, state, elapsed_ms: 0, tokens: 5 }
    }

    /// A run that goes on with a turn of which an earlier attempt had done so much.
    fn resumed(strategy: Strategy, tools: &[&str], done: Vec<Step>) -> Life {
        let mut run = run(1, strategy, None);
        run.goal.tools = tools.iter().map(|tool| (*tool).to_owned()).collect();
        run.goal.seat = Some(Box::new(Seat {
            run: run.id,
            turn: Uuid::nil(),
            thread: Uuid::nil(),
            owner: node(1),
            agent: "main".into(),
            instructions: "be kind".into(),
            peers: Vec::new(),
            history: Vec::new(),
            done,
            waiting: 0,
        }));
        Life::new(run, Vec::new(), Vec::new())
    }

    /// A run over three documents of one name and length that goes on with these steps.
    fn reads(done: Vec<Step>) -> Life {
        let mut life = resumed(Strategy::MapReduce, &[], done);
        let documents = ["ant", "bee", "cow"].map(|text| ("page".to_owned(), text.to_owned()));
        life.plan = Plan::new(&life.run.goal, Vec::new(), documents.to_vec());
        life
    }

    #[test]
    fn parts_that_were_done_are_known_by_their_texts_and_what_followed_needs_all_of_them() {
        let mut first = reads(Vec::new());
        let starts = ready(&mut first);
        let begun: Vec<Step> = first.run().steps.clone();
        assert_eq!((starts.len(), begun.len()), (3, 3));
        let mut done: Vec<Step> = begun
            .iter()
            .map(|step| {
                let result = Some(format!("about {}", step.number));
                Step { state: RunState::Completed, result, ..step.clone() }
            })
            .collect();
        done.push(step(4, "reduce", RunState::Completed, Some("all three")));
        let mut again = reads(done.clone());
        assert!(ready(&mut again).is_empty(), "nothing is sent, nobody is asked");
        assert_eq!(again.run().output.as_deref(), Some("all three"));
        let results = |life: &Life| -> Vec<String> {
            life.run().steps.iter().filter(|step| step.tool == "map").filter_map(|step| step.result.clone()).collect()
        };
        assert_eq!(results(&again), ["about 1", "about 2", "about 3"], "each has its own");
        // One of them had failed: what was put together without it doesn't count.
        done[1] = Step { state: RunState::Failed, ..done[1].clone() };
        let mut again = reads(done);
        let sent = ready(&mut again);
        let [Action::Start(_, goal)] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!(goal.documents, [("page".to_owned(), "bee".to_owned())]);
        assert_eq!((results(&again), again.run().state), (vec!["about 1".into(), "about 3".into()], RunState::Running));
    }

    fn ready(life: &mut Life) -> Vec<Action> {
        on(life, Event::Ready(Ok(Room { bytes: 30_000, answer_tokens: 50 })), &[1, 2])
    }

    fn says(life: &mut Life, text: &str) -> Vec<Action> {
        on(life, Event::Thought(Ok(thought(text, 1))), &[1, 2])
    }

    const SPAWN: &str = "{\"tool\": \"spawn_sub_agent\", \"args\": {\"goal\": \"count\"}}";

    #[test]
    fn words_that_were_cut_are_asked_for_again_and_a_result_that_was_cut_is_told_as_such() {
        let cut = bounded(&"x".repeat(STEP_BYTES_MAX + 1), STEP_BYTES_MAX);
        let mut life = resumed(Strategy::React, &[], vec![step(1, "think", RunState::Completed, Some(&cut))]);
        assert!(matches!(&ready(&mut life)[..], [Action::Think(..)]));
        assert_eq!((life.run().steps.len(), life.run().steps[0].number), (1, 1));
        assert_eq!(life.run().steps[0].state, RunState::Running);
        let whole = "x".repeat(STEP_BYTES_MAX);
        let mut life = resumed(Strategy::React, &[], vec![step(1, "think", RunState::Completed, Some(&whole))]);
        let told = ready(&mut life);
        let [Action::Think(prompt, _)] = &told[..] else { panic!("{told:?}") };
        assert!(prompt.turns.iter().any(|turn| turn.content == whole), "it is told what it had said");
        let done = vec![
            step(1, "think", RunState::Completed, Some("{\"tool\": \"read_file\"}")),
            step(2, "read_file", RunState::Completed, Some(&cut)),
        ];
        let mut life = resumed(Strategy::React, &["read_file"], done);
        let told = ready(&mut life);
        let [Action::Think(prompt, _)] = &told[..] else { panic!("{told:?}") };
        assert!(prompt.turns.last().unwrap().content.contains(REST_LOST));
    }

    #[test]
    fn after_words_that_are_thought_anew_a_call_that_may_have_been_made_is_asked_about_once() {
        let cut = bounded(&"x".repeat(STEP_BYTES_MAX + 1), STEP_BYTES_MAX);
        let done = vec![
            step(1, "think", RunState::Completed, Some(&cut)),
            step(2, "spawn_sub_agent", RunState::Completed, Some("7")),
        ];
        let mut life = resumed(Strategy::React, &["spawn_sub_agent"], done);
        ready(&mut life);
        let asked = says(&mut life, SPAWN);
        let [Action::Ask(step, _, _, true)] = &asked[..] else { panic!("{asked:?}") };
        on(&mut life, Event::Observed(*step, Err("denied".into())), &[1, 2]);
        let asked = says(&mut life, SPAWN);
        assert!(matches!(&asked[..], [Action::Ask(_, _, _, false)]), "{asked:?}");
    }

    #[test]
    fn what_was_done_or_may_have_been_outlives_an_attempt_that_never_came_to_it() {
        let cut = bounded(&"x".repeat(STEP_BYTES_MAX + 1), STEP_BYTES_MAX);
        let done = vec![
            step(1, "think", RunState::Completed, Some(&cut)),
            step(2, "spawn_sub_agent", RunState::Running, None),
        ];
        let mut second = resumed(Strategy::React, &["spawn_sub_agent"], done.clone());
        assert_eq!(second.run().steps, done, "the model is not there yet");
        ready(&mut second);
        let mut third = resumed(Strategy::React, &["spawn_sub_agent"], second.run().steps.clone());
        ready(&mut third);
        let asked = says(&mut third, SPAWN);
        assert!(matches!(&asked[..], [Action::Ask(2, _, _, true)]), "{asked:?}");
        let numbers: Vec<u32> = third.run().steps.iter().map(|step| step.number).collect();
        assert_eq!(numbers, [1, 2], "it is asked about once");
    }

    #[test]
    fn who_takes_a_lost_sub_agents_place_is_known_by_the_same_errand() {
        let (mut life, first) = with_child();
        let again = on(&mut life, Event::Picture, &[1, 3, 4]);
        let [Action::Start(_, second)] = &again[..] else { panic!("{again:?}") };
        let parent = |goal: &Goal| goal.parent.unwrap();
        assert_ne!(parent(&first).child, parent(second).child);
        assert_eq!(parent(&first).errand, parent(second).errand);
        // And so it is if it was the parent that was lost.
        let errand = |done: Vec<Step>| {
            let mut life = resumed(Strategy::React, &["spawn_sub_agent"], done);
            let mut actions = ready(&mut life);
            if matches!(&actions[..], [Action::Think(..)]) {
                actions = says(&mut life, SPAWN);
            }
            let [Action::Ask(step, ..)] = &actions[..] else { panic!("{actions:?}") };
            let sent = on(&mut life, Event::Allowed(*step), &[1, 2]);
            let [Action::Start(_, goal)] = &sent[..] else { panic!("{sent:?}") };
            goal.parent.unwrap().errand
        };
        let said = |number| step(number, "think", RunState::Completed, Some(SPAWN));
        let begun = step(2, "spawn_sub_agent", RunState::Running, None);
        assert_eq!(errand(Vec::new()), errand(vec![said(1), begun]));
        let ended = step(2, "spawn_sub_agent", RunState::Completed, Some("7"));
        assert_ne!(errand(Vec::new()), errand(vec![said(1), ended, said(3)]), "the next one is another");
    }

    #[test]
    fn the_call_that_sends_a_sub_agent_ends_once_with_what_became_of_that() {
        let begun = || {
            let mut life = resumed(Strategy::React, &["spawn_sub_agent"], Vec::new());
            ready(&mut life);
            let asked = says(&mut life, SPAWN);
            let [Action::Ask(step, ..)] = &asked[..] else { panic!("{asked:?}") };
            let sent = on(&mut life, Event::Allowed(*step), &[1, 2]);
            let [Action::Start(_, goal)] = &sent[..] else { panic!("{sent:?}") };
            let child = goal.parent.unwrap().child;
            (life, child)
        };
        let (mut life, child) = begun();
        let told = on(&mut life, Event::Started(child, Ok(())), &[1, 2]);
        assert!(matches!(&told[..], [Action::Sent(Ok(_))]), "{told:?}");
        assert!(!on(&mut life, Event::Cancel, &[1, 2]).iter().any(|action| matches!(action, Action::Sent(_))));
        let (mut life, child) = begun();
        let told = on(&mut life, Event::Started(child, Err(AgentError::Warrant("it shows none".into()))), &[1, 2]);
        assert!(told.iter().any(|action| matches!(action, Action::Sent(Err(why)) if why.contains("it shows none"))));
        let (mut life, _) = begun();
        let told = on(&mut life, Event::Cancel, &[1, 2]);
        assert!(told.iter().any(|action| matches!(action, Action::Sent(Err(_)))), "{told:?}");
    }

    #[test]
    fn what_an_earlier_attempt_did_counts_once_by_its_number_and_only_what_the_strategy_asked_for() {
        let result = |number, tool: &str, state| step(number, tool, state, Some(&format!("result {number}")));
        let done = vec![
            result(1, OUTSIDE, RunState::Completed),
            result(2, "think", RunState::Lost),
            result(3, "think", RunState::Completed),
        ];
        let mut life = resumed(Strategy::Answer, &[], done);
        on(&mut life, Event::Ready(Ok(Room { bytes: 1000, answer_tokens: 50 })), &[1]);
        let run = life.run();
        assert_eq!((run.state, run.output.as_deref()), (RunState::Completed, Some("result 3")));
        assert_eq!(run.steps, [Step { tokens: 0, ..result(3, "think", RunState::Completed) }]);
        // Its first prompt is told of though nobody was asked it again, and its instructions don't go along with its record.
        assert!(run.context.is_some_and(|context| context.system > 0));
        assert_eq!(run.goal.seat.as_ref().map(|seat| seat.instructions.as_str()), Some(""));
    }

    #[test]
    fn a_sub_agent_that_finds_no_place_waits_for_one_and_that_is_no_attempt() {
        let (mut life, goal) = with_child();
        let child = goal.parent.unwrap().child;
        for round in 1..=8 {
            let waits = on(&mut life, Event::Started(child, Err(AgentError::Full("64".into()))), &[1, 2]);
            assert!(!waits.iter().any(|action| matches!(action, Action::Start(..))), "{waits:?}");
            let now_ms = round * 10_000;
            let places = [1, 2].map(|n| Place { id: node(n), name: format!("n{n}"), load: Default::default() });
            let fresh = || Uuid::from_u128(u128::from(now_ms));
            let again = life.on(Event::Picture, &World { now_ms, me: node(1), places: &places, fresh: &fresh });
            let [Action::Start(_, goal)] = &again[..] else { panic!("{again:?}") };
            assert_eq!(goal.parent.unwrap().child, child, "its tree has counted it");
        }
        let run = life.run();
        assert_eq!((run.state, run.children.len(), run.steps.len()), (RunState::Running, 1, 1));
    }

    #[test]
    fn forged_counts_do_not_overflow() {
        let (mut life, goal) = with_child();
        on(&mut life, Event::Moved(child(&goal, u64::MAX)), &[1, 2]);
        let other = Run { id: Uuid::from_u128(77), ..*child(&goal, u64::MAX) };
        on(&mut life, Event::Moved(Box::new(other)), &[1, 2]);
        assert_eq!(life.share(), 0);
        life.run.tokens = u64::MAX;
        on(&mut life, Event::Thought(Ok(thought("x", u64::MAX))), &[1, 2]);
    }
}
