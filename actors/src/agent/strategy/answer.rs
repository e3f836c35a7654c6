//! `answer`: one prompt, one answer. What the sub-agents of a `map_reduce` do with their part.

use super::{Event, Failure, Move, Prompt, turn};
use crate::agent::{
    data::{RULE, bounded, quoted},
    documents::Document,
};

/// The strategy's state: what to ask.
#[derive(Debug)]
pub(in crate::agent) struct Answer {
    goal: String,
    documents: Vec<Document>,
}

impl Answer {
    pub(super) fn new(goal: String, documents: Vec<Document>) -> Answer {
        Answer { goal, documents }
    }

    pub(super) fn on(&mut self, event: Event) -> Vec<Move> {
        match event {
            Event::Begin(room) => {
                let system = format!("You are one agent of a swarm. Reach the goal and answer in plain text. {RULE}");
                let mut user = self.goal.clone();
                for (name, text) in &self.documents {
                    user.push_str("\n\n");
                    user.push_str(&quoted(name, &bounded(text, room.bytes)));
                }
                let turns = vec![turn("system", system), turn("user", user)];
                vec![Move::Think(Prompt { purpose: "think", turns, max_tokens: room.answer_tokens })]
            }
            Event::Thought(text) if text.trim().is_empty() => {
                vec![Move::Fail(Failure::new(
                    "the model answered nothing: try another model, or say the goal differently",
                ))]
            }
            Event::Thought(text) => vec![Move::Finish(text.trim().to_owned())],
            Event::Observed(_) | Event::Returned(..) => Vec::new(),
        }
    }
}
