//! What can go wrong, one enum per family of operations. No error carries weights, prompts or text of users.
//!
//! Nothing here changes state: a failed load leaves nothing behind, a failed forward leaves every
//! cache as it was.

use thiserror::Error;

/// A file is not a GGUF file that the engine accepts. Names from the file are quoted and short.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The first four bytes are not `GGUF`.
    #[error("this is not a GGUF file: it starts with {0:02x?}; download the model again, or convert it to GGUF")]
    NotGguf([u8; 4]),
    /// A version other than 2 and 3; version 1 and big-endian files are rare and obsolete.
    #[error("GGUF version {0} is not supported (2 and 3 are); convert the model again with a current converter")]
    Version(u32),
    /// The file ends inside its header, or a length field points behind the end.
    #[error(
        "{what} at byte {at} needs {wanted} bytes, but the file has {left} left; the download is incomplete or damaged"
    )]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Where, in bytes from the start.
        at: u64,
        /// Bytes that it needs.
        wanted: u64,
        /// Bytes that are left.
        left: u64,
    },
    /// A count or a length is over its limit in [`crate::defaults`].
    #[error("the file states {found} {what}; at most {max} are accepted")]
    TooMany {
        /// What is counted, in plural.
        what: &'static str,
        /// The count that the file states.
        found: u64,
        /// The limit.
        max: u64,
    },
    /// A text is not UTF-8.
    #[error("{what} at byte {at} is not UTF-8; the file is damaged")]
    NotUtf8 {
        /// What was being read.
        what: &'static str,
        /// Where, in bytes from the start.
        at: u64,
    },
    /// A metadata value is of an unknown kind, or an array holds arrays.
    #[error("metadata {key:?} is of the unknown kind {kind}")]
    UnknownKind {
        /// The key.
        key: String,
        /// The kind's number in the file.
        kind: u32,
    },
    /// A key or a tensor's name appears twice.
    #[error("{0:?} appears twice in the file")]
    Duplicate(String),
    /// `general.alignment` is not a power of two from 8 to 65,536.
    #[error("alignment {0} is not a power of two from 8 to 65536")]
    Alignment(u64),
    /// A tensor's type is unknown.
    #[error("tensor {name:?} is of the unknown type {kind}")]
    UnknownTensorType {
        /// The tensor.
        name: String,
        /// The type's number in the file.
        kind: u32,
    },
    /// A tensor's dimensions can't be: none, zero, not a multiple of the block, or too large to count.
    #[error("tensor {name:?} has impossible dimensions {dimensions:?}: {why}")]
    Shape {
        /// The tensor.
        name: String,
        /// The dimensions as the file states them.
        dimensions: Vec<u64>,
        /// What is wrong with them.
        why: &'static str,
    },
    /// A tensor's bytes are not aligned, lie behind the end of the file, or overlap another tensor's.
    #[error("tensor {name:?} at offset {offset} with {bytes} bytes {why}")]
    Placement {
        /// The tensor.
        name: String,
        /// Offset from the start of the tensor data.
        offset: u64,
        /// Its length in bytes.
        bytes: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// A key that the model needs is not there.
    #[error("metadata {0:?} is missing; convert the model again with a current converter")]
    MissingKey(String),
    /// A key is there with a value of another kind than the format states, or out of its range.
    #[error("metadata {key:?} is not {wanted}")]
    WrongKind {
        /// The key.
        key: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// Reading failed.
    #[error("the model file could not be read: {0}")]
    Io(#[from] std::io::Error),
}

/// A model, or a shard of it, could not be loaded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file's header is not acceptable.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The engine has no decoder for this architecture.
    #[error("architecture {0:?} is not supported; llama, qwen2 and qwen3 are")]
    Architecture(String),
    /// The model needs something that the decoder does not do, and would compute nonsense without.
    #[error("this model needs {0}, which the engine does not support")]
    Unsupported(String),
    /// Hyperparameters contradict each other or are over a limit.
    #[error("the model's hyperparameters are impossible: {0}")]
    Hyperparameters(String),
    /// A tensor is missing.
    #[error("tensor {0:?} is missing; the file holds only a part of the model, or another architecture")]
    MissingTensor(String),
    /// A tensor's shape is not what the hyperparameters say.
    #[error("tensor {name:?} has shape {found:?}, the model needs {wanted:?}")]
    TensorShape {
        /// The tensor.
        name: String,
        /// Its shape in the file.
        found: Vec<u64>,
        /// The shape that the hyperparameters imply.
        wanted: Vec<u64>,
    },
    /// A tensor's type has no kernel here.
    #[error(
        "tensor {name:?} is stored as {kind}, for which there is no kernel; use a Q4_0, Q4_K, Q5_K, Q6_K, Q8_0, F16 or BF16 file"
    )]
    TensorType {
        /// The tensor.
        name: String,
        /// The type's name.
        kind: &'static str,
    },
    /// The asked range is empty or goes beyond the model.
    #[error("layers {start}..{end} are not a range within the model's {layers} layers")]
    LayerRange {
        /// First layer.
        start: u32,
        /// Layer after the last one.
        end: u32,
        /// Layers of the model.
        layers: u32,
    },
    /// The tensor library refused what passed all checks: a bug, reported rather than hidden.
    #[error("the compute kernel failed: {0}")]
    Kernel(String),
}

