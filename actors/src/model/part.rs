//! A file that is being fetched, and the disk that it may take.
//!
//! Several nodes of one machine may share a models' folder. A part that can be gone on with has a fixed name and is
//! locked while it is written, so that only one process at a time, and one task in it, writes it; whoever comes second
//! writes one of another name. What can't be gone on with has a name of its own and goes with whoever made it.

use super::{
    messages::ModelError,
    shelf::{Shelf, disk},
};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

/// Parts of one file that processes may write at once.
const WRITERS_MAX: u32 = 16;
/// Bytes by which a claim grows that doesn't know its end.
const STEP_BYTES: u64 = 16 << 20;
/// How long a part that nobody writes is kept, to be gone on with.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// What the names of all parts hold, and of folders that pip fills.
const MARK: &str = ".part";

/// A part that can be gone on with. Locked until it is dropped.
pub(super) struct Part {
    path: PathBuf,
    _lock: File,
}

impl Part {
    /// The part named `stem` in `folder`, or another one if somebody writes that.
    pub(super) fn take(folder: &Path, stem: &str) -> Result<Part, ModelError> {
        for number in 1..=WRITERS_MAX {
            let number = if number == 1 { String::new() } else { format!("-{number}") };
            let path = folder.join(format!(".{stem}{number}{MARK}"));
            if let Some(lock) = locked(&path).map_err(|e| disk(&e))? {
                return Ok(Part { path, _lock: lock });
            }
        }
        Err(ModelError::Fetch(format!("{WRITERS_MAX} others fetch this file into the same folder")))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes it away: it is on the shelf, or of no use.
    pub(super) fn discard(self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if fs::metadata(&self.path).is_ok_and(|data| data.len() == 0) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The file at `path`, locked; `None` if it is another's.
fn locked(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        // A disk that knows no locks: one process at a time is then its owner's to see to.
        Err(TryLockError::Error(error)) => tracing::debug!(%error, "the models' disk has no locks"),
    }
    // Who held it may have given it its name, or deleted it, between the two steps.
    let same = |data: &fs::Metadata| file.metadata().map(|own| (own.ino(), own.dev()) == (data.ino(), data.dev()));
    match fs::metadata(path) {
        Ok(data) if same(&data)? => Ok(Some(file)),
        _ => Ok(None),
    }
}

/// A file or folder that goes with this value.
pub(super) struct Scrap(pub(super) PathBuf);

impl Drop for Scrap {
    fn drop(&mut self) {
        let _ = if self.0.is_dir() { fs::remove_dir_all(&self.0) } else { fs::remove_file(&self.0) };
    }
}

/// Deletes parts that nobody has written for long.
pub(super) fn sweep(folder: &Path, now: SystemTime) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let age = entry.metadata()?.modified().ok().and_then(|changed| now.duration_since(changed).ok());
        if name.starts_with('.') && name.contains(MARK) && age.is_some_and(|age| age > KEPT) {
            tracing::info!(%name, "what came of a model is older than a week and goes");
            drop(Scrap(entry.path()));
        }
    }
    Ok(())
}

/// Bytes of the models' disk that one fetch may still write. Whoever else fetches can't have them.
pub(super) struct Claim {
    shelf: Shelf,
    left: AtomicU64,
}

impl Claim {
    pub(super) fn new(shelf: &Shelf) -> Claim {
        Claim { shelf: shelf.clone(), left: AtomicU64::new(0) }
    }

    /// Sets so many bytes aside in all, if the disk has them.
    pub(super) fn need(&self, bytes: u64) -> Result<(), ModelError> {
        let more = bytes.saturating_sub(self.left.load(Ordering::Relaxed));
        self.shelf.promise(more)?;
        self.left.fetch_add(more, Ordering::Relaxed);
        Ok(())
    }

    /// So many bytes are about to be written.
    pub(super) fn write(&self, bytes: u64) -> Result<(), ModelError> {
        if self.left.load(Ordering::Relaxed) < bytes {
            self.need(bytes + STEP_BYTES).or_else(|_| self.need(bytes))?;
        }
        self.left.fetch_sub(bytes, Ordering::Relaxed);
        self.shelf.release(bytes);
        Ok(())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.shelf.release(self.left.load(Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Swarm;

    #[test]
    fn a_part_has_one_writer_and_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let first = Part::take(folder.path(), "a").unwrap();
        let second = Part::take(folder.path(), "a").unwrap();
        assert_ne!(first.path(), second.path());
        fs::write(first.path(), "half").unwrap();
        let path = first.path().to_owned();
        drop((first, second));
        let again = Part::take(folder.path(), "a").unwrap();
        assert_eq!((again.path(), fs::read(again.path()).unwrap()), (path.as_path(), b"half".to_vec()));
        again.discard();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "an empty part leaves nothing");
    }

    #[test]
    fn old_parts_are_swept_and_models_are_not() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".x.part", ".x.part-of", "m.gguf"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        fs::create_dir(folder.path().join(".y.part-pip")).unwrap();
        sweep(folder.path(), SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
        let made = fs::metadata(folder.path().join("m.gguf")).unwrap().modified().unwrap();
        sweep(folder.path(), made + KEPT + Duration::from_secs(60)).unwrap();
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["m.gguf"]);
    }

    #[tokio::test(start_paused = true)]
    async fn two_fetches_do_not_share_the_same_bytes_of_the_disk() {
        let swarm = Swarm::new(1).await;
        let shelf = Shelf::new(swarm.context(0).clone());
        let free = shelf.free_bytes().unwrap();
        let (one, two) = (Claim::new(&shelf), Claim::new(&shelf));
        one.need(free / 4 * 3).unwrap();
        assert!(matches!(two.need(free / 4 * 3), Err(ModelError::NoRoom(_))));
        one.write(1000).unwrap();
        drop(one);
        two.need(free / 2).unwrap();
    }
}
