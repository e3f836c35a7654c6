//! The blobs on this disk: one file each in one folder, called by its digest.
//!
//! The folder is the truth: what is there at the start is known again, and nothing is written about it elsewhere. A file's
//! time of change says when it was used last. All of it blocks; `travel` is what doesn't.

use super::{
    messages::{Blob, BlobError, Held},
    travel::Arrivals,
};
use crate::digest::Digest;
use skep_runtime::{Env, store};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

/// Bytes of all blobs on one node. Beyond it those go that were needed last a long time ago.
const BLOBS_BYTES_MAX: u64 = 64 << 30;
/// The share of the disk's free room that they may have: the rest is its owner's.
const FREE_DIVISOR: u64 = 2;
/// What the smallest file counts for.
const FILE_BYTES_MIN: u64 = 4 << 10;
/// How long one stays at least after its last use: a command that is to be given it may not be known here yet.
const KEPT: Duration = Duration::from_secs(3600);
/// What the names of parts begin with.
const PART: &str = ".part-";

/// The blobs of one node. Cheap to clone; all clones show the same.
#[derive(Clone)]
pub struct Blobs(Arc<Shared>);

struct Shared {
    folder: PathBuf,
    env: Env,
    index: Mutex<Index>,
    /// Those that are on their way here.
    arrivals: Arrivals,
    /// Digests that commands which have not ended need.
    needed: Box<dyn Fn() -> Result<BTreeSet<Digest>, store::Error> + Send + Sync>,
}

#[derive(Default)]
struct Index {
    /// Whether the folder was read.
    read: bool,
    held: BTreeMap<Digest, Known>,
    bytes: u64,
    /// Bytes that are set aside for parts.
    promised: u64,
    parts: u64,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    bytes: u64,
    used_ms: u64,
}

impl Blobs {
    /// Of the node whose folder this is. `needed` says which of them commands need that have not ended.
    pub fn within(
        home: &Path,
        env: &Env,
        needed: impl Fn() -> Result<BTreeSet<Digest>, store::Error> + Send + Sync + 'static,
    ) -> Blobs {
        Blobs(Arc::new(Shared {
            folder: home.join("blobs"),
            env: env.clone(),
            index: Mutex::default(),
            arrivals: Arrivals::default(),
            needed: Box::new(needed),
        }))
    }

    pub(super) fn arrivals(&self) -> &Arrivals {
        &self.0.arrivals
    }

    /// What lies here, the one that was used last first.
    pub(super) fn list(&self, max: usize) -> Result<Vec<Held>, BlobError> {
        let index = self.index()?;
        let held = |(digest, known): (&Digest, &Known)| Held {
            blob: Blob { digest: *digest, bytes: known.bytes },
            used_ms: known.used_ms,
        };
        let mut all: Vec<Held> = index.held.iter().map(held).collect();
        all.sort_by_key(|held| (std::cmp::Reverse(held.used_ms), held.blob.digest));
        all.truncate(max);
        Ok(all)
    }

    /// How many bytes one has, if it lies here.
    pub(super) fn has(&self, digest: Digest) -> Result<Option<u64>, BlobError> {
        Ok(self.index()?.held.get(&digest).map(|known| known.bytes))
    }