/// A forward pass was refused or failed; no cache has changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// No part, or a part without rows.
    #[error("a forward pass needs at least one row from each sequence")]
    Empty,
    /// More rows than [`crate::defaults::FORWARD_ROWS_MAX`]; send them in chunks.
    #[error("{rows} rows in one pass; at most {max} are accepted, send them in chunks")]
    TooManyRows {
        /// Rows asked for.
        rows: usize,
        /// The limit.
        max: usize,
    },
    /// The rows do not continue the cache: truncate it, or rebuild it from the accepted tokens.
    #[error("rows start at position {given}, but the cache holds {held} tokens; truncate or rebuild it")]
    Position {
        /// Position given.
        given: u32,
        /// Tokens in the cache.
        held: u32,
    },
    /// The sequence would grow over its limit.
    #[error("the sequence would hold {wanted} tokens; its limit is {max}")]
    ContextFull {
        /// Tokens after this pass.
        wanted: u64,
        /// The cache's limit.
        max: u32,
    },
    /// The cache was made by a shard of another shape.
    #[error("this cache belongs to another shard; ask this shard for one")]
    ForeignCache,
    /// Token ids were given to a shard that starts later, or hidden states to the first one.
    #[error("a shard that starts at layer {first_layer} takes {}", if *.first_layer == 0 { "token ids" } else { "hidden states" })]
    WrongInput {
        /// The shard's first layer.
        first_layer: u32,
    },
    /// A token id is not in the vocabulary.
    #[error("token {token} is not in the vocabulary of {vocabulary}")]
    UnknownToken {
        /// The id.
        token: u32,
        /// Ids in the vocabulary.
        vocabulary: u32,
    },
    /// Hidden states of another width, or bytes that are not whole rows.
    #[error(
        "hidden states of {bytes} bytes are not whole rows of {width} values, or over the limit of {rows_max} rows"
    )]
    HiddenShape {
        /// Bytes given.
        bytes: usize,
        /// Values of a row.
        width: usize,
        /// Rows at most.
        rows_max: usize,
    },
    /// The tensor library failed on checked input: a bug, reported rather than hidden.
    #[error("the compute kernel failed: {0}")]
    Kernel(String),
}

/// A tokenizer could not be built from a file, or a text not encoded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A key is missing or of another kind.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The vocabulary is of a kind that the engine does not read.
    #[error("tokenizer model {0:?} is not supported; gpt2 (byte-level BPE) and llama (SentencePiece) are")]
    Model(String),
    /// The splitting rule is unknown, and a wrong one would silently ruin answers.
    #[error("pre-tokenizer {0:?} is not supported")]
    PreTokenizer(String),
    /// The vocabulary contradicts itself.
    #[error("the vocabulary is damaged: {0}")]
    Vocabulary(String),
    /// The text is over [`crate::defaults::ENCODE_BYTES_MAX`].
    #[error("a text of {bytes} bytes is too long to tokenise; the limit is {max}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The tokenizer library failed.
    #[error("the text could not be tokenised: {0}")]
    Encode(String),
}

/// A chat could not be rendered as a prompt.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ChatError {
    /// The file's template does not parse.
    #[error("the model's chat template is damaged: {0}")]
    Template(String),
    /// The template refused the conversation (`raise_exception`), ran out of fuel, or failed.
    #[error("the model's chat template refused this conversation: {0}")]
    Render(String),
    /// More messages than [`crate::defaults::CHAT_MESSAGES_MAX`], or more text than fits.
    #[error("the conversation is too long: {found} {what}, at most {max}")]
    TooLong {
        /// What is counted.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// The limit.
        max: usize,
    },
}

/// Sampling parameters, or logits, make no choice possible.
#[derive(Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum SampleError {
    /// A parameter is out of its range.
    #[error("{name} is {value}; it must be {range}")]
    Parameter {
        /// Name of the parameter.
        name: &'static str,
        /// Its value.
        value: f32,
        /// The range that it must lie in.
        range: &'static str,
    },
    /// Every logit is NaN or minus infinity: the model's numbers broke down.
    #[error("the model gave no usable logit; its weights may be damaged")]
    NoCandidate,
    /// Too many or too long stop strings, or an empty one.
    #[error("stop strings must be 1 to {bytes_max} bytes long and at most {count_max} in number")]
    StopStrings {
        /// Strings at most.
        count_max: usize,
        /// Bytes of a string at most.
        bytes_max: usize,
    },
}

/// A whole generation failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// A forward pass failed.
    #[error(transparent)]
    Forward(#[from] ForwardError),
    /// Sampling failed.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// Loading failed.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The shards do not cover the model from the first layer to the last, in order.
    #[error("the shards do not cover the model: layer {missing} is missing")]
    Gap {
        /// The first layer that no shard holds.
        missing: u32,
    },
    /// The prompt is empty.
    #[error("the prompt holds no token; give at least one")]
    EmptyPrompt,
}
