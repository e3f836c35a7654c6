//! The decoder computes what the papers say, however it is cut, batched, chunked or rewound.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod reference;

use std::ops::ControlFlow;
use std::path::PathBuf;

use reference::Reference;
use skep_engine::synthetic::{Options, tiny_llama};
use skep_engine::{
    Chain, Finish, ForwardError, Hidden, Input, LogitRows, Logits, Model, Output, Part, Request, Sampling, Shard,
    Workload, measure,
};

/// How far logits may lie from the reference's, where logits have a spread of about 5: both add the
/// same products in another order.
const TOLERANCE: f32 = 2e-3;

struct Tiny {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn tiny(options: &Options) -> Tiny {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    tiny_llama(&path, 7, options).unwrap();
    Tiny { _folder: folder, path }
}

fn prompt(length: usize) -> Vec<u32> {
    (0..length as u32).map(|at| (at * 37 + 5) % 300).collect()
}

fn greedy(chain: &Chain, prompt: &[u32], tokens_max: u32) -> Vec<u32> {
    let request = Request { prompt, tokens_max, sampling: Sampling::default(), endings: Vec::new() };
    chain.generate(&mut chain.state(512), &request, |_| ControlFlow::Continue(())).unwrap().tokens
}

fn assert_close(ours: &[f32], exact: &[f32], what: &str) {
    assert_eq!(ours.len(), exact.len());
    for (at, (ours, exact)) in ours.iter().zip(exact).enumerate() {
        assert!((ours - exact).abs() < TOLERANCE, "{what}: logit {at} is {ours}, not {exact}");
    }
}

#[test]
fn logits_agree_with_a_naive_decoder_for_every_architecture() {
    for architecture in ["llama", "qwen2", "qwen3"] {
        for tied in [false, true] {
            let tiny = tiny(&Options { architecture, tied, kind: "F32", ..Options::default() });
            let reference = Reference::open(&tiny.path);
            let chain = Chain::load(&tiny.path, &[]).unwrap();
            let tokens = prompt(23);
            let logits = chain.forward(&mut chain.state(64), &tokens, LogitRows::All).unwrap();
            for (row, exact) in reference.logits(&tokens).iter().enumerate() {
                let what = format!("{architecture}, tied {tied}, row {row}");
                assert_close(logits.row(row).unwrap(), exact, &what);
            }
        }
    }
}

#[test]
fn one_two_and_three_shards_give_the_same_tokens() {
    for kind in ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"] {
        let tiny = tiny(&Options { kind, ..Options::default() });
        let whole = greedy(&Chain::load(&tiny.path, &[]).unwrap(), &prompt(19), 48);
        assert_eq!(whole.len(), 48);
        for cuts in [&[1][..], &[2], &[1, 3], &[1, 2, 3]] {
            let cut = greedy(&Chain::load(&tiny.path, cuts).unwrap(), &prompt(19), 48);
            assert_eq!(cut, whole, "{kind} cut at {cuts:?}");
        }
    }
}

#[test]
fn tiled_kernels_give_the_same_tokens_however_the_model_is_cut() {
    let options = Options { kind: "Q4_K", hidden: 256, heads: 4, kv_heads: 2, feed_forward: 256, ..Options::default() };
    let tiny = tiny(&options);
    let whole = greedy(&Chain::load(&tiny.path, &[]).unwrap(), &prompt(40), 24);
    assert_eq!(greedy(&Chain::load(&tiny.path, &[1, 2]).unwrap(), &prompt(40), 24), whole);
}

#[test]
fn a_prompt_in_chunks_gives_what_it_gives_at_once() {
    let tiny = tiny(&Options { kind: "F32", ..Options::default() });
    let chain = Chain::load(&tiny.path, &[2]).unwrap();
    let tokens = prompt(60);
    let at_once = chain.forward(&mut chain.state(64), &tokens, LogitRows::Last).unwrap();
    for chunk in [1, 7, 59] {
        let mut state = chain.state(64);
        let logits = tokens.chunks(chunk).map(|rows| chain.forward(&mut state, rows, LogitRows::Last).unwrap()).last();
        assert_close(logits.unwrap().last().unwrap(), at_once.last().unwrap(), "chunks");
    }
}

