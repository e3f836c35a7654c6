//! A tiny model: a few layers of random weights, a byte-level vocabulary of 300 tokens and ChatML.

use std::path::Path;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Writer;
use crate::gguf::TensorType;
use crate::tokenizer::character;

/// Shape of a tiny model. The default takes 450 KiB and computes thousands of tokens a second.
#[derive(Clone, Debug)]
pub struct Options {
    /// `llama`, `qwen2` or `qwen3`.
    pub architecture: &'static str,
    /// Number of layers.
    pub layers: u32,
    /// Width of hidden states; a multiple of `heads`, and of 32 for quantised types.
    pub hidden: u32,
    /// Attention heads.
    pub heads: u32,
    /// Heads of keys and values; divides `heads`.
    pub kv_heads: u32,
    /// Width of the feed-forward part.
    pub feed_forward: u32,
    /// Tokens of the longest sequence.
    pub context_tokens: u32,
    /// How matrices are stored: `F32`, `F16`, `Q8_0`, `Q4_K`, ...
    pub kind: &'static str,
    /// Whether the output head is the embedding table.
    pub tied: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            architecture: "llama",
            layers: 4,
            hidden: 64,
            heads: 4,
            kv_heads: 2,
            feed_forward: 96,
            context_tokens: 1024,
            kind: "Q8_0",
            tied: false,
        }
    }
}

/// Pairs that merge into one token, in the order of their rank.
const MERGES: [&str; 41] = [
    "Ġ t", "h e", "i n", "r e", "o n", "Ġt he", "e r", "a t", "n d", "Ġ a", "o r", "e n", "Ġ w", "i s", "i t", "Ġ s",
    "o u", "Ġ o", "a l", "e s", "Ġ b", "Ġ c", "Ġ f", "Ġ m", "Ġ in", "Ġ p", "in g", "Ġa nd", "Ġo f", "Ġt o", "e d",
    "a n", "Ġ d", "i c", "a r", "Ġ h", "l l", "o m", "Ġ is", "l e", "Ġ th",
];

/// Control tokens, after bytes and merges.
const CONTROLS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// ChatML as most files carry it.
const TEMPLATE: &str = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}\
    {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// Writes a tiny model to `path`; the same seed and options give the same bytes.
///
/// Greedy answers are printable ASCII and never end by themselves, because the head gives all
/// other tokens a logit of zero.
///
/// # Errors
/// If the file can't be written.
///
/// # Panics
/// If the options contradict each other.
pub fn tiny_llama(path: impl AsRef<Path>, seed: u64, options: &Options) -> std::io::Result<()> {
    std::fs::write(path, bytes(seed, options))
}

fn bytes(seed: u64, options: &Options) -> Vec<u8> {
    let mut file = Writer::new();
    let arch = options.architecture;
    file.text("general.architecture", arch)
        .text("general.name", "tiny")
        .number(&format!("{arch}.block_count"), options.layers)
        .number(&format!("{arch}.context_length"), options.context_tokens)
        .number(&format!("{arch}.embedding_length"), options.hidden)
        .number(&format!("{arch}.feed_forward_length"), options.feed_forward)
        .number(&format!("{arch}.attention.head_count"), options.heads)
        .number(&format!("{arch}.attention.head_count_kv"), options.kv_heads)
        .float(&format!("{arch}.attention.layer_norm_rms_epsilon"), 1e-5)
        .float(&format!("{arch}.rope.freq_base"), 10_000.0);
    let tokens = vocabulary(&mut file);
    let random = ChaCha8Rng::seed_from_u64(seed);
    Weights { file, random, options, vocabulary: tokens.len() as u32 }.write(&tokens)
}

/// Adds the tokenizer and gives the tokens' texts.
fn vocabulary(file: &mut Writer) -> Vec<String> {
    let mut tokens: Vec<String> = (0..=255).map(|byte| character(byte).to_string()).collect();
    tokens.extend(MERGES.iter().map(|merge| merge.replace(' ', "")));
    let texts = tokens.len();
    tokens.extend(CONTROLS.map(str::to_owned));
    let kinds: Vec<i32> = (0..tokens.len()).map(|token| if token < texts { 1 } else { 3 }).collect();
    let end = tokens.len() as u32 - 1;
    file.text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", "gpt-2")
        .texts("tokenizer.ggml.tokens", &tokens)
        .numbers("tokenizer.ggml.token_type", &kinds)
        .texts("tokenizer.ggml.merges", &MERGES)
        .number("tokenizer.ggml.eos_token_id", end)
        .flag("tokenizer.ggml.add_bos_token", false)
        .text("tokenizer.chat_template", TEMPLATE);
    tokens
}

/// Adds tensors of random values.
struct Weights<'o> {
    file: Writer,
    random: ChaCha8Rng,
    options: &'o Options,
    vocabulary: u32,
}

