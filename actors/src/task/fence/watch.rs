//! Looks at a running command until it has broken a limit: how many processes it has, what memory they hold, what lies in
//! its folders.
//!
//! Looking is cheap (the files of the family's own processes, not of all) and takes a twentieth of one core at most.
//! What it can't see: files that were removed and are still open, memory that is mapped nowhere. Elsewhere than on Linux
//! it looks at the folders alone.

use super::{Breach, Limits};
use crate::task::family::Family;
use skep_runtime::tasks::Spawner;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// How long after its start a command is looked at first: most have ended by then.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(200);
/// What a look took is waited this many times before the next one.
const REST: u32 = 20;
/// What a file takes beside its bytes: without this, empty ones could be made without end.
const FILE_BYTES: u64 = 512;
/// A block as `stat` counts them.
const BLOCK_BYTES: u64 = 512;

/// What the looks are at.
pub(in crate::task) struct Watch {
    pub limits: Limits,
    pub family: Family,
    /// The folders whose bytes count.
    pub folders: Vec<PathBuf>,
}

impl Watch {
    /// The first limit that it breaks. May never come.
    pub(in crate::task) async fn breach(self, tasks: &Spawner) -> Breach {
        let watch = Arc::new(self);
        let mut rests_until = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            sleep(pause).await;
            let start = Instant::now();
            let (looking, folders) = (watch.clone(), start >= rests_until);
            if let Ok(Some(breach)) = tasks.compute(move || looking.look(folders)).await {
                return breach;
            }
            let took = start.elapsed();
            pause = PAUSE;
            if folders {
                // A large folder takes long to read, but it grows no faster than others.
                rests_until = start + took * REST;
            } else {
                pause = pause.max(took * REST);
            }
        }
    }

    fn look(&self, folders: bool) -> Option<Breach> {
        let Limits { processes, memory_bytes, disk_bytes } = self.limits;
        let family = self.family.members();
        if family.len() > processes as usize {
            return Some(Breach::Processes(processes));
        }
        let held = || family.iter().map(|pid| memory(*pid)).fold(0, u64::saturating_add);
        // What a process and its children share is counted for each: only then the exact sum, which takes long.
        let exactly = || family.iter().map(|pid| share(*pid)).fold(0, u64::saturating_add);
        if held() > memory_bytes && exactly() > memory_bytes {
            return Some(Breach::Memory(memory_bytes));
        }
        if folders {
            let mut bytes = 0;
            for folder in &self.folders {
                add(folder, &mut bytes, disk_bytes);
            }
            if bytes > disk_bytes {
                return Some(Breach::Disk(disk_bytes));
            }
        }
        None
    }
}

/// Bytes that a process holds of its own, swapped out ones too. 0 if it is gone.
fn memory(pid: i32) -> u64 {
    sum(
        &std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default(),
        &["RssAnon:", "RssShmem:", "VmSwap:"],
    )
}

/// The same, with what it shares with others divided among them. As [`memory`] if that isn't told.
fn share(pid: i32) -> u64 {
    let rolled = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
    rolled.map_or_else(|_| memory(pid), |text| sum(&text, &["Pss_Anon:", "Pss_Shmem:", "SwapPss:"]))
}

/// Adds the KiB behind these words.
fn sum(text: &str, words: &[&str]) -> u64 {
    let of = |line: &str| {
        let mut parts = line.split_whitespace();
        let word = parts.next()?;
        words.contains(&word).then(|| parts.next()?.parse::<u64>().ok()).flatten()
    };
    text.lines().filter_map(of).fold(0u64, u64::saturating_add).saturating_mul(1 << 10)
}

/// Adds what lies in a folder, until that is more than `enough`. The command may move things and make links meanwhile:
/// no link is followed, not even on the way.
#[cfg(target_os = "linux")]
fn add(folder: &std::path::Path, bytes: &mut u64, enough: u64) {
    use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, openat, openat2, statat};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let Ok(root) = openat(CWD, folder, flags, Mode::empty()) else { return };
    let mut waiting = vec![PathBuf::from(".")];
    while let Some(at) = waiting.pop() {
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let Ok(opened) = openat2(&root, &at, flags, Mode::empty(), within) else { continue };
        let Ok(entries) = Dir::read_from(&opened) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(stat) = statat(&opened, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
            // A file of many names takes its room once: each of them counts its part.
            *bytes = bytes
                .saturating_add(FILE_BYTES)
                .saturating_add(blocks.saturating_mul(BLOCK_BYTES) / u64::from(links(&stat)));
            if *bytes > enough {
                return;
            }
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
                waiting.push(at.join(OsStr::from_bytes(name.to_bytes())));
            }
        }
    }
}

/// By how many names a file is known: each counts its part. A folder's are its subfolders.
#[cfg(target_os = "linux")]
fn links(stat: &rustix::fs::Stat) -> u32 {
    let folder = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory;
    if folder { 1 } else { u32::try_from(stat.st_nlink).unwrap_or(1).max(1) }
}

#[cfg(not(target_os = "linux"))]
fn add(folder: &std::path::Path, bytes: &mut u64, enough: u64) {
    let mut waiting = vec![folder.to_path_buf()];
    while let Some(at) = waiting.pop() {
        for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
            // Not of what a link leads to.
            let Ok(known) = entry.metadata() else { continue };
            *bytes = bytes.saturating_add(FILE_BYTES).saturating_add(known.len());
            if *bytes > enough {
                return;
            }
            if known.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_a_folder_is_counted_and_what_links_lead_to_is_not() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(other.path().join("big"), vec![1; 1 << 20]).unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::write(folder.path().join("sub/file"), vec![1; 100 << 10]).unwrap();
        std::os::unix::fs::symlink(other.path(), folder.path().join("link")).unwrap();
        let mut bytes = 0;
        add(folder.path(), &mut bytes, u64::MAX);
        assert!((100 << 10..300 << 10).contains(&bytes), "{bytes}");
        std::fs::write(folder.path().join("big"), vec![1; 1 << 20]).unwrap();
        let mut bytes = 0;
        add(folder.path(), &mut bytes, 1000 << 10);
        assert!(bytes > 1000 << 10);
    }

    #[test]
    fn the_systems_words_about_memory_are_added() {
        let text = "Name:\tx\nRssAnon:\t     100 kB\nRssFile:\t 999 kB\nVmSwap:\t 1 kB\nRssShmem: x kB\n";
        assert_eq!(sum(text, &["RssAnon:", "RssShmem:", "VmSwap:"]), 101 << 10);
    }
}
