//! The seam between the store and an engine. An engine moves bytes and flushes; it knows no types, no seals
//! and no callers: those are `Store`'s.

use super::{Batch, Error, Span};
use std::time::Duration;

/// Most rows of one page of a scan: more are read by asking for the rest.
pub const SCAN_ROWS_MAX: usize = 10_000;
/// A page ends after the row that passes this many bytes, however few rows it has.
pub const SCAN_BYTES_MAX: usize = 32 << 20;

/// What a back end does. Calls block; reads come from any thread, all else from one at a time.
pub trait Disk: Send + Sync + 'static {
    /// The bytes under `key`.
    ///
    /// # Errors
    /// The engine failed, or is closed.
    fn read(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// Rows of `span` (never an empty one) in key order, offered to `rows` until it takes no more.
    ///
    /// # Errors
    /// The engine failed, or is closed.
    fn scan(&self, table: &str, span: &Span, rows: &mut Rows) -> Result<(), Error>;

    /// The names of all tables that may have rows, sorted.
    ///
    /// # Errors
    /// The engine failed, or is closed.
    fn tables(&self) -> Result<Vec<String>, Error>;

    /// Applies the whole batch and returns once a power cut can't take it back.
    ///
    /// # Errors
    /// The batch is there wholly or not at all, and [`Disk::mend`] must be called before the next one.
    fn commit(&self, batch: &Batch) -> Result<(), Error>;

    /// Drops and reopens the engine if an earlier failure made it suspect; does nothing otherwise.
    ///
    /// # Errors
    /// It can't be reopened yet: calls fail until a later `mend` succeeds.
    fn mend(&self) -> Result<(), Error>;

    /// Lets go of the files. Later calls are [`Error::Closed`].
    fn close(&self);

    /// Who commits.
    fn commits(&self) -> Commits<'_>;
}

/// Who calls a back end's commits.
pub enum Commits<'a> {
    /// A thread of its own: flushing blocks for as long as the disk takes.
    Thread,
    /// The caller: nothing blocks, and a simulation must have no thread.
    Inline(&'a dyn Inline),
}

/// A commit in two steps, between which virtual time passes and a crash can fall.
pub trait Inline: Send + Sync {
    /// Writes the batch; a crash can still lose or tear it, and no read sees it. Returns what to flush.
    ///
    /// # Errors
    /// [`Error::Full`] or [`Error::Closed`]; nothing was written.
    fn write(&self, batch: &Batch) -> Result<u64, Error>;

    /// How long the flush takes, in virtual time.
    fn flush_delay(&self) -> Duration;

    /// Makes durable what was written up to this ticket.
    ///
    /// # Errors
    /// [`Error::Closed`] if a crash came between.
    fn flush(&self, ticket: u64) -> Result<(), Error>;
}

/// A key and its sealed record.
pub type Row = (Vec<u8>, Vec<u8>);

/// One page of a scan while it is filled.
#[derive(Debug)]
pub struct Rows {
    rows: Vec<Row>,
    rows_max: usize,
    bytes: usize,
    more: bool,
}

impl Rows {
    /// A page of at most `rows_max` rows, and never more than [`SCAN_ROWS_MAX`].
    #[must_use]
    pub fn new(rows_max: usize) -> Self {
        Self { rows: Vec::new(), rows_max: rows_max.min(SCAN_ROWS_MAX), bytes: 0, more: false }
    }

    /// Takes a row. `false`: the page is full, the row was not taken, stop scanning.
    pub fn offer(&mut self, key: &[u8], value: &[u8]) -> bool {
        if self.rows.len() >= self.rows_max || self.bytes >= SCAN_BYTES_MAX {
            self.more = true;
            return false;
        }
        self.bytes += key.len() + value.len();
        self.rows.push((key.to_vec(), value.to_vec()));
        true
    }

    /// The rows, and whether there are more behind them.
    #[must_use]
    pub fn finish(self) -> (Vec<Row>, bool) {
        (self.rows, self.more)
    }
}
