//! `answer`: one prompt, one answer. What the sub-agents of a `map_reduce` do with their part.

use super::{Event, Failure, Frame, Move, Prompt};
use crate::agent::{
    data::{RULE, bounded, quoted},
    documents::Document,
};

/// Tokens of the answer for a part: two sentences. What is longer is cut when the parts are put together.
const PART_TOKENS_MAX: u32 = 96;

/// The strategy's state: what to ask.
#[derive(Debug)]
pub(in crate::agent) struct Answer {
    frame: Frame,
    documents: Vec<Document>,
    part: bool,
}

impl Answer {
    /// For a goal; a `part` of one is answered in a sentence or two.
    pub(super) fn new(frame: Frame, documents: Vec<Document>, part: bool) -> Answer {
        Answer { frame, documents, part }
    }

    pub(super) fn on(&mut self, event: Event) -> Vec<Move> {
        match event {
            Event::Begin(room) => {
                let (length, tokens_max) = match self.part {
                    true => ("one or two short sentences of ", PART_TOKENS_MAX),
                    false => ("", room.answer_tokens),
                };
                let system =
                    format!("You are one agent of a swarm. Reach the goal and answer in {length}plain text. {RULE}");
                let mut user = self.frame.goal.clone();
                for (name, text) in &self.documents {
                    user.push_str("\n\n");
                    user.push_str(&quoted(name, &bounded(text, room.bytes)));
                }
                let turns = self.frame.opening(&system, user, &room);
                vec![Move::Think(Prompt { purpose: "think", turns, max_tokens: room.answer_tokens.min(tokens_max) })]
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