    /// One that lies here, to read, and its length. That counts as a use of it.
    ///
    /// # Errors
    /// It doesn't lie here, or the disk refuses it.
    pub(super) fn open(&self, digest: Digest) -> Result<(File, u64), BlobError> {
        let mut index = self.index()?;
        let known = index.held.get_mut(&digest).ok_or(BlobError::NoSuchBlob(digest))?;
        let file = match File::open(self.path(digest)) {
            // Somebody took it away.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                index.forget(digest);
                return Err(BlobError::NoSuchBlob(digest));
            }
            opened => opened.map_err(|e| disk(&e))?,
        };
        if file.metadata().map_err(|e| disk(&e))?.len() != known.bytes {
            // It is none any more.
            index.forget(digest);
            return Err(BlobError::NoSuchBlob(digest));
        }
        known.used_ms = self.0.env.now_ms();
        self.mark(digest, known.used_ms);
        Ok((file, known.bytes))
    }

    /// Removes the copy that lies here.
    ///
    /// # Errors
    /// There is none, or a command needs it.
    pub(super) fn delete(&self, digest: Digest) -> Result<(), BlobError> {
        if self.has(digest)?.is_none() {
            return Err(BlobError::NoSuchBlob(digest));
        }
        if self.needed()?.contains(&digest) {
            return Err(BlobError::InUse(digest));
        }
        self.drop_copy(digest)
    }

    /// Removes a copy whatever needs it: it is damaged, or there are others.
    pub(super) fn drop_copy(&self, digest: Digest) -> Result<(), BlobError> {
        let mut index = self.index()?;
        match fs::remove_file(self.path(digest)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(disk(&e)),
            _ => index.forget(digest),
        }
        Ok(())
    }

    /// A name for a part that nobody has.
    pub(super) fn free_name(&self) -> Result<PathBuf, BlobError> {
        let mut index = self.index()?;
        fs::create_dir_all(&self.0.folder).map_err(|e| disk(&e))?;
        index.parts += 1;
        Ok(self.0.folder.join(format!("{PART}{}", index.parts)))
    }

    /// A finished part gets its name. It was checked, which what is there under that name was not.
    pub(super) fn name(&self, part: &Path, blob: Blob) -> Result<(), BlobError> {
        // Before it is known: whoever is told of it is told of what is flushed.
        fs::rename(part, self.path(blob.digest)).map_err(|e| disk(&e))?;
        File::open(&self.0.folder).and_then(|folder| folder.sync_all()).map_err(|e| disk(&e))?;
        let mut index = self.index()?;
        index.forget(blob.digest);
        index.bytes += room_of(blob.bytes);
        let used_ms = self.0.env.now_ms();
        self.mark(blob.digest, used_ms);
        index.held.insert(blob.digest, Known { bytes: blob.bytes, used_ms });
        Ok(())
    }

    /// Sets bytes of the disk aside. Copies that nobody needs go for that, those first that were used last a long time ago.
    pub(super) fn promise(&self, bytes: u64) -> Result<(), BlobError> {
        let fits = |index: &Index| -> Result<u64, BlobError> {
            let stat = rustix::fs::statvfs(&self.0.folder).map_err(|e| disk(&e.into()))?;
            let free = stat.f_bavail.saturating_mul(stat.f_frsize).saturating_sub(index.promised);
            let room = BLOBS_BYTES_MAX.saturating_sub(index.bytes + index.promised);
            Ok(room.min(free / FREE_DIVISOR))
        };
        let mut index = self.index()?;
        if bytes > fits(&index)? {
            drop(index);
            // Not under the lock: every command's record is looked at.
            let needed = self.needed()?;
            index = self.index()?;
            let idle = index.idle(&needed, self.0.env.now_ms());
            // Nothing goes in vain.
            let gained: u64 = idle.iter().filter_map(|digest| Some(room_of(index.held.get(digest)?.bytes))).sum();
            let enough = bytes <= fits(&index)?.saturating_add(gained / FREE_DIVISOR);
            for digest in idle.into_iter().filter(|_| enough) {
                if bytes <= fits(&index)? {
                    break;
                }
                tracing::info!(%digest, "a file that nobody has needed for long makes way");
                match fs::remove_file(self.path(digest)) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(disk(&e)),
                    _ => index.forget(digest),
                }
            }
        }
        let room = fits(&index)?;
        if bytes > room {
            let mib = |bytes: u64| bytes >> 20;
            return Err(BlobError::NoRoom(format!(
                "{} MiB or more are to be stored, this machine has room for {} MiB of files: free some of its disk, or \
                 remove files that no task needs (`DELETE /api/blobs/DIGEST`)",
                mib(bytes),
                mib(room)
            )));
        }
        index.promised += bytes;
        Ok(())
    }

    /// Bytes that were set aside were written, or aren't needed.
    pub(super) fn release(&self, bytes: u64) {
        let mut index = self.0.index.lock().unwrap_or_else(PoisonError::into_inner);
        index.promised = index.promised.saturating_sub(bytes);
    }

    fn needed(&self) -> Result<BTreeSet<Digest>, BlobError> {
        (self.0.needed)().map_err(|e| BlobError::Disk(e.to_string()))
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.0.folder.join(digest.to_string())
    }

    /// Notes when a file was used last, for after a restart: only which one goes first depends on it.
    fn mark(&self, digest: Digest, used_ms: u64) {
        let used = UNIX_EPOCH + Duration::from_millis(used_ms);
        let _ = File::options().append(true).open(self.path(digest)).and_then(|file| file.set_modified(used));
    }

    /// What is known, after a look at the folder if this is the first time. Parts of an earlier process go.
    fn index(&self) -> Result<MutexGuard<'_, Index>, BlobError> {
        let mut index = self.0.index.lock().unwrap_or_else(PoisonError::into_inner);
        if index.read {
            return Ok(index);
        }
        let entries = match fs::read_dir(&self.0.folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            entries => Some(entries.map_err(|e| disk(&e))?),
        };
        *index = Index::default();
        for entry in entries.into_iter().flatten() {
            let entry = entry.map_err(|e| disk(&e))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            match name.parse() {
                Ok(digest) => {
                    let data = entry.metadata().map_err(|e| disk(&e))?;
                    let used = data.modified().ok().and_then(|used| used.duration_since(UNIX_EPOCH).ok());
                    let known = Known { bytes: data.len(), used_ms: used.unwrap_or_default().as_millis() as u64 };
                    index.bytes += room_of(known.bytes);
                    index.held.insert(digest, known);
                }
                Err(_) if name.starts_with(PART) => drop(fs::remove_file(entry.path())),
                Err(_) => tracing::warn!(file = %entry.path().display(), "is no file of a task, and is left alone"),
            }
        }
        index.read = true;
        Ok(index)
    }
}

