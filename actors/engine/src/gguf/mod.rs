//! A reader of our own for GGUF headers that is safe against hostile bytes.
//!
//! Every count, length and offset is checked against the file's real length before anything is
//! allocated for it, and against a limit of [`crate::defaults`]; parsing never panics. It reads no
//! tensor data and knows no architecture: that is `model`'s.
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod bytes;
mod header;
mod tensor;
mod tensor_type;
mod value;

pub use header::Gguf;
pub use tensor::Tensor;
pub use tensor_type::TensorType;
pub use value::{Array, Kind, Texts, Value};
