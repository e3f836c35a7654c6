//! Reads little-endian fields and knows how much of the file is left, so that no length is believed.

use std::io::Read;

use crate::defaults::HEADER_BYTES_MAX;
use crate::error::GgufError;

/// A reader with a position and a hard end.
pub(super) struct Bytes<R> {
    inner: R,
    position: u64,
    file_bytes: u64,
}

impl<R: Read> Bytes<R> {
    /// Reads from the start of a file of `file_bytes` bytes.
    pub(super) fn new(inner: R, file_bytes: u64) -> Self {
        Self { inner, position: 0, file_bytes }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Fails unless `wanted` more bytes are in the file and within the header's limit.
    pub(super) fn require(&self, what: &'static str, wanted: u64) -> Result<(), GgufError> {
        let left = self.file_bytes.saturating_sub(self.position);
        if wanted > left {
            return Err(GgufError::Truncated { what, at: self.position, wanted, left });
        }
        match self.position.checked_add(wanted) {
            Some(end) if end <= HEADER_BYTES_MAX => Ok(()),
            end => {
                Err(GgufError::TooMany { what: "header bytes", found: end.unwrap_or(u64::MAX), max: HEADER_BYTES_MAX })
            }
        }
    }

    /// Fails unless `count` items of at least `item_bytes` each can be in the rest of the file.
    pub(super) fn require_items(
        &self,
        what: &'static str,
        count: u64,
        item_bytes: u64,
        count_max: u64,
    ) -> Result<usize, GgufError> {
        if count > count_max {
            return Err(GgufError::TooMany { what, found: count, max: count_max });
        }
        self.require(what, count.saturating_mul(item_bytes))?;
        usize::try_from(count).map_err(|_| GgufError::TooMany { what, found: count, max: count_max })
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], GgufError> {
        self.require(what, N as u64)?;
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes)?;
        self.position += N as u64;
        Ok(bytes)
    }

    /// The next four bytes as a number.
    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, GgufError> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// The next eight bytes as a number.
    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, GgufError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// Appends the next `count` bytes, after they were required.
    pub(super) fn append(&mut self, what: &'static str, count: u64, into: &mut Vec<u8>) -> Result<(), GgufError> {
        self.require(what, count)?;
        let start = into.len();
        // `require` has bounded `count` by the header's limit, which fits a usize.
        into.resize(start + count as usize, 0);
        self.inner.read_exact(&mut into[start..])?;
        self.position += count;
        Ok(())
    }

    /// A text with its length in front.
    pub(super) fn text(&mut self, what: &'static str, bytes_max: u64) -> Result<String, GgufError> {
        let at = self.position;
        let length = self.u64(what)?;
        if length > bytes_max {
            return Err(GgufError::TooMany { what: "bytes in a text", found: length, max: bytes_max });
        }
        let mut bytes = Vec::new();
        self.append(what, length, &mut bytes)?;
        String::from_utf8(bytes).map_err(|_| GgufError::NotUtf8 { what, at })
    }
}
