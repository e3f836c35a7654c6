//! Bubblewrap: the line that starts a command in namespaces of its own, with the files of its [`Walls`] and no others.
//!
//! Its processes are seen from outside, so they are counted and ended as all others are. Not asked for: to die with its
//! parent, which is a thread; its keeper sees to that.

use super::walls::Walls;
use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

/// The program.
pub(in crate::task) const NAME: &str = "bwrap";
/// Starts a program by its name as shells do: 127 if there is none. `bwrap` itself would say 1.
const START: [&str; 3] = ["/bin/sh", "-c", "exec \"$0\" \"$@\""];

/// The program's file, if it is installed.
pub(in crate::task) fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| super::super::launch::PATH.into());
    std::env::split_paths(&path).map(|dir| dir.join(NAME)).find(|file| file.is_absolute() && file.is_file())
}

/// What to run in place of `line`. `tmp` becomes the command's `/tmp`.
pub(in crate::task) fn line(bwrap: &Path, walls: &Walls, dir: &Path, tmp: &Path, line: &[OsString]) -> Vec<OsString> {
    let mut all: Vec<OsString> = vec![bwrap.into()];
    let mut add = |words: &[&OsStr]| all.extend(words.iter().map(|word| (*word).to_owned()));
    let word = OsStr::new;
    // The namespace of users that it is in can't be left for a new one, where it would have all rights.
    add(&["--unshare-all", "--unshare-user", "--disable-userns", "--new-session", "--cap-drop", "ALL"].map(word));
    if walls.network {
        add(&[word("--share-net")]);
    }
    add(&["--proc", "/proc", "--dev", "/dev"].map(word));
    for device in walls.devices.iter().map(|place| place.path()) {
        add(&[word("--dev-bind-try"), device.as_os_str(), device.as_os_str()]);
    }
    // Its folder counts against its limit, memory that looks like a disk would not.
    for folder in ["/tmp", "/var/tmp", "/dev/shm"] {
        add(&[word("--bind"), tmp.as_os_str(), word(folder)]);
    }
    // What was named may lie in one of those.
    for read in walls.read.iter().map(|place| place.path()).filter(|path| path != Path::new("/proc")) {
        add(&[word("--ro-bind-try"), read.as_os_str(), read.as_os_str()]);
    }
    for write in walls.own.iter().chain(&walls.write).map(|place| place.path()) {
        add(&[word("--bind"), write.as_os_str(), write.as_os_str()]);
    }
    add(&["--remount-ro", "/dev", "--remount-ro", "/", "--chdir"].map(word));
    add(&[dir.as_os_str(), word("--")]);
    add(&START.map(word));
    all.extend_from_slice(line);
    all
}
