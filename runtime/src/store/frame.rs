//! Frames: bytes with a length and two checksums, one after the other in a log or an export.
//!
//! The length has a checksum of its own, so that a frame cut short ([`Next::Torn`]) and a damaged one
//! ([`Next::Damaged`]) are told apart: the first is what a crash leaves, the second never is.

use super::BATCH_BYTES_MAX;
use std::io::{self, Read};

/// Length, its checksum, the body's checksum.
const HEAD_BYTES: usize = 12;
/// Longest body: a full batch, and half as much again for the encoding around its bytes.
pub(super) const BODY_BYTES_MAX: usize = BATCH_BYTES_MAX + BATCH_BYTES_MAX / 2;

/// What comes next in a row of frames.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A whole frame's body.
    Body(Vec<u8>),
    /// The end, between two frames.
    End,
    /// The end, inside a frame.
    Torn,
    /// Bytes that don't match their checksum.
    Damaged,
}

/// Appends `body` as a frame.
pub(super) fn write(body: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(body.len()).expect("a body is at most a batch long").to_le_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&crc32fast::hash(&length).to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    out.extend_from_slice(body);
}

/// Bytes that a body of this length takes as a frame.
pub(super) fn framed_bytes(body_bytes: usize) -> usize {
    HEAD_BYTES + body_bytes
}

/// Reads the next frame.
pub(super) fn read(input: &mut impl Read) -> io::Result<Next> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    input.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    if head.is_empty() {
        return Ok(Next::End);
    }
    let Ok(head) = <[u8; HEAD_BYTES]>::try_from(head) else {
        return Ok(Next::Torn);
    };
    let [l0, l1, l2, l3, c0, c1, c2, c3, b0, b1, b2, b3] = head;
    let length = [l0, l1, l2, l3];
    let length_bytes = u32::from_le_bytes(length) as usize;
    if crc32fast::hash(&length) != u32::from_le_bytes([c0, c1, c2, c3]) || length_bytes > BODY_BYTES_MAX {
        return Ok(Next::Damaged);
    }
    let mut body = Vec::new();
    input.take(length_bytes as u64).read_to_end(&mut body)?;
    if body.len() < length_bytes {
        return Ok(Next::Torn);
    }
    let intact = crc32fast::hash(&body) == u32::from_le_bytes([b0, b1, b2, b3]);
    Ok(if intact { Next::Body(body) } else { Next::Damaged })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_is_torn_and_a_flip_is_damage() {
        let mut log = Vec::new();
        write(b"the only frame", &mut log);
        assert_eq!(read(&mut log.as_slice()).unwrap(), Next::Body(b"the only frame".to_vec()));
        assert_eq!(read(&mut &log[..0]).unwrap(), Next::End);
        for cut in 1..log.len() {
            assert_eq!(read(&mut &log[..cut]).unwrap(), Next::Torn, "{cut}");
        }
        for bit in 0..log.len() * 8 {
            let mut damaged = log.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&mut damaged.as_slice()).unwrap(), Next::Damaged, "{bit}");
        }
    }
}
