//! The selectable back end: a folder of sled 0.34, with what it lacks put around it.
//!
//! Its `flush` is no fsync on Linux, so each commit ends with our own on its log, and on the files it puts
//! large values in. All tables share one tree, so that a torn tail can't take half a batch. `flush_async`
//! deadlocks and is never called. Opening may panic on damaged files; the panic is contained.
//!
//! Known limits, which nothing around it can mend: a damaged bit can make records vanish without a word, and a
//! log cut short loses its end without a word; what is returned is still never wrong, the seal sees to that.
//! The file never shrinks, and loading a million records takes 2 GB of memory. Choose redb.

use super::{
    Batch, Commits, Disk, Error, Rows, Span,
    files::{Lock, sync_dir},
    slot::{Slot, contained},
    space::Space,
    span::successor,
};
use ::sled::Db;
use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, File},
    io,
    ops::Bound,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

/// Memory for pages, in bytes.
const CACHE_BYTES: u64 = 64 << 20;
/// How often opening is tried while threads of the instance before it let go of the file.
const OPEN_TRIES: u32 = 40;
/// Wait between two tries, in all at most 2 s.
const OPEN_RETRY: Duration = Duration::from_millis(50);

/// Records in a folder of sled.
pub struct Sled {
    slot: Slot<Engine>,
    space: Space,
}

/// sled and the files that it leaves unflushed.
struct Engine {
    db: Db,
    log: File,
    blobs: PathBuf,
    /// Blob files that are flushed already.
    flushed: Mutex<BTreeSet<OsString>>,
}

impl Sled {
    /// Opens or creates the folder.
    pub(super) fn open(path: &Path, space: Space, lock: Lock) -> Result<Self, Error> {
        let engine = contained(path, || Engine::open(path))?;
        Ok(Self { slot: Slot::new(path.to_owned(), engine, lock), space })
    }

    fn failed(&self, error: ::sled::Error) -> Error {
        classify(self.slot.path(), error)
    }
}

impl Disk for Sled {
    fn read(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.slot.with(|engine| {
            let value = engine.db.get(full_key(table, key)).map_err(|e| self.failed(e))?;
            Ok(value.map(|value| value.to_vec()))
        })
    }

    fn scan(&self, table: &str, span: &Span, rows: &mut Rows) -> Result<(), Error> {
        let prefix = full_key(table, &[]);
        let (start, end) = span.bounds();
        let start = match start {
            Bound::Unbounded => Bound::Included(prefix.clone()),
            bound => bound.map(|key| full_key(table, key)),
        };
        let end = match end {
            Bound::Unbounded => successor(prefix.clone()).map_or(Bound::Unbounded, Bound::Excluded),
            bound => bound.map(|key| full_key(table, key)),
        };
        self.slot.with(|engine| {
            for row in engine.db.range((start, end)) {
                let (key, value) = row.map_err(|e| self.failed(e))?;
                if !rows.offer(&key[prefix.len()..], &value) {
                    break;
                }
            }
            Ok(())
        })
    }

    fn tables(&self) -> Result<Vec<String>, Error> {
        self.slot.with(|engine| {
            let mut names = Vec::new();
            let mut from = Vec::new();
            // One look for each table: at its first key, then past all that begin like it.
            while let Some(row) = engine.db.range(from..).next() {
                let (key, _) = row.map_err(|e| self.failed(e))?;
                let (&length, rest) = key.split_first().ok_or_else(|| self.foreign())?;
                let name = rest.get(..length as usize).ok_or_else(|| self.foreign())?;
                let name = std::str::from_utf8(name).map_err(|_| self.foreign())?;
                names.push(name.to_owned());
                let Some(next) = successor(full_key(name, &[])) else {
                    break;
                };
                from = next;
            }
            names.sort();
            Ok(names)
        })
    }

    fn commit(&self, batch: &Batch) -> Result<(), Error> {
        self.space.admit(batch)?;
        let mut writes = ::sled::Batch::default();
        for op in batch.ops() {
            let key = full_key(&op.table, &op.key);
            match &op.value {
                Some(value) => writes.insert(key, value.as_slice()),
                None => writes.remove(key),
            }
        }
        self.slot.with(|engine| {
            engine.db.apply_batch(writes).map_err(|e| self.failed(e))?;
            engine.db.flush().map_err(|e| self.failed(e))?;
            engine.sync().map_err(|e| Error::io(self.slot.path(), &e))
        })
    }

    fn mend(&self) -> Result<(), Error> {
        self.slot.mend(|| Engine::open(self.slot.path()))
    }

    fn close(&self) {
        self.slot.close();
    }

    fn commits(&self) -> Commits<'_> {
        Commits::Thread
    }
}

impl Sled {
    fn foreign(&self) -> Error {
        Error::unreadable(self.slot.path(), "it holds keys that this program did not write")
    }
}

impl Engine {
    fn open(path: &Path) -> Result<Self, Error> {
        let db = open_when_released(path)?;
        let log = File::options().write(true).open(path.join("db")).map_err(|e| Error::io(path, &e))?;
        // Once: the entries of the folder itself, which no flush of a file covers.
        sync_dir(path)?;
        if let Some(parent) = path.parent() {
            sync_dir(parent)?;
        }
        Ok(Self { db, log, blobs: path.join("blobs"), flushed: Mutex::default() })
    }

    /// Makes durable what sled's own flush handed to the system.
    fn sync(&self) -> io::Result<()> {
        let mut flushed = self.flushed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut present = BTreeSet::new();
        let mut added = false;
        for entry in fs::read_dir(&self.blobs)? {
            let name = entry?.file_name();
            if !flushed.contains(&name) {
                match File::open(self.blobs.join(&name)) {
                    Ok(blob) => blob.sync_all()?,
                    // Collected by sled between the listing and here.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                }
                added = true;
            }
            present.insert(name);
        }
        if added {
            File::open(&self.blobs)?.sync_all()?;
        }
        *flushed = present;
        self.log.sync_data()
    }
}

/// Opens sled; our own lock file proves that whoever holds its lock is on the way out.
#[expect(clippy::disallowed_methods, reason = "called while the node starts, or on the writer's own thread")]
fn open_when_released(path: &Path) -> Result<Db, Error> {
    let mut tries = 0;
    loop {
        let opened = ::sled::Config::new().path(path).cache_capacity(CACHE_BYTES).open();
        match opened.map_err(|error| classify(path, error)) {
            Err(Error::Locked { .. }) if tries < OPEN_TRIES => {
                tries += 1;
                thread::sleep(OPEN_RETRY);
            }
            opened => return opened,
        }
    }
}

/// The table's name, length first, then the key: tables can't run into each other.
fn full_key(table: &str, key: &[u8]) -> Vec<u8> {
    let length = u8::try_from(table.len()).expect("a table's name has at most 64 bytes");
    let mut full = Vec::with_capacity(1 + table.len() + key.len());
    full.push(length);
    full.extend_from_slice(table.as_bytes());
    full.extend_from_slice(key);
    full
}

fn classify(path: &Path, error: ::sled::Error) -> Error {
    match error {
        // It has no error of its own for a held lock.
        ::sled::Error::Io(error) if error.to_string().contains("could not acquire lock") => {
            Error::Locked { path: path.display().to_string() }
        }
        ::sled::Error::Io(error) => Error::io(path, &error),
        error @ (::sled::Error::Corruption { .. }
        | ::sled::Error::ReportableBug(_)
        | ::sled::Error::Unsupported(_)
        | ::sled::Error::CollectionNotFound(_)) => Error::unreadable(path, error),
    }
}
