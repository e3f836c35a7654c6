//! What a PipelineActor can be told and asked.

use crate::model::messages::Served;
use ractor::RpcReplyPort;
use ractor_cluster_derive::RactorClusterMessage;
use serde::{Deserialize, Serialize};
use skep_runtime::{NodeId, Ticket, Wire};
use uuid::Uuid;

/// What a PipelineActor understands.
#[derive(RactorClusterMessage)]
pub enum Message {
    /// Generate: [`Chunk`] frames on the stream of the request's ticket. Answered at once with the request's id
    /// and the prompt's length in tokens, or why it can't be admitted. Closing the stream cancels; ending only the own
    /// direction cancels too, and the last chunk still comes.
    #[rpc]
    Generate(Wire<Generate>, RpcReplyPort<Wire<Result<Accepted, GenerateError>>>),
    /// How many tokens these turns are as a prompt: what a budget reserves.
    #[rpc]
    Count(Wire<Vec<Turn>>, RpcReplyPort<Wire<Result<u64, GenerateError>>>),
    /// Tokens of the longest sequence that it has room for: prompt and answer together.
    #[rpc]
    Context(RpcReplyPort<Wire<u64>>),
    /// The running requests and their figures.
    #[rpc]
    Sessions(RpcReplyPort<Wire<Vec<Session>>>),
    /// What it serves, and how it is split.
    #[rpc]
    Describe(RpcReplyPort<Wire<Served>>),
    /// End it; running requests fail with [`GenerateError::Ended`], its shards are freed.
    #[rpc]
    Stop(RpcReplyPort<Wire<()>>),
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// `system`, `user`, `assistant`, `tool`.
    pub role: String,
    /// The text. Control tokens of the model in it are plain text.
    pub content: String,
}

/// How to choose the next token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f32,
    /// Only among the k likeliest; 0 is all.
    pub top_k: u32,
    /// Only among the likeliest that together reach p; 1 is all.
    pub top_p: f32,
    /// How much less likely a token gets by having occurred; 1 is not at all.
    pub repeat_penalty: f32,
    /// Equal seeds give equal text on the same kernels.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, repeat_penalty: 1.0, seed: 0 }
    }
}

/// A request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Generate {
    /// The conversation.
    pub turns: Vec<Turn>,
    /// The most tokens to generate.
    pub max_tokens: u32,
    /// How to sample.
    pub sampling: Sampling,
    /// Texts that end the generation; they are not part of it. At most 8 of 256 bytes.
    pub stop: Vec<String>,
    /// Who expects the stream.
    pub to: NodeId,
    /// The stream's ticket.
    pub ticket: Ticket,
    /// Whose budget pays, if anyone's: where the pipeline's node keeps it, that is told what was served to whom.
    pub thread: Option<Uuid>,
}

/// A request was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Its id.
    pub id: Uuid,
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
}

/// One frame of generated text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Chunk {
    /// More text. Empty every second in which there is none (the request waits, or its prompt is being read), so
    /// that both sides notice when the other is gone.
    Text(String),
    /// The end.
    End {
        /// Why.
        reason: Finish,
        /// Tokens of the prompt.
        prompt_tokens: u64,
        /// Tokens generated, the one that ended the answer included.
        completion_tokens: u64,
    },
    /// It broke; what came before stands, and was spent.
    Failed {
        /// Why.
        error: GenerateError,
        /// Tokens generated before.
        completion_tokens: u64,
    },
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model ended it, or a stop text came.
    Stop,
    /// `max_tokens` or the context's end.
    Length,
    /// The caller went away.
    Cancelled,
}

/// One running request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Its id.
    pub id: Uuid,
    /// The model.
    pub model: String,
    /// The nodes of its stages, in order.
    pub nodes: Vec<NodeId>,
    /// Tokens of its prompt.
    pub prompt_tokens: u64,
    /// Tokens generated so far.
    pub completion_tokens: u64,
    /// Tokens a second so far.
    pub tokens_per_second: f64,
    /// Milliseconds from the request to the first token; 0 before it.
    pub first_token_ms: u64,
    /// When it began, in milliseconds since 1970.
    pub started_ms: u64,
}

/// Why text could not be generated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// A field is out of its bounds.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field's name.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The prompt does not fit.
    #[error("the prompt has {prompt} tokens, the model takes {context}: shorten it")]
    TooLong {
        /// Tokens of the prompt.
        prompt: u64,
        /// The model's context.
        context: u64,
    },
    /// As many requests run and wait as may.
    #[error("the model is busy ({0} requests wait): try again later")]
    Busy(usize),
    /// A stage's node died or its shard failed.
    #[error("stage {stage} on node {node:?} failed: {reason}")]
    StageLost {
        /// Which stage, from 0.
        stage: u16,
        /// Where it was.
        node: NodeId,
        /// What is known.
        reason: String,
    },
    /// The pipeline ended before the answer did.
    #[error("the model is not served any more: ask again, it will be started")]
    Ended,
    /// A bug of ours or of the model file.
    #[error("the engine failed: {0}")]
    Engine(String),
}
