//! Damaged and malicious files: every one is refused with an error that names what is wrong,
//! without a panic and without memory that the file does not back.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use proptest::prelude::*;
use skep_engine::gguf::Gguf;
use skep_engine::synthetic::{Options, Writer, tiny_llama};
use skep_engine::{Chain, GgufError, LoadError, LogitRows, Model, Shard};

/// Bytes that one parse may take beyond a multiple of the file's own: buffers of the reader.
const SLACK_BYTES: usize = 64 << 10;

thread_local! {
    static TAKEN: Cell<usize> = const { Cell::new(0) };
}

/// Counts what this thread asks for, so that a test sees an allocation that a file talked us into.
struct Counting;

// SAFETY: hands every call on to the system's allocator unchanged; the counter has no destructor.
#[allow(unsafe_code, reason = "a global allocator can't be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = TAKEN.try_with(|taken| taken.set(taken.get() + layout.size()));
        // SAFETY: the caller keeps the contract of `alloc`, which is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` above, hence from the system.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Parses bytes and fails if that took more memory than a small multiple of them.
fn parse(bytes: &[u8]) -> Result<Gguf, GgufError> {
    let before = TAKEN.with(Cell::get);
    let result = Gguf::parse(bytes, bytes.len() as u64);
    let taken = TAKEN.with(Cell::get) - before;
    assert!(taken <= 16 * bytes.len() + SLACK_BYTES, "{taken} bytes for a file of {}", bytes.len());
    result
}

fn tiny() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let options = Options { layers: 1, hidden: 32, feed_forward: 32, ..Options::default() };
    tiny_llama(&path, 1, &options).unwrap();
    std::fs::read(path).unwrap()
}

fn patched(at: usize, with: &[u8]) -> Vec<u8> {
    let mut bytes = tiny();
    bytes[at..at + with.len()].copy_from_slice(with);
    bytes
}

const F32: u32 = 0;

#[test]
fn a_file_cut_anywhere_in_its_header_is_refused() {
    let bytes = tiny();
    let whole = parse(&bytes).unwrap();
    for length in 0..whole.data_offset as usize {
        let error = parse(&bytes[..length]).unwrap_err();
        let fits = matches!(error, GgufError::Truncated { .. } | GgufError::Placement { .. });
        assert!(fits, "cut to {length}: {error}");
    }
}

#[test]
fn a_file_cut_anywhere_in_its_data_is_refused() {
    let bytes = tiny();
    let start = parse(&bytes).unwrap().data_offset as usize;
    for length in (start..bytes.len()).step_by(97).chain([bytes.len() - 1]) {
        assert!(matches!(parse(&bytes[..length]), Err(GgufError::Placement { .. })), "cut to {length}");
    }
}

#[test]
fn other_files_are_told_apart() {
    assert!(matches!(parse(b"PK\x03\x04 and more"), Err(GgufError::NotGguf(_))));
    assert!(matches!(parse(&patched(4, &1_u32.to_le_bytes())), Err(GgufError::Version(1))));
    assert!(matches!(parse(&patched(4, &3_u32.to_be_bytes())), Err(GgufError::Version(_))));
    assert!(matches!(parse(b""), Err(GgufError::Truncated { left: 0, .. })));
}

#[test]
fn huge_counts_are_refused_before_memory_is_taken() {
    for count in [u64::MAX, u64::MAX / 8, 1 << 40, 60_000] {
        for at in [8, 16] {
            let error = parse(&patched(at, &count.to_le_bytes())).unwrap_err();
            let fits = matches!(error, GgufError::TooMany { .. } | GgufError::Truncated { .. });
            assert!(fits, "count {count}: {error}");
        }
    }
}