#[test]
fn a_truncated_cache_goes_on_as_if_the_rest_had_never_been() {
    let tiny = tiny(&Options::default());
    let chain = Chain::load(&tiny.path, &[2]).unwrap();
    let tokens = prompt(30);
    let mut state = chain.state(64);
    chain.forward(&mut state, &tokens[..20], LogitRows::None).unwrap();
    let straight = chain.forward(&mut state.clone(), &tokens[20..], LogitRows::Last).unwrap();
    chain.forward(&mut state, &prompt(11), LogitRows::None).unwrap();
    state.truncate(20);
    assert_eq!(state.tokens(), 20);
    let rewound = chain.forward(&mut state, &tokens[20..], LogitRows::Last).unwrap();
    assert_eq!(rewound, straight);
}

fn logits(output: Output) -> Logits {
    match output {
        Output::Logits(logits) => logits,
        Output::Hidden(_) => panic!("a whole model gives logits"),
    }
}

#[test]
fn sequences_in_one_pass_do_not_see_each_other() {
    let tiny = tiny(&Options { kind: "F32", ..Options::default() });
    let model = Model::open(&tiny.path).unwrap();
    let shard = Shard::from_model(&model, 0..4).unwrap();
    let texts = [prompt(3), prompt(17), vec![9], prompt(5)];
    let mut caches: Vec<_> = texts.iter().map(|_| shard.cache(64)).collect();
    // Two passes, so that the second finds caches of different lengths.
    for step in 0..2 {
        let position = |cache: &skep_engine::Cache| cache.tokens();
        let mut parts: Vec<Part<'_>> = caches
            .iter_mut()
            .zip(&texts)
            .map(|(cache, tokens)| {
                let position = position(cache);
                Part { cache, position, input: Input::Tokens(tokens), logits: LogitRows::All }
            })
            .collect();
        let together = shard.forward(&mut parts).unwrap();
        for (tokens, together) in texts.iter().zip(together) {
            let mut cache = shard.cache(64);
            let mut alone = None;
            for position in (0..=step).map(|pass| pass * tokens.len() as u32) {
                let part = Part { cache: &mut cache, position, input: Input::Tokens(tokens), logits: LogitRows::All };
                alone = shard.forward(&mut [part]).unwrap().pop();
            }
            let (together, alone) = (logits(together), logits(alone.unwrap()));
            assert_eq!(together.rows(), tokens.len());
            for row in 0..tokens.len() {
                assert_close(together.row(row).unwrap(), alone.row(row).unwrap(), "together");
            }
        }
    }
}

#[test]
fn refused_passes_change_nothing() {
    let tiny = tiny(&Options::default());
    let (first, last) = (Shard::load(&tiny.path, 0..2).unwrap(), Shard::load(&tiny.path, 2..4).unwrap());
    let mut cache = first.cache(16);
    let mut pass = |shard: &Shard, position, input: Input<'_>| {
        let result = shard.forward(&mut [Part { cache: &mut cache, position, input, logits: LogitRows::Last }]);
        (result.map(|_| ()), cache.tokens())
    };
    let hidden = Hidden::from_bytes(64, &[0; 64 * 4]).unwrap();
    let narrow = Hidden::from_bytes(32, &[0; 32 * 4]).unwrap();
    assert!(matches!(pass(&first, 0, Input::Tokens(&[])), (Err(ForwardError::Empty), 0)));
    assert!(matches!(pass(&first, 1, Input::Tokens(&[1])), (Err(ForwardError::Position { given: 1, held: 0 }), 0)));
    assert!(matches!(pass(&first, 0, Input::Tokens(&[300])), (Err(ForwardError::UnknownToken { .. }), 0)));
    assert!(matches!(pass(&first, 0, Input::Tokens(&[1; 17])), (Err(ForwardError::ContextFull { .. }), 0)));
    assert!(matches!(pass(&first, 0, Input::Tokens(&[1; 2000])), (Err(ForwardError::TooManyRows { .. }), 0)));
    assert!(matches!(pass(&first, 0, Input::Hidden(&hidden)), (Err(ForwardError::WrongInput { .. }), 0)));
    assert!(matches!(pass(&last, 0, Input::Hidden(&hidden)), (Err(ForwardError::ForeignCache), 0)));
    assert!(matches!(pass(&first, 0, Input::Tokens(&[1, 2])), (Ok(()), 2)));
    let mut cache = last.cache(16);
    let part = Part { cache: &mut cache, position: 0, input: Input::Hidden(&narrow), logits: LogitRows::Last };
    assert!(matches!(last.forward(&mut [part]), Err(ForwardError::HiddenShape { .. })));
    assert!(matches!(last.forward(&mut []), Err(ForwardError::Empty)));
}

