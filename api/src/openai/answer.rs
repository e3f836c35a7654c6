//! A chat completion, as OpenAI's clients read it: whole, or in chunks.

use crate::Problem;
use poem_openapi::{Object, Union, types::Any};
use serde_json::Value;
use skep_actors::pipeline::messages::Finish;

/// A whole answer.
#[derive(Debug, Object)]
pub struct Completion {
    /// Its id.
    pub id: String,
    /// `chat.completion`.
    pub object: String,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// The model that answered.
    pub model: String,
    /// The one answer.
    pub choices: Vec<Choice>,
    /// Tokens used.
    pub usage: Tokens,
}

/// An answer.
#[derive(Debug, Object)]
#[oai(rename = "CompletionChoice")]
pub struct Choice {
    /// 0.
    pub index: u32,
    /// What was said.
    pub message: Said,
    /// `stop` or `length`.
    pub finish_reason: String,
}

/// What was said.
#[derive(Debug, Object)]
#[oai(rename = "CompletionAnswer")]
pub struct Said {
    /// `assistant`.
    pub role: String,
    /// The text.
    pub content: String,
}

/// Tokens used.
#[derive(Debug, Clone, Copy, Object)]
#[oai(rename = "CompletionUsage")]
pub struct Tokens {
    /// Of the prompt.
    pub prompt_tokens: u64,
    /// Of the answer.
    pub completion_tokens: u64,
    /// Of both.
    pub total_tokens: u64,
}

impl Tokens {
    pub(crate) fn new(prompt_tokens: u64, completion_tokens: u64) -> Tokens {
        Tokens { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens }
    }
}

/// A piece of an answer.
#[derive(Debug, Object)]
pub struct CompletionChunk {
    /// Its id, the same in every piece.
    pub id: String,
    /// `chat.completion.chunk`.
    pub object: String,
    /// When the answer was begun, in seconds since 1970.
    pub created: u64,
    /// The model that answers.
    pub model: String,
    /// The one answer's next piece; empty in the piece that tells the usage.
    pub choices: Vec<Piece>,
    /// Tokens used, in the last piece, if asked for.
    #[oai(skip_serializing_if_is_none)]
    pub usage: Option<Tokens>,
}

/// The next piece.
#[derive(Debug, Object)]
#[oai(rename = "CompletionPiece")]
pub struct Piece {
    /// 0.
    pub index: u32,
    /// What is added.
    pub delta: Delta,
    /// `stop` or `length` in the last piece, else null.
    #[oai(nullable)]
    pub finish_reason: Option<String>,
}

/// What is added to the answer.
#[derive(Debug, Default, Object)]
#[oai(rename = "CompletionDelta", skip_serializing_if_is_none)]
pub struct Delta {
    /// `assistant`, in the first piece.
    pub role: Option<String>,
    /// More text.
    pub content: Option<String>,
}

/// An event of a streamed answer.
#[derive(Debug, Union)]
#[oai(rename = "CompletionEvent")]
pub enum Event {
    /// A piece.
    Chunk(CompletionChunk),
    /// It broke; what came before stands.
    Failed(Failure),
}

/// A streamed answer broke.
#[derive(Debug, Object)]
#[oai(rename = "CompletionFailure")]
pub struct Failure {
    /// OpenAI's object: message, type, param, code.
    pub error: Any<Value>,
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Failure {
        Failure { error: Any(super::envelope::error(&problem)) }
    }
}

/// OpenAI's word for why an answer ended.
pub(crate) fn word(finish: Finish) -> &'static str {
    match finish {
        Finish::Length => "length",
        Finish::Stop | Finish::Cancelled => "stop",
    }
}
