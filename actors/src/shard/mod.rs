//! InferenceShardActor ("shard/ID"): one loaded layer range of a model, a link in the chain of one pipeline.
//!
//! ```text
//! pipeline --tokens--> shard 0 --hidden states--> shard 1 -- ... --> shard n-1 --token ids--> pipeline
//! ```
//!
//! Stages are chained, not relayed through the pipeline: n hops a token instead of 2n - 2, and a prompt's chunks
//! follow each other through the chain without waiting for answers. What concerns a sequence (open, rows, close)
//! travels on the stream itself, in order; messages only attach the chain and ask for figures. The last stage
//! samples, so that a token id comes back and not 200 KB of logits.
//!
//! Not here: the tensors (engine), whose turn it is (`pipeline`), where the file comes from (`model`).

mod absence;
mod actor;
pub mod messages;
mod step;
mod worker;

pub(crate) use absence::gone;
pub(crate) use actor::{Arguments, start};
pub use messages::{Attach, Message, ShardError, Stats};
pub(crate) use step::{HISTORY_TOKENS_MAX, ROWS_MAX, Step, read, write};

/// The published name of the shard with this id.
pub fn name(id: uuid::Uuid) -> String {
    format!("shard/{id}")
}
