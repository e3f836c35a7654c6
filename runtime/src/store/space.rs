//! The room on the disk: a batch is refused before the last bytes are gone.
//!
//! No engine recovers in place from "no space left", and reads fail with it; so writers stop while there is
//! still room for the engine's own bookkeeping, and the engine never sees the error but in a race.

use super::{Batch, Error};
use std::path::PathBuf;

/// Left free on the store's disk by default: room for an engine to reopen and for deletes.
pub const RESERVE_BYTES: u64 = 16 << 20;

/// Engines write more than they are given: copied pages, logs, their own bookkeeping.
const WRITE_FACTOR: u64 = 2;

/// The disk of a folder and how much of it is left alone.
#[derive(Debug)]
pub(super) struct Space {
    pub(super) path: PathBuf,
    pub(super) reserve_bytes: u64,
}

impl Space {
    /// [`Error::Full`] if the batch would eat into the reserve. Deletes may: they are the way out.
    pub(super) fn admit(&self, batch: &Batch) -> Result<(), Error> {
        if self.reserve_bytes == 0 || batch.only_deletes() {
            return Ok(());
        }
        let disk = rustix::fs::statvfs(&self.path).map_err(|error| Error::io(&self.path, &error.into()))?;
        let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        let wanted_bytes = (batch.bytes() as u64).saturating_mul(WRITE_FACTOR);
        if free_bytes < self.reserve_bytes.saturating_add(wanted_bytes) {
            return Err(Error::Full { path: self.path.display().to_string() });
        }
        Ok(())
    }
}
