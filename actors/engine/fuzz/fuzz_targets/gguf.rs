//! Any bytes as a GGUF header: `cargo +nightly fuzz run gguf` in this folder's parent.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_engine::gguf::Gguf;

fuzz_target!(|bytes: &[u8]| {
    let _ = Gguf::parse(bytes, bytes.len() as u64);
});