#[test]
fn huge_texts_and_arrays_are_refused_before_memory_is_taken() {
    let header = |tail: &[u8]| {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend(0_u64.to_le_bytes());
        bytes.extend(1_u64.to_le_bytes());
        bytes.extend_from_slice(tail);
        bytes.resize(bytes.len() + 64, 0);
        bytes
    };
    for length in [u64::MAX, 1 << 33, 200] {
        assert!(parse(&header(&length.to_le_bytes())).is_err(), "a key of {length} bytes");
        let mut entry = 1_u64.to_le_bytes().to_vec();
        entry.push(b'k');
        let text = [entry.clone(), 8_u32.to_le_bytes().to_vec(), length.to_le_bytes().to_vec()].concat();
        assert!(parse(&header(&text)).is_err(), "a text of {length} bytes");
        for kind in [0_u32, 4, 8, 12] {
            let kinds = [9_u32.to_le_bytes(), kind.to_le_bytes()].concat();
            let array = [entry.clone(), kinds, length.to_le_bytes().to_vec()].concat();
            assert!(parse(&header(&array)).is_err(), "{length} items of kind {kind}");
        }
    }
    let nested = [1_u64.to_le_bytes().to_vec(), vec![b'k'], [9_u32.to_le_bytes(), 9_u32.to_le_bytes()].concat()];
    assert!(matches!(parse(&header(&nested.concat())), Err(GgufError::UnknownKind { kind: 9, .. })));
}

#[test]
fn impossible_dimensions_are_refused() {
    for dimensions in [&[][..], &[0], &[4, 0], &[u64::MAX, 2], &[1 << 40, 1 << 40], &[1 << 32; 4]] {
        let bytes = Writer::new().raw_tensor("t", dimensions, F32, &[0; 64]).bytes();
        let error = parse(&bytes).unwrap_err();
        assert!(matches!(error, GgufError::Shape { .. } | GgufError::Placement { .. }), "{dimensions:?}: {error}");
    }
    let five = Writer::new().raw_tensor("t", &[1; 5], F32, &[0; 64]).bytes();
    assert!(matches!(parse(&five), Err(GgufError::TooMany { found: 5, .. })));
    const Q8_0: u32 = 8;
    let broken_row = Writer::new().raw_tensor("t", &[33], Q8_0, &[0; 64]).bytes();
    assert!(matches!(parse(&broken_row), Err(GgufError::Shape { .. })));
    let unknown = Writer::new().raw_tensor("t", &[32], 4, &[0; 64]).bytes();
    assert!(matches!(parse(&unknown), Err(GgufError::UnknownTensorType { kind: 4, .. })));
}

#[test]
fn tensors_outside_the_file_or_over_each_other_are_refused() {
    let place =
        |offset| Writer::new().raw_tensor("a", &[8], F32, &[0; 32]).raw_tensor_at("b", &[8], F32, offset).bytes();
    assert!(parse(&Writer::new().raw_tensor("a", &[8], F32, &[0; 32]).bytes()).is_ok());
    for offset in [0, 16, 32, 64, 1 << 40, u64::MAX, u64::MAX - 31] {
        assert!(matches!(parse(&place(offset)), Err(GgufError::Placement { .. })), "offset {offset}");
    }
}

#[test]
fn the_same_name_twice_is_refused() {
    let keys = Writer::new().number("k", 1).number("k", 2).bytes();
    assert!(matches!(parse(&keys), Err(GgufError::Duplicate(name)) if name == "k"));
    let tensors = Writer::new().raw_tensor("t", &[8], F32, &[0; 32]).raw_tensor("t", &[8], F32, &[0; 32]).bytes();
    assert!(matches!(parse(&tensors), Err(GgufError::Duplicate(name)) if name == "t"));
}

#[test]
fn a_wrong_alignment_is_refused() {
    for alignment in [0, 3, 4, 1 << 20] {
        let bytes = Writer::new().number("general.alignment", alignment).bytes();
        assert!(matches!(parse(&bytes), Err(GgufError::Alignment(_))), "alignment {alignment}");
    }
    let text = Writer::new().text("general.alignment", "32").bytes();
    assert!(matches!(parse(&text), Err(GgufError::WrongKind { .. })));
}

/// A model file whose metadata are right but for what `change` adds or leaves out.
fn open(change: impl Fn(&mut Writer)) -> LoadError {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let mut file = Writer::new();
    change(&mut file);
    std::fs::write(&path, file.bytes()).unwrap();
    Model::open(path).unwrap_err()
}

