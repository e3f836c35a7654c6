//! Opening a store: lock, check, and if it can't be read, set it aside and refill it.
//!
//! Blocks for as long as the check takes; a node does it before it serves anything.

use super::{
    Disk, Error, Kind, Medium, RESERVE_BYTES, Redb, Sled, Store, export,
    files::{Files, Lock, sync_dir},
    space::Space,
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Which store, where.
#[derive(Debug, Clone)]
pub struct Config {
    /// The back end. Each has its own files: changing it begins an empty store beside the old one.
    pub kind: Kind,
    /// The folder; made if it isn't there. Not used by a store in memory.
    pub dir: PathBuf,
    /// Bytes of its disk that are left free: writes are refused with [`Error::Full`] before they are gone.
    pub reserve_bytes: u64,
}

/// An open store and what it took to open it.
pub struct Opened {
    /// The store.
    pub store: Store,
    /// The unreadable store that was set aside. What it had beyond `refilled` is gone from this machine: a node
    /// that acted on promises it wrote down must not assume that it still knows them all.
    pub set_aside: Option<PathBuf>,
    /// The export that the store was refilled from.
    pub refilled: Option<Refilled>,
}

/// Where a refilled store's records came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refilled {
    /// The export's file.
    pub export: PathBuf,
    /// How many records it had.
    pub records: u64,
}

impl Config {
    /// The store of this kind in this folder, with the default reserve.
    #[must_use]
    pub fn new(kind: Kind, dir: impl Into<PathBuf>) -> Self {
        Self { kind, dir: dir.into(), reserve_bytes: RESERVE_BYTES }
    }
}

/// Opens the store, or begins an empty one.
///
/// # Errors
/// [`Error::Locked`], [`Error::Full`] or [`Error::Io`]. An unreadable store is no error: see [`Opened`].
pub fn open(config: &Config) -> Result<Opened, Error> {
    if config.kind == Kind::Memory {
        let store = Store::new(Arc::new(Medium::new().open()?))?;
        return Ok(Opened { store, set_aside: None, refilled: None });
    }
    let files = Files::new(&config.dir, config.kind);
    fs::create_dir_all(files.dir()).map_err(|error| Error::io(files.dir(), &error))?;
    let lock = files.lock()?;
    files.clear_refilling()?;
    let mut refilled = None;
    let mut set_aside = None;
    // Missing beside an export: deleted, or a crash fell between setting aside and refilling.
    if !files.live().exists() {
        refilled = refill(config, &files, &lock)?;
    }
    let disk = match engine(config, &files.live(), lock.clone()) {
        Err(Error::Unreadable { reason, .. }) => {
            let aside = files.set_aside()?;
            tracing::warn!(%reason, aside = %aside.display(), "the store can't be read and was set aside");
            set_aside = Some(aside);
            refilled = refill(config, &files, &lock)?;
            engine(config, &files.live(), lock)?
        }
        opened => opened?,
    };
    sync_dir(files.dir())?;
    let store = Store::with_exports(disk, files, loss(set_aside.as_deref(), refilled.as_ref()))?;
    Ok(Opened { store, set_aside, refilled })
}

/// In words, what it took to open the store.
fn loss(set_aside: Option<&Path>, refilled: Option<&Refilled>) -> Option<String> {
    let why = match set_aside {
        Some(aside) => format!("the store could not be read and was set aside as {}", aside.display()),
        None => "the store was gone".to_owned(),
    };
    match refilled {
        Some(Refilled { export, records }) => Some(format!(
            "{why}; {records} records came back from {}, what was written later is lost",
            export.display()
        )),
        None => set_aside.map(|_| format!("{why}; there is no export to refill it from")),
    }
}

/// Builds a store from the newest good export, whole before it takes the live one's place.
fn refill(config: &Config, files: &Files, lock: &Lock) -> Result<Option<Refilled>, Error> {
    let Some(export) = export::newest(files) else {
        return Ok(None);
    };
    let path = files.refilling();
    let disk = engine(config, &path, lock.clone())?;
    let records = export::refill(&export, &*disk)?;
    disk.close();
    files.rename(&path, &files.live())?;
    tracing::warn!(export = %export.display(), records, "the store was refilled from its export");
    Ok(Some(Refilled { export, records }))
}

fn engine(config: &Config, path: &Path, lock: Lock) -> Result<Arc<dyn Disk>, Error> {
    let space = Space { path: config.dir.clone(), reserve_bytes: config.reserve_bytes };
    Ok(match config.kind {
        Kind::Redb => Arc::new(Redb::open(path, space, lock)?),
        Kind::Sled => Arc::new(Sled::open(path, space, lock)?),
        Kind::Memory => Arc::new(Medium::new().open()?),
    })
}
