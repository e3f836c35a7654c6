//! Text to token ids and back, from the vocabulary that a GGUF file carries.
//!
//! The one rule: text is never control. [`Markup::Plain`] text can't produce a control token,
//! whatever it spells, because control tokens are not in the vocabulary that text is looked up in.

mod alphabet;
mod bpe;
mod encode;
mod markup;
mod spm;
mod stream;
mod vocabulary;

pub(crate) use alphabet::character;
pub use encode::Tokenizer;
pub use markup::Markup;
pub(crate) use markup::Splitter;
pub use stream::Detokenizer;
pub(crate) use vocabulary::Vocabulary;