fn hyperparameters(file: &mut Writer, heads: u32, kv_heads: u32) {
    file.text("general.architecture", "llama")
        .number("llama.block_count", 2)
        .number("llama.context_length", 64)
        .number("llama.embedding_length", 64)
        .number("llama.feed_forward_length", 64)
        .number("llama.attention.head_count", heads)
        .number("llama.attention.head_count_kv", kv_heads)
        .raw_tensor("token_embd.weight", &[64, 8], F32, &[0; 64 * 8 * 4]);
}

#[test]
fn models_that_can_not_be_are_refused_by_name() {
    let missing = open(|_| ());
    assert!(missing.to_string().contains("general.architecture"), "{missing}");
    let other = open(|file| {
        file.text("general.architecture", "mamba");
    });
    assert!(matches!(other, LoadError::Architecture(name) if name == "mamba"));
    assert!(matches!(open(|file| hyperparameters(file, 0, 1)), LoadError::Hyperparameters(_)));
    assert!(matches!(open(|file| hyperparameters(file, 3, 1)), LoadError::Hyperparameters(_)));
    assert!(matches!(open(|file| hyperparameters(file, 4, 3)), LoadError::Hyperparameters(_)));
    assert!(matches!(open(|file| hyperparameters(file, u32::MAX, 1)), LoadError::Hyperparameters(_)));
    assert!(matches!(open(|file| hyperparameters(file, 4, 2)), LoadError::MissingTensor(_)));
    let wrong_shape = open(|file| {
        hyperparameters(file, 4, 2);
        file.raw_tensor("blk.0.attn_norm.weight", &[32], F32, &[0; 128]);
    });
    assert!(matches!(wrong_shape, LoadError::TensorShape { .. }), "{wrong_shape}");
    let experts = open(|file| {
        hyperparameters(file, 4, 2);
        file.number("llama.expert_count", 8);
    });
    assert!(matches!(experts, LoadError::Unsupported(_)), "{experts}");
}

#[test]
fn a_range_outside_the_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    tiny_llama(&path, 1, &Options::default()).unwrap();
    #[allow(clippy::reversed_empty_ranges, reason = "that is what is tested")]
    for layers in [0..0, 3..2, 0..5, 4..5, 7..u32::MAX] {
        assert!(matches!(Shard::load(&path, layers), Err(LoadError::LayerRange { .. })));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_files_never_panic(flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12)) {
        thread_local!(static TINY: (Vec<u8>, usize) = {
            let bytes = tiny();
            let header = parse(&bytes).unwrap().data_offset as usize;
            (bytes, header)
        });
        let (mut bytes, header) = TINY.with(Clone::clone);
        for (index, value) in flips {
            bytes[index.index(header)] = value;
        }
        let _ = parse(&bytes);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mutated.gguf");
        std::fs::write(&path, &bytes).unwrap();
        // What still opens must also load, build its tokenizer and render, or say why not.
        if let Ok(model) = Model::open(&path) {
            let _ = Shard::from_model(&model, 0..model.card().layers);
            let _ = model.tokenizer().map(|tokenizer| tokenizer.encode_completion("Hello <|im_end|>"));
            let message = skep_engine::Message::new(skep_engine::Role::User, "Hello");
            let _ = model.chat_template().map(|template| template.render(&[message]));
        }
    }

    #[test]
    fn random_bytes_never_panic(tail in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(tail);
        let _ = parse(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_weights_never_panic(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..200),
        kind in prop::sample::select(&["F32", "F16", "Q8_0", "Q4_0", "Q4_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"][..]),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("damaged.gguf");
        let options = Options { kind, layers: 1, hidden: 256, feed_forward: 256, ..Options::default() };
        tiny_llama(&path, 3, &options).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let start = parse(&bytes).unwrap().data_offset as usize;
        let length = bytes.len() - start;
        for (index, value) in flips {
            bytes[start + index.index(length)] = value;
        }
        std::fs::write(&path, &bytes).unwrap();
        let chain = Chain::load(&path, &[]).unwrap();
        let mut state = chain.state(64);
        chain.forward(&mut state, &[1, 2, 3], LogitRows::Last).unwrap();
        let logits = chain.forward(&mut state, &[4], LogitRows::Last).unwrap();
        let _ = skep_engine::sample(logits.last().unwrap(), &[], 0, &skep_engine::Sampling::default());
    }
}
