//! PipelineActor ("pipeline/ID"): one served model. Tokenizes, feeds the chain of its shards, streams text.
//!
//! ```text
//! Generate -> lexicon (turns to tokens) -> rota (whose turn) -> chain (first shard ... last shard)
//!          <- Chunk <- outlet (push-back) <- answer (tokens to text, stops) <- token ids
//! ```
//!
//! Not here: tensors (engine), where stages go (planner in `model`), sampling (the last shard), budgets (the
//! caller reserves and settles).

mod actor;
mod answer;
mod chain;
mod driver;
mod lexicon;
pub mod messages;
mod outlet;
mod rota;

pub(crate) use actor::{Arguments, start};
pub(crate) use chain::{Chain, attach};
pub(crate) use lexicon::Lexicon;
pub use messages::{Chunk, Generate, GenerateError, Message, Sampling, Turn};
pub(crate) use rota::RUNNING_MAX;

/// The published name of the pipeline with this id.
pub fn name(id: uuid::Uuid) -> String {
    format!("pipeline/{id}")
}
