//! A place that a store lives in and comes back to, whatever the back end; and records whose bytes tell whether
//! they are right.

use skep_runtime::store::{self, Batch, Config, Error, Kind, Medium, Opened, Span, Store, Table};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;

pub(crate) const LEFT: Table<u64, Vec<u8>> = Table::new("left");
pub(crate) const RIGHT: Table<u64, Vec<u8>> = Table::new("right");

/// Where a store lives.
pub(crate) enum Place {
    Files(Kind, TempDir),
    Memory(Arc<Medium>),
}

impl Place {
    pub(crate) fn redb() -> Self {
        Self::Files(Kind::Redb, TempDir::new().unwrap())
    }

    pub(crate) fn sled() -> Self {
        Self::Files(Kind::Sled, TempDir::new().unwrap())
    }

    pub(crate) fn memory() -> Self {
        Self::Memory(Medium::new())
    }

    pub(crate) fn try_open(&self) -> Result<Store, Error> {
        match self {
            Self::Files(kind, dir) => Ok(open(*kind, dir.path())?.store),
            Self::Memory(medium) => Store::new(Arc::new(medium.open()?)),
        }
    }

    pub(crate) fn open(&self) -> Store {
        self.try_open().unwrap()
    }
}

/// Opens with no reserve: tests run on disks of any fullness.
pub(crate) fn open(kind: Kind, dir: &Path) -> Result<Opened, Error> {
    store::open(&Config { reserve_bytes: 0, ..Config::new(kind, dir) })
}

/// The bytes that belong under `n`: 1 to 2,000 of them, of no pattern that a compressor or a zeroed page has.
pub(crate) fn value(n: u64) -> Vec<u8> {
    let mut state = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let length = 1 + n.wrapping_mul(7919) % 2_000;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| byte()).collect()
}

/// A record in each table, together.
pub(crate) fn pair(n: u64) -> Batch {
    let mut batch = Batch::new();
    batch.put(LEFT, &n, &value(n)).unwrap();
    batch.put(RIGHT, &n, &value(!n)).unwrap();
    batch
}

/// What a store has of the pairs below `end`: a wrong value fails the test, here and everywhere.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) whole: Vec<u64>,
    pub(crate) half: Vec<u64>,
    pub(crate) missing: Vec<u64>,
    /// Reads that said so instead of answering.
    pub(crate) refused: Vec<Error>,
}

pub(crate) fn look(store: &Store, end: u64) -> Found {
    let mut found = Found::default();
    for n in 0..end {
        match (store.get(LEFT, &n), store.get(RIGHT, &n)) {
            (Ok(left), Ok(right)) => {
                assert!(left.as_ref().is_none_or(|left| *left == value(n)), "a wrong value under {n}, on the left");
                assert!(
                    right.as_ref().is_none_or(|right| *right == value(!n)),
                    "a wrong value under {n}, on the right"
                );
                match (left, right) {
                    (Some(_), Some(_)) => found.whole.push(n),
                    (None, None) => found.missing.push(n),
                    _ => found.half.push(n),
                }
            }
            (Err(error), _) | (_, Err(error)) => found.refused.push(error),
        }
    }
    found
}

/// How many rows a scan of the left table returns.
pub(crate) fn count(store: &Store) -> usize {
    let (mut span, mut rows) = (Some(Span::all()), 0);
    while let Some(next) = span {
        let page = store.scan(LEFT, &next, 1_000).unwrap();
        rows += page.rows.len();
        span = page.rest;
    }
    rows
}

/// Copies a store's folder, so that each fault falls on the same bytes.
pub(crate) fn copy(from: &Path) -> TempDir {
    fn walk(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), &target);
            } else {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }
    let to = TempDir::new().unwrap();
    walk(from, to.path());
    to
}

/// The file with the records: redb's only one, sled's log.
pub(crate) fn data_file(kind: Kind, dir: &Path) -> PathBuf {
    match kind {
        Kind::Redb => dir.join("redb.store"),
        Kind::Sled => dir.join("sled.store/db"),
        Kind::Memory => unreachable!("memory has no file"),
    }
}
