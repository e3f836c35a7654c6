//! Any bytes, however they are cut, are frames or are refused; frames that are read are written as they were.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_transport::link::frame::{Decoded, Decoder, Frame};

fuzz_target!(|input: &[u8]| {
    let Some((piece, bytes)) = input.split_first() else { return };
    let mut decoder = Decoder::default();
    for piece in bytes.chunks(usize::from(*piece) + 1) {
        decoder.space().extend_from_slice(piece);
        loop {
            match decoder.pop() {
                Ok(Some(Decoded::Frame(frame))) => {
                    let mut again = Vec::new();
                    frame.encode(&mut again);
                    assert_eq!(Frame::decode(&again[4..]), Some(frame));
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
});
