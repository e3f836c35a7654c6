//! A model file: what it is (card), which tensors it must hold (layout), and whether two machines
//! hold the same one (identity). Reads no weights: that is `shard`'s.

mod card;
mod file;
mod identity;
pub(crate) mod layout;

pub use card::{Card, Rope, RopeStyle};
pub use file::Model;
pub(crate) use file::Weights;
pub use identity::ContentId;