#[test]
fn a_q4_1_model_computes_what_its_weights_say() {
    // The same weights as plain floats: what the embedding table gives back.
    for tied in [false, true] {
        let tiny = tiny(&Options { kind: "Q4_1", tied, ..Options::default() });
        let floats = as_floats(&tiny.path);
        let tokens = prompt(20);
        let logits = |path: &std::path::Path| {
            let chain = Chain::load(path, &[]).unwrap();
            let logits = chain.forward(&mut chain.state(64), &tokens, LogitRows::Last);
            logits.unwrap().last().unwrap().to_vec()
        };
        let (ours, exact) = (logits(&tiny.path), logits(&floats.path));
        // Kernels round inputs to 8 bits, which moves logits of this spread by a tenth at most.
        let far = ours.iter().zip(&exact).map(|(a, b)| (a - b).abs());
        let far = far.fold(0.0, f32::max);
        assert!(far < 0.25, "tied {tied}: {far}");
    }
}

/// A copy of a Q4_1 file with every Q4_1 tensor as F32, dequantised here by the format's definition.
fn as_floats(path: &std::path::Path) -> Tiny {
    let bytes = std::fs::read(path).unwrap();
    let model = Model::open(path).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("floats.gguf");
    let mut file = skep_engine::synthetic::Writer::new();
    let card = model.card();
    file.text("general.architecture", "llama")
        .number("llama.block_count", card.layers)
        .number("llama.context_length", card.context_tokens)
        .number("llama.embedding_length", card.hidden)
        .number("llama.feed_forward_length", card.feed_forward)
        .number("llama.attention.head_count", card.heads)
        .number("llama.attention.head_count_kv", card.kv_heads)
        .float("llama.rope.freq_base", card.rope.base);
    for (name, tensor) in &model.gguf().tensors {
        let start = (model.gguf().data_offset + tensor.offset) as usize;
        let stored = &bytes[start..start + tensor.bytes as usize];
        let values: Vec<u8> = match tensor.kind.name() {
            "Q4_1" => {
                let block = |block: &[u8]| {
                    let (scale, least) = (half(&block[..2]), half(&block[2..4]));
                    let low = block[4..].iter().map(|byte| byte & 15);
                    let high = block[4..].iter().map(|byte| byte >> 4);
                    let nibbles = low.chain(high);
                    let values = nibbles.map(|nibble| scale * f32::from(nibble) + least);
                    values.flat_map(f32::to_le_bytes).collect::<Vec<u8>>()
                };
                stored.chunks_exact(20).flat_map(block).collect()
            }
            _ => stored.to_vec(),
        };
        const F32: u32 = 0;
        file.raw_tensor(name, &tensor.dimensions, F32, &values);
    }
    std::fs::write(&copy, file.bytes()).unwrap();
    Tiny { _folder: folder, path: copy }
}

/// A 16-bit float that is normal or zero.
fn half(bytes: &[u8]) -> f32 {
    let bits = u32::from(u16::from_le_bytes([bytes[0], bytes[1]]));
    let (sign, exponent, fraction) = (bits >> 15, bits >> 10 & 31, bits & 1023);
    if exponent == 0 {
        return 0.0;
    }
    f32::from_bits(sign << 31 | (exponent + 112) << 23 | fraction << 13)
}

