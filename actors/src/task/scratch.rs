//! The folders of commands: each has two of its own, to work in and for what is temporary. Those that a command left as it
//! had found them serve the next one: to make and remove them costs a fifth of what a node spends on a small command.
//!
//! Not here: what a command reaches beside them (`fence::walls`), and where its output goes (`output`).

use rustix::fs::Stat;
use skep_runtime::tasks::Spawner;
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Folders that wait for a command, as many as keepers do.
const WAITING_MAX: usize = 16;
/// Names that are tried for a new one: some may be taken by what an earlier process of this node could not remove.
const NAMES_MAX: usize = 1000;

/// The folders of one node's commands. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Scratches(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    root: PathBuf,
    made: Mutex<Made>,
}

#[derive(Debug, Default)]
struct Made {
    waiting: Vec<Scratch>,
    /// How many were made. `None` before the first: what is there then is of an earlier process.
    count: Option<u64>,
}

/// One command's folders, by their real names. Dropped, they stay until the node starts again.
#[derive(Debug)]
pub(super) struct Scratch {
    /// The node's folder, which holds them.
    pub home: PathBuf,
    /// Where the command works unless it says otherwise.
    pub work: PathBuf,
    /// For what is temporary.
    pub temporary: PathBuf,
    /// How both were when they were made.
    as_made: [Sight; 2],
}

/// What changes when anybody does anything to a folder or to what is in it.
#[derive(Debug, PartialEq, Eq)]
struct Sight {
    inode: u64,
    mode: u32,
    owner: (u32, u32),
    changed: (i64, i64),
}

impl Scratches {
    /// Of the node whose folder this is.
    pub fn within(home: &Path) -> Scratches {
        Scratches(Arc::new(Pool { root: home.join("scratch"), made: Mutex::default() }))
    }

    /// Removes what an earlier process left. Nothing of its commands may run any more. Blocks.
    pub(crate) fn sweep(&self) {
        self.0.begin(&mut self.0.lock());
    }

    /// Two empty folders.
    ///
    /// # Errors
    /// The disk refuses them.
    pub(super) fn take(&self) -> io::Result<Scratch> {
        let mut made = self.0.lock();
        // One that was changed while it waited is nobody's.
        while let Some(scratch) = made.waiting.pop() {
            if scratch.is_untouched() {
                return Ok(scratch);
            }
            scratch.work.parent().into_iter().for_each(remove);
        }
        self.0.begin(&mut made);
        self.0.make(&mut made)
    }

    /// Nothing of the command is left but what it wrote there, which is removed. `given`: files were put there, or may be yet by
    /// what can't be interrupted.
    pub(super) async fn give_back(&self, scratch: Scratch, given: bool, tasks: &Spawner) {
        if !given && scratch.is_untouched() {
            let mut made = self.0.lock();
            if made.waiting.len() < WAITING_MAX {
                return made.waiting.push(scratch);
            }
        }
        let Some(both) = scratch.work.parent().map(Path::to_path_buf) else { return };
        let _ = tasks.compute(move || remove(&both)).await;
    }
}

impl Pool {
    fn begin(&self, made: &mut Made) {
        if made.count.is_none() {
            remove(&self.root);
            made.count = Some(0);
        }
    }

    fn make(&self, made: &mut Made) -> io::Result<Scratch> {
        fs::create_dir_all(&self.root)?;
        let root = self.root.canonicalize()?;
        let home = root.parent().unwrap_or(&root).to_path_buf();
        for _ in 0..NAMES_MAX {
            let count = made.count.get_or_insert_default();
            let both = root.join(count.to_string());
            *count += 1;
            match fs::create_dir(&both) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made?,
            }
            let (work, temporary) = (both.join("work"), both.join("tmp"));
            fs::create_dir(&work)?;
            fs::create_dir(&temporary)?;
            let as_made = [see(&work)?, see(&temporary)?];
            return Ok(Scratch { home, work, temporary, as_made });
        }
        Err(io::Error::other(format!("{} holds folders that can't be removed: remove them", root.display())))
    }

    fn lock(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scratch {
    /// Both folders.
    pub(super) fn folders(&self) -> [&Path; 2] {
        [&self.work, &self.temporary]
    }

    /// Whether both are as they were made. The clock of a disk may stand still for some milliseconds: what is in them is
    /// looked at, too.
    fn is_untouched(&self) -> bool {
        let empty = |folder: &Path| fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
        let as_made = |(folder, made): (&Path, &Sight)| see(folder).is_ok_and(|now| now == *made) && empty(folder);
        self.folders().into_iter().zip(&self.as_made).all(as_made)
    }
}

#[allow(clippy::unnecessary_cast, clippy::useless_conversion, reason = "these have other types on other systems")]
fn see(folder: &Path) -> io::Result<Sight> {
    let stat: Stat = rustix::fs::lstat(folder)?;
    Ok(Sight {
        inode: stat.st_ino as u64,
        mode: stat.st_mode.into(),
        owner: (stat.st_uid, stat.st_gid),
        changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
    })
}

fn remove(folder: &Path) {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(folder = %folder.display(), error = %e, "the folders of a command can't be removed");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_runtime::Tasks;
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn only_what_a_command_left_as_it_was_serves_the_next_one() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir_all(home.path().join("scratch/7/work/of an earlier process")).unwrap();
        let (scratches, tasks) = (Scratches::within(home.path()), Tasks::default());
        let first = scratches.take().unwrap().work;
        assert!(!home.path().join("scratch/7").exists() && first.starts_with(home.path().canonicalize().unwrap()));
        type Change = fn(&Scratch);
        let change: [(&str, Change); 6] = [
            ("nothing", |_| {}),
            ("given", |_| {}),
            ("a file", |s| fs::write(s.work.join("x"), "").unwrap()),
            ("temporary", |s| fs::create_dir(s.temporary.join("x")).unwrap()),
            ("rights", |s| fs::set_permissions(&s.work, fs::Permissions::from_mode(0o700)).unwrap()),
            ("gone", |s| fs::remove_dir(&s.work).unwrap()),
        ];
        for (what, change) in change {
            let scratch = scratches.take().unwrap();
            let work = scratch.work.clone();
            change(&scratch);
            scratches.give_back(scratch, what == "given", &tasks.spawner()).await;
            let next = scratches.take().unwrap();
            assert_eq!(next.work == work, what == "nothing", "{what}");
            assert!(what == "nothing" || !work.exists(), "{what}");
            assert!(next.is_untouched());
        }
    }

    #[tokio::test]
    async fn as_many_wait_as_are_used_at_once() {
        let home = tempfile::tempdir().unwrap();
        let (scratches, tasks) = (Scratches::within(home.path()), Tasks::default());
        let all: Vec<Scratch> = (0..WAITING_MAX + 3).map(|_| scratches.take().unwrap()).collect();
        for scratch in all {
            scratches.give_back(scratch, false, &tasks.spawner()).await;
        }
        assert_eq!(fs::read_dir(home.path().join("scratch")).unwrap().count(), WAITING_MAX);
        scratches.sweep();
        assert_eq!(fs::read_dir(home.path().join("scratch")).unwrap().count(), WAITING_MAX, "these are its own");
    }
}
