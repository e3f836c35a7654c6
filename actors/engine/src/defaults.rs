//! Every limit of the engine, each with its unit in its name and the reason for its size.

/// Bytes of a GGUF header, metadata and tensor list together. The largest vocabularies in use
/// (256 k tokens) take 15 MiB; a file that wants more is refused before its header is read on. A tokenizer holds about
/// ten times as much.
pub const HEADER_BYTES_MAX: u64 = 48 << 20;

/// Metadata entries of a file. Real files hold 20 to 60.
pub const METADATA_ENTRIES_MAX: u64 = 4096;

/// Tensors of a file. A dense model of 126 layers holds 1,138; mixtures of experts more.
pub const TENSORS_MAX: u64 = 65_536;

/// Dimensions of a tensor; the format's own bound.
pub const DIMENSIONS_MAX: u32 = 4;

/// Bytes of a metadata key or of a tensor's name. The format caps a key at 65,535; real ones stay under 64.
pub const NAME_BYTES_MAX: u64 = 256;

/// Bytes of a metadata text, such as the chat template. The longest templates take 60 KiB.
pub const TEXT_BYTES_MAX: u64 = 1 << 20;

/// Bytes of one text inside a metadata array, such as a token of the vocabulary.
pub const ARRAY_TEXT_BYTES_MAX: u64 = 64 << 10;

/// Bytes of a token that texts are cut at, such as `<|im_end|>`. The longest published ones take 60.
pub const SPECIAL_TOKEN_BYTES_MAX: usize = 256;

/// Items of a metadata array; 2^22 is 16 times the largest vocabulary in use.
pub const ARRAY_ITEMS_MAX: u64 = 1 << 22;

/// Layers of a model. The deepest published one has 126.
pub const LAYERS_MAX: u32 = 1024;

/// Width of hidden states, feed-forward and projections, in elements. The widest published one has 53,248.
pub const WIDTH_MAX: u32 = 1 << 18;

/// Tokens of a sequence, whatever the file promises: the cache of a 70B model takes 320 KiB a token.
pub const CONTEXT_TOKENS_MAX: u32 = 131_072;

/// Rows of one forward pass, all sequences together: bounds scratch memory and the time one call takes.
pub const FORWARD_ROWS_MAX: usize = 1024;

/// Rows of one prefill chunk when the engine cuts the prompt itself: long enough for the matrix
/// kernels to reuse weights, short enough that a decoding neighbour does not wait for long.
pub const PREFILL_CHUNK_ROWS: usize = 128;

/// Tokens by which a cache grows, so that a short chat does not hold memory for a long one.
pub const CACHE_GROWTH_TOKENS: usize = 256;

/// Bytes of one text that is tokenised: 131,072 tokens of 32 bytes.
pub const ENCODE_BYTES_MAX: usize = 4 << 20;

/// Messages of one conversation that is rendered through a chat template.
pub const CHAT_MESSAGES_MAX: usize = 4096;

/// Bytes of a chat template. The longest published ones take 60 KiB.
pub const TEMPLATE_BYTES_MAX: usize = 256 << 10;

/// Tokens of one tag of a chat template: the parser's tree is as deep as a tag has operators. Published ones stay
/// under 200.
pub const TEMPLATE_TAG_TOKENS_MAX: usize = 1024;

/// `elif`s of a chat template: the parser recurses along them. Published ones have under 40.
pub const TEMPLATE_BRANCHES_MAX: usize = 256;

/// Steps of a chat template: 4,000 a message for the longest conversation, and an end for a template that loops
/// (about a second). Bytes are paid for too, so that it bounds memory at about 128 MiB.
pub const TEMPLATE_FUEL_STEPS: u64 = 16_000_000;

/// Depth of statements, expressions and macro calls of a chat template together; published ones nest 40 deep. A level
/// takes about 3 KiB of a thread's 2 MiB in a build without optimisation.
pub const TEMPLATE_DEPTH_MAX: usize = 200;

/// Depth of lists and maps that a chat template builds; they are dropped by recursion.
pub const TEMPLATE_VALUE_DEPTH_MAX: usize = 32;

/// Numbers of one `range`, as in Jinja's own sandbox.
pub const TEMPLATE_RANGE_MAX: usize = 100_000;

/// Bytes of a rendered prompt, for templates that multiply their input.
pub const PROMPT_BYTES_MAX: usize = 2 * ENCODE_BYTES_MAX;

/// Stop strings of one request. OpenAI takes 4, other servers 16.
pub const STOP_STRINGS_MAX: usize = 16;

/// Bytes of one stop string: a filter holds back at most this much text.
pub const STOP_STRING_BYTES_MAX: usize = 256;

/// Bytes that are sampled evenly from a file's tensor data to tell files apart: 64 pieces of 4 KiB.
pub const IDENTITY_SAMPLES: u64 = 64;

/// Bytes of one such piece.
pub const IDENTITY_SAMPLE_BYTES: u64 = 4096;
