//! The API as a product: what is committed of it, and whether it is what the program says.
//!
//! `openapi.json` is the specification that clients are generated from; `tags.txt` is the whole API on one page,
//! for reviews. Not here: what the API is (`skep-api`).

mod artifact;
mod tags;

pub use artifact::{Artifact, artifacts};
pub use tags::tags;
