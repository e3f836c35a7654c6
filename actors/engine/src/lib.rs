//! LLM compute: weights in, logits out. Knows no actor, no network, no async and no clock.
//!
//! ```text
//! file.gguf -> gguf (checked header) -> Model (Card, Tokenizer, ChatTemplate)
//!                                         |
//! messages -> ChatTemplate -> Prompt -> Tokenizer -> token ids
//! token ids -> Shard [0, a) -> Hidden -> Shard [a, b) -> Hidden -> Shard [b, n) -> Logits
//! Logits -> sample -> token id -> Detokenizer -> text -> StopFilter -> text
//! ```
//!
//! Every call blocks and computes; callers give it a thread of their own. The tensor library is
//! known to `kernel::matrix` alone, so that the compute back end can be replaced there.

mod chat;
pub mod defaults;
mod error;
mod generate;
pub mod gguf;
mod kernel;
mod measure;
mod model;
mod sample;
mod shard;
mod stop;
pub mod synthetic;
mod tokenizer;

pub use chat::{ChatTemplate, Message, Prompt, Role};
pub use error::{ChatError, ForwardError, GenerateError, GgufError, LoadError, SampleError, TokenizerError};
pub use generate::{Chain, ChainState, Finish, Generated, Request};
pub use kernel::threads;
pub use measure::{Speed, Workload, measure};
pub use model::{Card, ContentId, Model, Rope, RopeStyle};
pub use sample::{LogProb, Sampling, log_probs, sample};
pub use shard::{Cache, Hidden, Input, LogitRows, Logits, Memory, Output, Part, Shard};
pub use stop::{Passed, StopFilter};
pub use tokenizer::{Detokenizer, Markup, Tokenizer};
