//! The disk: typed tables, one atomic batch, and "acknowledged means flushed".
//!
//! [`Disk`] is what a back end does (read, scan, commit a batch durably); [`Store`] is what everyone else
//! holds: a cheap clone with typed reads and a `commit` that resolves once the batch can't be lost.
//! Records are sealed (layout version and a checksum over table, key and value), so a damaged one is an
//! error and never wrong bytes. It knows no domain: who owns a table defines its [`Table`].
//!
//! ```text
//! Batch -> Store::commit -> bounded queue -> the one writer thread -> Disk::commit (<= 256 batches, one flush)
//!                                                                  -> every waiter is told
//! Batch -> Store::commit -> Memory: write, wait out the flush, flush   (simulation: no thread)
//! Store::get, Store::scan -> Disk, on the caller's thread
//! ```
//!
//! [`open`] sets an unreadable store aside and refills it from the export that [`Store::export`] keeps beside it.
//!
//! Invariant: one process, one writer, one lock file a folder. A crash loses nothing acknowledged and tears
//! no batch. What a back end can't promise stands at the top of its file.

mod batch;
mod disk;
mod error;
mod export;
mod files;
mod frame;
mod handle;
mod key;
mod kind;
mod medium;
mod memory;
mod open;
mod record;
mod redb;
mod seal;
mod sled;
mod slot;
mod space;
mod span;
mod table;
mod writer;

pub use batch::{BATCH_BYTES_MAX, BATCH_OPS_MAX, Batch, KEY_BYTES_MAX, Op, VALUE_BYTES_MAX};
pub use disk::{Commits, Disk, Inline, Row, Rows, SCAN_BYTES_MAX, SCAN_ROWS_MAX};
pub use error::Error;
pub use export::Exported;
pub use handle::{Page, Store};
pub use key::Key;
pub use kind::{Kind, UnknownKind};
pub use medium::{Medium, Tear};
pub use memory::Memory;
pub use open::{Config, Opened, Refilled, open};
pub use redb::Redb;
pub use sled::Sled;
pub use space::RESERVE_BYTES;
pub use span::Span;
pub use table::{TABLE_NAME_BYTES_MAX, Table};
