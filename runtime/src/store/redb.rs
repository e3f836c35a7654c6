//! The default back end: one file of redb, a copy-on-write B-tree with transactions over all tables.
//!
//! What it needs around it, measured: its own writers starve each other (one thread commits here), it never
//! recovers in place from an I/O error (the slot reopens it), and after a clean close it serves damaged pages
//! without a word (the seal notices; the whole file is checked at each start, about 1.5 ms a MB).
//!
//! Known limit: one damaged live page, or a file cut short, makes the whole file unreadable. Then it is set
//! aside and refilled from the export: what was written after the export is gone from this machine.

use super::{
    Batch, Commits, Disk, Error, Op, Rows, Span,
    files::Lock,
    slot::{Slot, contained},
    space::Space,
};
use ::redb::{Builder, Database, Durability, ReadableDatabase, TableDefinition, TableError, TableHandle};
use std::{collections::BTreeMap, io, path::Path};

/// Memory for pages, in bytes: a node's whole state nearly always fits.
const CACHE_BYTES: usize = 64 << 20;

/// Records in a file of redb.
pub struct Redb {
    slot: Slot<Database>,
    space: Space,
}

impl Redb {
    /// Opens or creates the file and checks all of it.
    pub(super) fn open(path: &Path, space: Space, lock: Lock) -> Result<Self, Error> {
        let engine = contained(path, || open(path, true))?;
        Ok(Self { slot: Slot::new(path.to_owned(), engine, lock), space })
    }

    fn failed(&self, error: impl Into<::redb::Error>) -> Error {
        classify(self.slot.path(), error.into())
    }
}

impl Disk for Redb {
    fn read(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.slot.with(|engine| {
            let snapshot = engine.begin_read().map_err(|e| self.failed(e))?;
            let table = match snapshot.open_table(definition(table)) {
                Ok(table) => table,
                Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                Err(error) => return Err(self.failed(error)),
            };
            let value = table.get(key).map_err(|e| self.failed(e))?;
            Ok(value.map(|value| value.value().to_vec()))
        })
    }

    fn scan(&self, table: &str, span: &Span, rows: &mut Rows) -> Result<(), Error> {
        self.slot.with(|engine| {
            let snapshot = engine.begin_read().map_err(|e| self.failed(e))?;
            let table = match snapshot.open_table(definition(table)) {
                Ok(table) => table,
                Err(TableError::TableDoesNotExist(_)) => return Ok(()),
                Err(error) => return Err(self.failed(error)),
            };
            for row in table.range::<&[u8]>(span.bounds()).map_err(|e| self.failed(e))? {
                let (key, value) = row.map_err(|e| self.failed(e))?;
                if !rows.offer(key.value(), value.value()) {
                    break;
                }
            }
            Ok(())
        })
    }

    fn tables(&self) -> Result<Vec<String>, Error> {
        self.slot.with(|engine| {
            let snapshot = engine.begin_read().map_err(|e| self.failed(e))?;
            let tables = snapshot.list_tables().map_err(|e| self.failed(e))?;
            let mut names: Vec<String> = tables.map(|table| table.name().to_owned()).collect();
            names.sort();
            Ok(names)
        })
    }

    fn commit(&self, batch: &Batch) -> Result<(), Error> {
        self.space.admit(batch)?;
        // A table is opened once a transaction; the order of writes matters only within one.
        let mut tables: BTreeMap<&str, Vec<&Op>> = BTreeMap::new();
        for op in batch.ops() {
            tables.entry(op.table.as_ref()).or_default().push(op);
        }
        self.slot.with(|engine| {
            let mut transaction = engine.begin_write().map_err(|e| self.failed(e))?;
            transaction.set_durability(Durability::Immediate).map_err(|e| self.failed(e))?;
            for (name, ops) in tables {
                let mut table = transaction.open_table(definition(name)).map_err(|e| self.failed(e))?;
                for op in ops {
                    match &op.value {
                        Some(value) => table.insert(op.key.as_slice(), value.as_slice()).map(drop),
                        None => table.remove(op.key.as_slice()).map(drop),
                    }
                    .map_err(|e| self.failed(e))?;
                }
            }
            transaction.commit().map_err(|e| self.failed(e))
        })
    }

    fn mend(&self) -> Result<(), Error> {
        // Unchecked, for speed: a file that was not closed in order is checked by its repair anyway.
        self.slot.mend(|| open(self.slot.path(), false))
    }

    fn close(&self) {
        self.slot.close();
    }

    fn commits(&self) -> Commits<'_> {
        Commits::Thread
    }
}

fn open(path: &Path, checked: bool) -> Result<Database, Error> {
    Builder::new()
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(checked)
        .create(path)
        .map_err(|error| classify(path, error.into()))
}

fn definition(name: &str) -> TableDefinition<'_, &'static [u8], &'static [u8]> {
    TableDefinition::new(name)
}

fn classify(path: &Path, error: ::redb::Error) -> Error {
    match error {
        ::redb::Error::Io(error) => match error.kind() {
            // How redb says that a file is not, or no longer, one of its own.
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Error::unreadable(path, error),
            _ => Error::io(path, &error),
        },
        ::redb::Error::DatabaseAlreadyOpen | ::redb::Error::LockProtocolMismatch => {
            Error::Locked { path: path.display().to_string() }
        }
        error @ (::redb::Error::Corrupted(_)
        | ::redb::Error::UpgradeRequired(_)
        | ::redb::Error::RepairAborted
        | ::redb::Error::TableTypeMismatch { .. }
        | ::redb::Error::TypeDefinitionChanged { .. }) => Error::unreadable(path, error),
        error => Error::Io { path: path.display().to_string(), reason: error.to_string() },
    }
}
