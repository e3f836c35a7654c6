//! A shard: a range of a model's layers, loaded and ready to compute.
//!
//! ```text
//! first shard:  token ids -> embedding -> layers [0, a) -> Hidden
//! inner shard:              Hidden     -> layers [a, b) -> Hidden
//! last shard:               Hidden     -> layers [b, n) -> norm -> head -> Logits
//! ```
//!
//! Weights are shared and never change; what a sequence adds lives in its [`Cache`], which the
//! caller keeps. Sequences in one pass are computed together wherever they meet the same weights.

mod cache;
mod hidden;
mod layer;
mod load;
mod pass;

pub use cache::Cache;
pub use hidden::{Hidden, Logits};
pub use load::{Memory, Shard};
pub use pass::{Input, LogitRows, Output, Part};
