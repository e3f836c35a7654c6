//! The bytes of one tensor, as a file holds them, where block types may be read from them.

use crate::gguf::TensorType;

/// A tensor's bytes with what they are.
pub(crate) struct Stored {
    /// How elements are stored.
    pub(crate) kind: TensorType,
    /// Dimensions, row length first.
    pub(crate) dimensions: Vec<u64>,
    bytes: Vec<u8>,
    start: usize,
}

impl Stored {
    /// Alignment of the bytes; no block type of any kernel asks for more.
    const ALIGNMENT: usize = 64;

    /// A tensor of `length` zero bytes, to be filled. The caller has checked `length`.
    pub(crate) fn new(kind: TensorType, dimensions: Vec<u64>, length: usize) -> Self {
        let mut bytes = vec![0; length + Self::ALIGNMENT];
        let start = bytes.as_ptr().align_offset(Self::ALIGNMENT);
        assert!(start <= Self::ALIGNMENT, "bytes can be aligned to anything");
        bytes.truncate(start + length);
        Self { kind, dimensions, bytes, start }
    }

    /// The bytes, aligned for any block type.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// The bytes, to be filled.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }
}
