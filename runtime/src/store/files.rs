//! The files of a store: their names, the lock, and the renames that a power cut can't undo.

use super::{Error, Kind};
use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Set-aside stores that are looked for when a free name is chosen.
const SET_ASIDE_MAX: usize = 10_000;

/// The folder of a store and the names in it, which begin with the back end's: each kind has its own.
#[derive(Debug, Clone)]
pub(super) struct Files {
    dir: PathBuf,
    kind: Kind,
}

impl Files {
    pub(super) fn new(dir: &Path, kind: Kind) -> Self {
        Self { dir: dir.to_owned(), kind }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The store itself: a file of redb's, a folder of sled's.
    pub(super) fn live(&self) -> PathBuf {
        self.named("store")
    }

    /// A store that is being refilled, until it takes the live one's place.
    pub(super) fn refilling(&self) -> PathBuf {
        self.named("refilling")
    }

    /// The newest export.
    pub(super) fn export(&self) -> PathBuf {
        self.named("export")
    }

    /// The export before the newest.
    pub(super) fn previous(&self) -> PathBuf {
        self.named("export-previous")
    }

    /// An export that is being written.
    pub(super) fn exporting(&self) -> PathBuf {
        self.named("exporting")
    }

    /// Takes the folder's lock for this process. It is ours and not the engine's, so that nobody slips in
    /// while the engine is reopened or its files are renamed.
    pub(super) fn lock(&self) -> Result<Lock, Error> {
        let path = self.dir.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| Error::io(&path, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: Arc::new(file) }),
            Err(TryLockError::WouldBlock) => Err(Error::Locked { path: self.dir.display().to_string() }),
            Err(TryLockError::Error(error)) => Err(Error::io(&path, &error)),
        }
    }

    /// Renames the live store to a free name beside it. Nothing is ever deleted: someone may want to look.
    pub(super) fn set_aside(&self) -> Result<PathBuf, Error> {
        let free = (1..=SET_ASIDE_MAX).map(|n| self.named(&format!("unreadable-{n}"))).find(|path| !path.exists());
        let aside = free.ok_or_else(|| {
            Error::unreadable(&self.live(), "too many unreadable stores lie beside it, move some away")
        })?;
        self.rename(&self.live(), &aside)?;
        Ok(aside)
    }

    /// Renames within the folder and makes the rename durable.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<(), Error> {
        fs::rename(from, to).map_err(|error| Error::io(from, &error))?;
        sync_dir(&self.dir)
    }

    /// Removes what an interrupted refill left: a copy of an export, and never the only one of anything.
    pub(super) fn clear_refilling(&self) -> Result<(), Error> {
        let path = self.refilling();
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&path, &error)),
            _ => Ok(()),
        }
    }

    fn named(&self, what: &str) -> PathBuf {
        self.dir.join(format!("{}.{what}", self.kind))
    }
}

/// The folder is this process's until the last clone is dropped.
#[derive(Debug, Clone)]
pub(super) struct Lock {
    _file: Arc<File>,
}

/// Makes a folder's entries durable: a new or renamed file isn't, before.
pub(super) fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| Error::io(dir, &error))
}
