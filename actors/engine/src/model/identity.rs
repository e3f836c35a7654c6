//! Which content a model file has, without reading all of it.
//!
//! The identity is SHA-256 over the file's length, its header (everything before the tensor data)
//! and 64 pieces of 4 KiB spread evenly over the tensor data. It tells apart other models, other
//! quantisations and downloads that stopped half-way. It does not prove that every byte is right:
//! a published checksum does that, once, after the download.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::defaults::{IDENTITY_SAMPLE_BYTES, IDENTITY_SAMPLES};
use crate::gguf::Gguf;

/// Which content a model file has; shown as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContentId(pub [u8; 32]);

impl ContentId {
    /// Computes the identity of the file that `gguf` was read from.
    pub(super) fn of(file: &mut File, gguf: &Gguf) -> std::io::Result<Self> {
        let mut hash = Sha256::new();
        hash.update(gguf.file_bytes.to_le_bytes());
        file.seek(SeekFrom::Start(0))?;
        std::io::copy(&mut file.take(gguf.data_offset), &mut hash)?;
        let data_bytes = gguf.file_bytes.saturating_sub(gguf.data_offset);
        let stride = data_bytes.div_ceil(IDENTITY_SAMPLES).max(IDENTITY_SAMPLE_BYTES);
        let mut offset = 0;
        while offset < data_bytes {
            file.seek(SeekFrom::Start(gguf.data_offset + offset))?;
            std::io::copy(&mut file.take(IDENTITY_SAMPLE_BYTES), &mut hash)?;
            offset += stride;
        }
        Ok(Self(hash.finalize().into()))
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
