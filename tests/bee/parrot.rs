//! A model that says one thing, whatever it is asked: for tests of what happens when a model wants something.
//!
//! It is a real model file: the last token of a prompt leads to one token that is the whole text, and that one to the end.

use skep_engine::{gguf::TensorType, synthetic::Writer};
use std::path::Path;

/// Small: a prompt of a byte a token is long, and is read in each turn.
const HIDDEN: u32 = 16;
const HEADS: u32 = 2;
const KV_HEADS: u32 = 1;
/// Control tokens, after the bytes.
const CONTROLS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
const TEMPLATE: &str = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}\
    {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// Writes a model that says `text`, which is ASCII without line ends.
pub fn write(path: &Path, text: &str) {
    let mut tokens: Vec<String> = (0..=255).map(|byte| character(byte).to_string()).collect();
    tokens.extend(CONTROLS.map(str::to_owned));
    let (end, says) = (tokens.len() - 1, tokens.len());
    tokens.push(text.bytes().map(character).collect());
    let kinds: Vec<i32> = tokens.iter().map(|token| if CONTROLS.contains(&token.as_str()) { 3 } else { 1 }).collect();

    let mut file = Writer::new();
    file.text("general.architecture", "llama")
        .text("general.name", "parrot")
        .number("llama.block_count", 1)
        .number("llama.context_length", 32_768)
        .number("llama.embedding_length", HIDDEN)
        .number("llama.feed_forward_length", HIDDEN)
        .number("llama.attention.head_count", HEADS)
        .number("llama.attention.head_count_kv", KV_HEADS)
        .float("llama.attention.layer_norm_rms_epsilon", 1e-5)
        .float("llama.rope.freq_base", 10_000.0)
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", "gpt-2")
        .texts("tokenizer.ggml.tokens", &tokens)
        .numbers("tokenizer.ggml.token_type", &kinds)
        .texts::<&str>("tokenizer.ggml.merges", &[])
        .number("tokenizer.ggml.eos_token_id", end as u32)
        .flag("tokenizer.ggml.add_bos_token", false)
        .text("tokenizer.chat_template", TEMPLATE);

    let kind = TensorType::from_name("F32").expect("GGUF knows F32");
    let hidden = u64::from(HIDDEN);
    // Three directions: a prompt's last token, the text, all else.
    let newline = usize::from(b'\n');
    let table = |row: &dyn Fn(usize) -> [f32; 3]| -> Vec<f32> {
        let whole = |token| row(token).into_iter().chain(std::iter::repeat_n(0.0, HIDDEN as usize - 3));
        (0..tokens.len()).flat_map(whole).collect()
    };
    let embedding = table(&|token| match token {
        token if token == newline => [1.0, 0.0, 0.0],
        token if token == says => [0.0, 1.0, 0.0],
        _ => [0.0, 0.0, 1.0],
    });
    let head = table(&|token| match token {
        token if token == says => [9.0, 0.0, 0.0],
        token if token == end => [0.0, 9.0, 9.0],
        _ => [0.0; 3],
    });
    let dimensions = [hidden, tokens.len() as u64];
    file.tensor("token_embd.weight", &dimensions, kind, &embedding);
    file.tensor("output.weight", &dimensions, kind, &head);
    let ones = vec![1.0; HIDDEN as usize];
    for name in ["output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight"] {
        file.tensor(name, &[hidden], kind, &ones);
    }
    // Nothing but the token itself counts.
    let keys = u64::from(HIDDEN / HEADS * KV_HEADS);
    for (name, rows) in [
        ("attn_q", hidden),
        ("attn_k", keys),
        ("attn_v", keys),
        ("attn_output", hidden),
        ("ffn_gate", hidden),
        ("ffn_up", hidden),
        ("ffn_down", hidden),
    ] {
        let zeros = vec![0.0; (hidden * rows) as usize];
        file.tensor(&format!("blk.0.{name}.weight"), &[hidden, rows], kind, &zeros);
    }
    std::fs::write(path, file.bytes()).expect("it is written");
}

/// The character that stands for a byte in such a vocabulary: itself if it can be seen, else one of those behind 255.
fn character(byte: u8) -> char {
    let seen = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    if seen(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|other| !seen(*other)).count() as u32;
    char::from_u32(0x100 + before).expect("these are all characters")
}