impl Weights<'_> {
    fn write(mut self, tokens: &[String]) -> Vec<u8> {
        let Options { hidden, feed_forward, tied, layers, .. } = *self.options;
        let head_width = hidden / self.options.heads;
        let keys = self.options.kv_heads * head_width;
        let shown = |token: &String| token.chars().all(|character| matches!(character, ' '..='~' | 'Ġ'));
        let shown: Vec<bool> = tokens.iter().map(|token| shown(token) && !CONTROLS.contains(&token.as_str())).collect();

        let embedding = self.table(hidden, &vec![true; tokens.len()]);
        let head = self.table(hidden, &shown);
        let dimensions = [hidden.into(), self.vocabulary.into()];
        let kind = self.kind();
        self.file.tensor("token_embd.weight", &dimensions, kind, if tied { &head } else { &embedding });
        if !tied {
            self.file.tensor("output.weight", &dimensions, kind, &head);
        }
        self.vector("output_norm.weight", hidden, 1.0);
        for layer in 0..layers {
            let name = |part: &str| format!("blk.{layer}.{part}");
            self.vector(&name("attn_norm.weight"), hidden, 1.0);
            self.matrix(&name("attn_q.weight"), hidden, hidden);
            self.matrix(&name("attn_k.weight"), hidden, keys);
            self.matrix(&name("attn_v.weight"), hidden, keys);
            self.matrix(&name("attn_output.weight"), hidden, hidden);
            self.vector(&name("ffn_norm.weight"), hidden, 1.0);
            self.matrix(&name("ffn_gate.weight"), hidden, feed_forward);
            self.matrix(&name("ffn_up.weight"), hidden, feed_forward);
            self.matrix(&name("ffn_down.weight"), feed_forward, hidden);
            if self.options.architecture == "qwen2" {
                self.vector(&name("attn_q.bias"), hidden, 0.0);
                self.vector(&name("attn_k.bias"), keys, 0.0);
                self.vector(&name("attn_v.bias"), keys, 0.0);
            }
            if self.options.architecture == "qwen3" {
                self.vector(&name("attn_q_norm.weight"), head_width, 1.0);
                self.vector(&name("attn_k_norm.weight"), head_width, 1.0);
            }
        }
        self.file.bytes()
    }

    fn kind(&self) -> TensorType {
        TensorType::from_name(self.options.kind).expect("the options name a type that GGUF knows")
    }

    /// Rows of random values, zero where `shown` says so.
    fn table(&mut self, columns: u32, shown: &[bool]) -> Vec<f32> {
        let mut values = Vec::new();
        for &shown in shown {
            let scale = if shown { 1.0 } else { 0.0 };
            values.extend((0..columns).map(|_| scale * self.uniform()));
        }
        values
    }

    /// A matrix that keeps the size of what it is multiplied with.
    fn matrix(&mut self, name: &str, columns: u32, rows: u32) {
        let scale = (3.0 / columns as f32).sqrt();
        let values: Vec<f32> = (0..columns * rows).map(|_| scale * self.uniform()).collect();
        let kind = self.kind();
        self.file.tensor(name, &[columns.into(), rows.into()], kind, &values);
    }

    fn vector(&mut self, name: &str, length: u32, around: f32) {
        let values: Vec<f32> = (0..length).map(|_| around + 0.1 * self.uniform()).collect();
        let kind = TensorType::from_name("F32").expect("GGUF knows F32");
        self.file.tensor(name, &[length.into()], kind, &values);
    }

    /// A number in [-1, 1).
    fn uniform(&mut self) -> f32 {
        (self.random.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0
    }
}
