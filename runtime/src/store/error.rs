//! What can go wrong with the disk, when it does, and what to do about it.
//!
//! Every variant can be cloned, because one failed flush fails every commit of its group.

use std::{fmt, io, path::Path};

/// Why the store refused or failed.
///
/// A failed `commit` was not acknowledged. After [`Error::Io`], [`Error::Stalled`] and [`Error::Closed`] its batch
/// is there wholly or not at all, so repeating the same batch is safe; after the others nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The disk has no room for this batch. Nothing was written; reads go on, and writes go on by themselves
    /// as soon as there is room.
    #[error("the disk of {path} is full: free some space there; writing goes on by itself")]
    Full {
        /// The store's place.
        path: String,
    },
    /// The disk or the engine failed. The engine is dropped and opened again by itself; repeat the batch.
    #[error("{path}: {reason}: the store is being reopened, try again; if it keeps happening, check the disk")]
    Io {
        /// The store's place.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// The engine was dropped after a failure and couldn't be opened again yet. The next commit tries again.
    #[error("{path} is being reopened after a failure: try again, and look at the disk's health and free space")]
    Reopening {
        /// The store's place.
        path: String,
    },
    /// A record's bytes don't match its checksum: they were damaged at rest. Delete the record, or fetch it
    /// from whoever else has it, and look at the disk.
    #[error("table {table}, key {}: the record is damaged (checksum mismatch): check the disk's health", Hex(key))]
    Corrupt {
        /// The table's name.
        table: String,
        /// The key's bytes.
        key: Vec<u8>,
    },
    /// The record was written with another layout of its table. A newer program wrote it: upgrade this one.
    #[error("table {table}: a record has layout {found}, this program reads {expected}: use the newer program")]
    Layout {
        /// The table's name.
        table: String,
        /// The layout the record says it has.
        found: u8,
        /// The layout this program's table has.
        expected: u8,
    },
    /// The bytes are as they were written, but not of the table's type: two tables share a name, or a type
    /// changed without a new layout number. A mistake in the program.
    #[error("table {table}, key {}: the record can't be decoded ({reason}): please report this", Hex(key))]
    Undecodable {
        /// The table's name.
        table: String,
        /// The key's bytes.
        key: Vec<u8>,
        /// What the decoder said.
        reason: String,
    },
    /// A key, a value or a batch is over its limit. Nothing was written: split it.
    #[error("{what} of {size} is over the limit of {limit}: split it")]
    TooLarge {
        /// What is too large, with its unit.
        what: &'static str,
        /// How large it is.
        size: usize,
        /// How large it may be.
        limit: usize,
    },
    /// The disk didn't answer within the deadline. The batch may still be written.
    #[error("the disk didn't answer within {seconds} s: check its health")]
    Stalled {
        /// The deadline that passed.
        seconds: u64,
    },
    /// The store was closed, or the simulated node crashed.
    #[error("the store is closed")]
    Closed,
    /// Another process, or another handle of this one, has the store open.
    #[error("{path} is in use by another process: stop it first, or choose another folder")]
    Locked {
        /// The store's place.
        path: String,
    },
    /// The store as a whole can't be read. Opening sets it aside and refills it from its export; while running,
    /// restart the node so that this happens.
    #[error("{path} can't be read ({reason}): restart the node, it is set aside and refilled from its export")]
    Unreadable {
        /// The store's place.
        path: String,
        /// What the engine said.
        reason: String,
    },
    /// An export is damaged or incomplete. The one before it is tried.
    #[error("the export {path} is not usable ({reason})")]
    BadExport {
        /// The export's file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The store lives in memory and has no folder to export to.
    #[error("a store in memory has no export: choose redb or sled")]
    NoExport,
}

impl Error {
    /// Whether it concerns one record alone, which can't be read: those beside it can.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Error::Corrupt { .. } | Error::Undecodable { .. })
    }

    /// The system's error at `path`: no room is [`Error::Full`], all else [`Error::Io`].
    pub(super) fn io(path: &Path, error: &io::Error) -> Self {
        let path = path.display().to_string();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            _ => Self::Io { path, reason: error.to_string() },
        }
    }

    pub(super) fn unreadable(path: &Path, reason: impl fmt::Display) -> Self {
        Self::Unreadable { path: path.display().to_string(), reason: reason.to_string() }
    }
}

/// The start of a key, for people.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_BYTES: usize = 32;
        let shown = &self.0[..self.0.len().min(SHOWN_BYTES)];
        f.write_str(&data_encoding::HEXLOWER.encode(shown))?;
        if shown.len() < self.0.len() { f.write_str("...") } else { Ok(()) }
    }
}
