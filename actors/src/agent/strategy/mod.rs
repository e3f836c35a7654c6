//! How a goal is worked on: state machines that are told what happened and say what to do next.
//!
//! Not here: limits, rights and records (`life`), and doing any of it (`run`).

mod answer;
mod map_reduce;
mod react;

use super::{Goal, Strategy, documents::Document};
use crate::pipeline::Turn;
use serde_json::Value;

/// What a model can take at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// Bytes of text that a prompt may have beside the instructions and the goal.
    pub(super) bytes: usize,
    /// Tokens that an answer may have.
    pub(super) answer_tokens: u32,
}

/// What happened to a run.
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// It may begin; so much fits a prompt.
    Begin(Room),
    /// The model answered.
    Thought(String),
    /// A tool gave this, or says why not.
    Observed(String),
    /// The sub-agent of an errand, by its number, has ended.
    Returned(usize, Outcome),
}

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Move {
    /// Ask the model.
    Think(Prompt),
    /// Call a tool; whether it is allowed is decided elsewhere.
    Call(String, Value),
    /// Let sub-agents do these, numbered from 0 in order.
    Send(Vec<Errand>),
    /// Send out no more of the errands that wait.
    Recall(Failure),
    /// The answer.
    Finish(String),
    /// It can't be done.
    Fail(Failure),
}

/// One question to the model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Prompt {
    /// `think` or `reduce`: what the record calls it.
    pub(super) purpose: &'static str,
    /// The conversation.
    pub(super) turns: Vec<Turn>,
    /// The most tokens to answer with.
    pub(super) max_tokens: u32,
}

/// A goal for a sub-agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Errand {
    /// `map` or `spawn_sub_agent`: what the record calls it.
    pub(super) purpose: &'static str,
    pub(super) goal: String,
    pub(super) strategy: Strategy,
    pub(super) tools: Vec<String>,
    /// The node to send it to, if it must be that one.
    pub(super) node: Option<String>,
    pub(super) documents: Vec<Document>,
}

/// Why something did not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) reason: String,
    /// The budget is used up: more of the same is pointless.
    pub(super) exhausted: bool,
}

impl Failure {
    pub(super) fn new(reason: impl Into<String>) -> Failure {
        Failure { reason: reason.into(), exhausted: false }
    }
}

/// How a sub-agent ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Its answer, or what there is of it.
    pub(super) output: Option<String>,
    /// Why there is no more.
    pub(super) failure: Option<Failure>,
}

/// What stands around the work: who works, what was said before, what is wanted now.
#[derive(Debug)]
struct Frame {
    /// What the agent is told about itself; empty for one that nobody defined.
    instructions: String,
    /// The agents that it may ask, and what for.
    peers: Vec<(String, String)>,
    history: Vec<Turn>,
    goal: String,
}

impl Frame {
    fn new(goal: &Goal, history: Vec<Turn>) -> Frame {
        let (instructions, peers) = match &goal.seat {
            Some(seat) => (seat.instructions.clone(), seat.peers.clone()),
            None => (String::new(), Vec::new()),
        };
        Frame { instructions, peers, history, goal: goal.goal.clone() }
    }

    /// How a prompt begins: the agent's own instructions before the rules of the strategy, then as much of what was said
    /// before as fits half of the room, the newest of it, then the goal and what belongs to it.
    fn opening(&self, rules: &str, goal: String, room: &Room) -> Vec<Turn> {
        let head = if self.instructions.is_empty() { String::new() } else { format!("{}\n\n", self.instructions) };
        let mut left = room.bytes / 2;
        let fit = self.history.iter().rev().take_while(|said| {
            let fits = said.content.len() <= left;
            left = left.saturating_sub(said.content.len());
            fits
        });
        let from = self.history.len() - fit.count();
        let mut turns = vec![turn("system", head + rules)];
        turns.extend(self.history[from..].iter().cloned());
        turns.push(turn("user", goal));
        turns
    }
}

/// A strategy at work.
#[derive(Debug)]
pub(super) enum Plan {
    Answer(answer::Answer),
    MapReduce(map_reduce::MapReduce),
    React(react::React),
}

impl Plan {
    /// The plan for a goal, what was said before it, and its documents.
    pub(super) fn new(goal: &Goal, history: Vec<Turn>, documents: Vec<Document>) -> Plan {
        let frame = Frame::new(goal, history);
        match goal.strategy {
            Strategy::Answer => {
                let part = goal.parent.is_some() && !documents.is_empty();
                Plan::Answer(answer::Answer::new(frame, documents, part))
            }
            Strategy::MapReduce => Plan::MapReduce(map_reduce::MapReduce::new(goal.goal.clone(), documents)),
            Strategy::React => Plan::React(react::React::new(frame, goal.tools.clone(), documents)),
        }
    }

    /// What to do, now that this happened.
    pub(super) fn on(&mut self, event: Event) -> Vec<Move> {
        match self {
            Plan::Answer(answer) => answer.on(event),
            Plan::MapReduce(map_reduce) => map_reduce.on(event),
            Plan::React(react) => react.on(event),
        }
    }

    /// What there is of an answer, should it end now.
    pub(super) fn so_far(&self) -> Option<String> {
        match self {
            Plan::Answer(_) => None,
            Plan::MapReduce(map_reduce) => map_reduce.so_far(),
            Plan::React(react) => react.so_far(),
        }
    }
}

fn turn(role: &str, content: impl Into<String>) -> Turn {
    Turn { role: role.into(), content: content.into() }
}