impl Index {
    fn forget(&mut self, digest: Digest) {
        self.bytes -= self.held.remove(&digest).map_or(0, |known| room_of(known.bytes));
    }

    /// Those that may go, the first one first.
    fn idle(&self, needed: &BTreeSet<Digest>, now_ms: u64) -> Vec<Digest> {
        let kept_ms = KEPT.as_millis() as u64;
        let old = self
            .held
            .iter()
            .filter(|(digest, known)| !needed.contains(digest) && now_ms.saturating_sub(known.used_ms) > kept_ms);
        let mut old: Vec<(u64, Digest)> = old.map(|(digest, known)| (known.used_ms, *digest)).collect();
        old.sort();
        old.into_iter().map(|(_, digest)| digest).collect()
    }
}

/// What a file takes of the room: the smallest takes a block, and its place in memory.
fn room_of(bytes: u64) -> u64 {
    bytes.max(FILE_BYTES_MIN)
}

/// An error of the disk, for people.
pub(super) fn disk(error: &io::Error) -> BlobError {
    match error.kind() {
        io::ErrorKind::StorageFull => BlobError::NoRoom("the disk is full: free some of it".into()),
        _ => BlobError::Disk(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::part::Part;
    use super::*;

    fn store(blobs: &Blobs, bytes: &[u8]) -> Digest {
        let mut part = Part::new(blobs).unwrap();
        part.append(bytes).unwrap();
        part.finish(None).unwrap().digest
    }

    fn names(home: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(home.join("blobs")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_stored_is_there_after_a_restart_once_and_what_was_not_finished_is_not() {
        let (home, env) = (tempfile::tempdir().unwrap(), Env::machine());
        let blobs = Blobs::within(home.path(), &env, || Ok(BTreeSet::new()));
        let digest = store(&blobs, b"honey");
        assert_eq!((store(&blobs, b"honey"), digest), (digest, Digest::of(b"honey")));
        let mut part = Part::new(&blobs).unwrap();
        part.append(b"ho").unwrap();
        std::mem::forget(part);
        let wrong = Part::new(&blobs).unwrap().finish(Some(digest));
        assert_eq!(wrong, Err(BlobError::Differs(digest)));
        assert_eq!(names(home.path()).len(), 2, "the whole one and the one that was cut off");
        let blobs = Blobs::within(home.path(), &env, || Ok(BTreeSet::new()));
        assert_eq!(blobs.has(digest), Ok(Some(5)));
        assert_eq!(names(home.path()), [digest.to_string()]);
        assert_eq!(blobs.0.index.lock().unwrap().bytes, FILE_BYTES_MIN);
        fs::remove_file(blobs.path(digest)).unwrap();
        assert_eq!(blobs.open(digest).err(), Some(BlobError::NoSuchBlob(digest)));
        assert_eq!(blobs.has(digest), Ok(None), "somebody took it away");
    }

    #[test]
    fn room_is_set_aside_and_given_back() {
        let home = tempfile::tempdir().unwrap();
        let blobs = Blobs::within(home.path(), &Env::machine(), || Ok(BTreeSet::new()));
        let promised = |blobs: &Blobs| blobs.0.index.lock().unwrap().promised;
        let mut part = Part::new(&blobs).unwrap();
        part.claim(100).unwrap();
        part.append(b"x").unwrap();
        assert_eq!(promised(&blobs), 100);
        assert_eq!(part.claim(super::super::part::BLOB_BYTES_MAX + 1), Err(BlobError::TooLarge(64 << 30)));
        drop(part);
        assert_eq!(promised(&blobs), 0);
        assert!(matches!(blobs.promise(BLOBS_BYTES_MAX + 1), Err(BlobError::NoRoom(why)) if why.contains("room for")));
    }

    #[test]
    fn what_nobody_has_needed_for_long_goes_first_and_what_a_command_needs_never() {
        let digest = |n: u8| Digest([n; 32]);
        let known = |used_ms| Known { bytes: 1, used_ms };
        let hour = KEPT.as_millis() as u64;
        let index = Index {
            held: BTreeMap::from([
                (digest(1), known(30)),
                (digest(2), known(10)),
                (digest(3), known(20)),
                (digest(4), known(2 * hour)),
            ]),
            ..Index::default()
        };
        assert_eq!(index.idle(&BTreeSet::from([digest(3)]), 2 * hour), [digest(2), digest(1)]);
    }

    #[test]
    fn one_that_is_needed_is_not_removed() {
        let home = tempfile::tempdir().unwrap();
        let blobs = Blobs::within(home.path(), &Env::machine(), || Ok(BTreeSet::from([Digest::of(b"wax")])));
        let (wax, honey) = (store(&blobs, b"wax"), store(&blobs, b"honey"));
        assert_eq!(blobs.delete(wax), Err(BlobError::InUse(wax)));
        assert_eq!(blobs.delete(honey), Ok(()));
        assert_eq!(blobs.delete(honey), Err(BlobError::NoSuchBlob(honey)));
        assert_eq!(names(home.path()), [wax.to_string()]);
    }
}
