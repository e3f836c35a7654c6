//! A blob that is being written: hashed as it comes, within the room that was set aside for it, gone if it doesn't become
//! whole.

use super::{
    messages::{Blob, BlobError},
    shelf::{Blobs, disk},
};
use crate::digest::Digest;
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::PathBuf,
};

/// Bytes of one blob: a disk image or a large data set. Beyond that a folder that several machines share is the better way.
pub(super) const BLOB_BYTES_MAX: u64 = 64 << 30;
/// Bytes by which the room of one grows whose length isn't known.
const STEP_BYTES: u64 = 4 << 20;

/// A blob in the making. Nothing is added to one that is finished.
pub(super) struct Part {
    blobs: Blobs,
    path: PathBuf,
    file: File,
    hash: Sha256,
    bytes: u64,
    claimed: u64,
}

impl Part {
    /// An empty one. Blocks.
    ///
    /// # Errors
    /// The disk refuses it.
    pub(super) fn new(blobs: &Blobs) -> Result<Part, BlobError> {
        let path = blobs.free_name()?;
        let file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(|e| disk(&e))?;
        Ok(Part { blobs: blobs.clone(), path, file, hash: Sha256::new(), bytes: 0, claimed: 0 })
    }

    /// How much has come.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Sets room aside for so many bytes in all.
    ///
    /// # Errors
    /// There is none, or no blob may be so large.
    pub(super) fn claim(&mut self, bytes: u64) -> Result<(), BlobError> {
        if bytes > BLOB_BYTES_MAX {
            return Err(BlobError::TooLarge(BLOB_BYTES_MAX));
        }
        let more = bytes.saturating_sub(self.claimed);
        self.blobs.promise(more)?;
        self.claimed += more;
        Ok(())
    }

    /// Adds what came. Blocks.
    ///
    /// # Errors
    /// There is no room, or the disk refuses it.
    pub(super) fn append(&mut self, piece: &[u8]) -> Result<(), BlobError> {
        let after = self.bytes + piece.len() as u64;
        if after > self.claimed {
            // By steps: what its sender says of its length is nothing to make room for.
            self.claim((after + STEP_BYTES).min(BLOB_BYTES_MAX.max(after)))?;
        }
        self.file.write_all(piece).map_err(|e| disk(&e))?;
        self.hash.update(piece);
        self.bytes = after;
        Ok(())
    }

    /// Nothing follows: flushes it and gives it its name, which has to be `expected` if one is. Blocks.
    ///
    /// # Errors
    /// It is another one, or the disk refuses it.
    pub(super) fn finish(&mut self, expected: Option<Digest>) -> Result<Blob, BlobError> {
        let digest = Digest(self.hash.clone().finalize().into());
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            return Err(BlobError::Differs(expected));
        }
        self.file.sync_all().map_err(|e| disk(&e))?;
        let blob = Blob { digest, bytes: self.bytes };
        self.blobs.name(&self.path, blob)?;
        Ok(blob)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.blobs.release(self.claimed);
        // Not there any more if it has its name.
        let _ = fs::remove_file(&self.path);
    }
}
