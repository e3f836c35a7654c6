//! Model files that are made, not trained: valid GGUF with random weights, for tests of the engine
//! and of everything above it. They compute for real and mean nothing.

mod tiny;
mod writer;

pub use tiny::{Options, tiny_llama};
pub use writer::Writer;