#[test]
fn broken_numbers_from_a_neighbour_are_survived() {
    for kind in ["F32", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"] {
        let tiny = tiny(&Options { kind, layers: 2, hidden: 256, feed_forward: 256, ..Options::default() });
        let shard = Shard::load(&tiny.path, 1..2).unwrap();
        for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE, 0.0] {
            for rows in [1, 40] {
                let mut values = vec![1.0_f32; 256 * rows];
                values[7] = broken;
                values[100..200].fill(broken);
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                let hidden = Hidden::from_bytes(256, &bytes).unwrap();
                let mut cache = shard.cache(64);
                let part =
                    Part { cache: &mut cache, position: 0, input: Input::Hidden(&hidden), logits: LogitRows::Last };
                let output = shard.forward(&mut [part]).unwrap().pop().unwrap();
                let _ = skep_engine::sample(logits(output).last().unwrap(), &[], 0, &Sampling::default());
            }
        }
    }
}

#[test]
fn a_sequence_ends_at_its_limit() {
    let tiny = tiny(&Options { context_tokens: 24, ..Options::default() });
    let chain = Chain::load(&tiny.path, &[]).unwrap();
    let tokens = prompt(20);
    let request = Request { prompt: &tokens, tokens_max: 100, sampling: Sampling::default(), endings: Vec::new() };
    let mut state = chain.state(1000);
    let generated = chain.generate(&mut state, &request, |_| ControlFlow::Continue(())).unwrap();
    assert_eq!((generated.tokens.len(), generated.finish), (5, Finish::Length));
    assert_eq!(state.tokens(), 24);
}

#[test]
fn a_card_and_its_shards_state_the_same_bytes() {
    for tied in [false, true] {
        let tiny = tiny(&Options { tied, ..Options::default() });
        let model = Model::open(&tiny.path).unwrap();
        let card = model.card();
        assert_eq!((card.layers, card.hidden, card.vocabulary, card.tied), (4, 64, 300, tied));
        for layers in [0..4, 0..2, 1..3, 2..4] {
            let memory = Shard::from_model(&model, layers.clone()).unwrap().memory();
            let norms = 4 * 64 * (2 * layers.len() as u64 + u64::from(layers.end == 4));
            assert_eq!(memory.weight_bytes + norms, card.weight_bytes(layers.clone()), "{layers:?}, tied {tied}");
            assert!(memory.resident_bytes >= memory.weight_bytes);
            assert_eq!(memory.cache_bytes_per_token, card.cache_bytes_per_token(layers));
        }
    }
}

#[test]
fn a_cache_takes_the_memory_that_it_states() {
    let tiny = tiny(&Options::default());
    let shard = Shard::load(&tiny.path, 0..4).unwrap();
    let mut cache = shard.cache(1024);
    assert_eq!(cache.bytes(), 0);
    let tokens = prompt(300);
    shard
        .forward(&mut [Part { cache: &mut cache, position: 0, input: Input::Tokens(&tokens), logits: LogitRows::None }])
        .unwrap();
    // 300 tokens round up to 512.
    assert_eq!(cache.bytes(), 512 * shard.memory().cache_bytes_per_token);
}

#[test]
fn the_identity_follows_the_content() {
    let (one, same) = (tiny(&Options::default()), tiny(&Options::default()));
    let other = tiny(&Options { kind: "Q4_0", ..Options::default() });
    let id = |tiny: &Tiny| Model::open(&tiny.path).unwrap().card().id;
    assert_eq!(id(&one), id(&same));
    assert_ne!(id(&one), id(&other));
    let mut bytes = std::fs::read(&one.path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8192].fill(0);
    std::fs::write(&one.path, bytes).unwrap();
    assert_ne!(id(&one), id(&same));
    assert_eq!(id(&one).to_string().len(), 64);
}

#[test]
fn every_range_can_be_measured() {
    let tiny = tiny(&Options::default());
    for layers in [0..4, 0..1, 1..2, 3..4] {
        let shard = Shard::load(&tiny.path, layers).unwrap();
        let ticks = std::cell::Cell::new(0);
        let clock = || {
            ticks.set(ticks.get() + 1);
            std::time::Duration::from_millis(ticks.get())
        };
        let speed = measure(&shard, Workload { prefill_rows: 10, decode_tokens: 3 }, &clock).unwrap();
        assert_eq!((speed.prefill_tokens_per_s.round(), speed.decode_tokens_per_s.round()), (10_000.0, 1000.0));
    }
}
