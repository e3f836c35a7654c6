//! Which files a fenced command reaches: the system's, its own folders, and what its submitter named. All else, above all
//! the node's folder with its key and token, is out of reach.
//!
//! An allow-list: neither landlock nor bubblewrap can take something out of what was given. Not here: how it is enforced.

use crate::scheduler::Spec;
use serde::{Deserialize, Serialize};
use std::{
    ffi::OsString,
    fs, io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

/// What programs are made of and configured by. No one's home, no `/var`, no `/run` with its sockets, no `/tmp`.
const SYSTEM: [&str; 14] = [
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/nix", "/gnu", "/snap", "/sys",
    "/proc",
];
/// Devices that every program may expect.
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];
/// How the names of graphics processors' devices begin, for commands that demand one.
const GPUS: [&str; 3] = ["nvidia", "kfd", "dri"];
/// Entries of a folder that is given but for one of them: each is a rule, and each rule is a system call.
const BESIDE_MAX: usize = 4096;

/// A file or folder, in bytes: names need not be text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::task) struct Place(Vec<u8>);

/// What a command reaches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::task) struct Walls {
    /// The folders that are its own: it may do there what it likes.
    pub own: Vec<Place>,
    /// Files and folders that it may read and execute.
    pub read: Vec<Place>,
    /// Folders of others that it may change: its submitter named them.
    pub write: Vec<Place>,
    /// Devices that it may use.
    pub devices: Vec<Place>,
    /// The node's folder, of which only `own` is within reach.
    pub home: Place,
    /// Whether it has the network, and with it the sockets of this machine's daemons.
    pub network: bool,
}

impl From<&Path> for Place {
    fn from(path: &Path) -> Place {
        Place(path.as_os_str().to_owned().into_vec())
    }
}

impl Place {
    pub(in crate::task) fn path(&self) -> PathBuf {
        OsString::from_vec(self.0.clone()).into()
    }
}

impl Walls {
    /// Those of a command in `dir`, whose folders are `own`, on the node whose folder is `home`. All are real paths.
    ///
    /// # Errors
    /// Something that was named isn't there, or would open the node's folder. For people.
    pub(in crate::task) fn around(spec: &Spec, dir: &Path, own: &[&Path], home: &Path) -> io::Result<Walls> {
        let mut read: Vec<Place> = Vec::new();
        for root in SYSTEM.map(Path::new) {
            let Ok(real) = root.canonicalize() else { continue };
            match home.starts_with(&real) {
                true => read.extend(beside(&real, home)?),
                // By the name that programs use: it may be a link.
                false => read.push(root.into()),
            }
        }
        if !own.iter().any(|own| dir.starts_with(own)) {
            read.push(dir.into());
        }
        for named in &spec.readable {
            read.push((&*real("readable", Path::new(named), home)?).into());
        }
        let mut write = Vec::new();
        for named in &spec.writable {
            let path = real("writable", Path::new(named), home)?;
            if !path.is_dir() {
                return Err(refused("writable", &path, "is no folder on this node"));
            }
            write.push((&*path).into());
        }
        if spec.network
            && let Ok(names) = Path::new("/etc/resolv.conf").canonicalize()
        {
            read.push((&*names).into());
        }
        let mut devices: Vec<Place> =
            DEVICES.map(Path::new).into_iter().filter(|path| path.exists()).map(Place::from).collect();
        if spec.demand.gpus() > 0 {
            devices.extend(gpus());
        }
        let own = own.iter().map(|own| Place::from(*own)).collect();
        Ok(Walls { own, read, write, devices, home: home.into(), network: spec.network })
    }

    /// Whether programs in this folder can be started.
    pub(in crate::task) fn reach(&self, folder: &Path) -> bool {
        self.own.iter().chain(&self.read).chain(&self.write).any(|place| folder.starts_with(place.path()))
    }
}

/// The folder that a command is to work in: `scratch`, or one that its submitter named.
///
/// # Errors
/// It isn't there, or it is within or around the node's own folder `home`: whatever names it, links and `..` included.
pub(in crate::task) fn working(spec: &Spec, scratch: &Path, home: &Path) -> io::Result<PathBuf> {
    let Some(dir) = &spec.dir else { return Ok(scratch.into()) };
    let named = scratch.join(dir);
    let dir = named.canonicalize().ok().filter(|dir| dir.is_dir());
    let dir = dir.ok_or_else(|| refused("dir", &named, "is no folder on this node"))?;
    if dir.starts_with(scratch) { Ok(dir) } else { apart("dir", dir, home) }
}

fn real(field: &str, named: &Path, home: &Path) -> io::Result<PathBuf> {
    let path = named.canonicalize().map_err(|e| refused(field, named, &format!("is not on this node: {e}")))?;
    apart(field, path, home)
}

fn apart(field: &str, path: PathBuf, home: &Path) -> io::Result<PathBuf> {
    if path.starts_with(home) {
        return Err(refused(field, &path, "belongs to the node: no command reaches its folder"));
    }
    if home.starts_with(&path) {
        return Err(refused(field, &path, "holds the node's own folder: name one beside or within it"));
    }
    Ok(path)
}

fn refused(field: &str, path: &Path, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{field}: {} {why}", path.display()))
}

/// All that is in `root` but what leads to `home`.
fn beside(root: &Path, home: &Path) -> io::Result<Vec<Place>> {
    let mut given = Vec::new();
    let mut folder = root.to_path_buf();
    for step in home.strip_prefix(root).into_iter().flatten() {
        for entry in fs::read_dir(&folder)?.flatten().filter(|entry| entry.file_name() != step) {
            given.push((&*entry.path()).into());
            if given.len() > BESIDE_MAX {
                return Err(refused("home", home, "lies among too many files to be fenced off"));
            }
        }
        folder.push(step);
    }
    Ok(given)
}

fn gpus() -> Vec<Place> {
    let all = fs::read_dir("/dev").into_iter().flatten().flatten();
    let of_gpu = all.filter(|entry| {
        let name = entry.file_name();
        GPUS.iter().any(|gpu| name.to_str().is_some_and(|name| name.starts_with(gpu)))
    });
    of_gpu.map(|entry| Place::from(&*entry.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(places: &[Place]) -> Vec<PathBuf> {
        places.iter().map(Place::path).collect()
    }

    #[test]
    fn a_folder_is_given_but_for_what_leads_to_the_nodes() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let home = root.join("a/home");
        fs::create_dir_all(&home).unwrap();
        fs::create_dir(root.join("b")).unwrap();
        fs::write(root.join("a/file"), "").unwrap();
        let mut given = paths(&beside(&root, &home).unwrap());
        given.sort();
        assert_eq!(given, [root.join("a/file"), root.join("b")]);
    }

    #[test]
    fn nothing_that_is_named_opens_the_nodes_folder() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let (home, scratch, other) = (root.join("home"), root.join("home/tasks/1/work"), root.join("other"));
        fs::create_dir_all(&scratch).unwrap();
        fs::create_dir(&other).unwrap();
        std::os::unix::fs::symlink(&home, root.join("link")).unwrap();
        let dir = |dir: &str| working(&Spec { dir: Some(dir.into()), ..Spec::new("true") }, &scratch, &home);
        assert_eq!(dir(other.to_str().unwrap()).unwrap(), other);
        assert_eq!(dir(".").unwrap(), scratch);
        for bad in ["..", "../../../..", "/", root.to_str().unwrap(), root.join("link").to_str().unwrap()] {
            let why = dir(bad).unwrap_err().to_string();
            assert!(why.starts_with("dir: ") && why.contains("node"), "{bad}: {why}");
        }
        for writable in [&home, &root, &root.join("link"), &root.join("nothing")] {
            let named = vec![writable.to_str().unwrap().to_owned()];
            let spec = Spec { writable: named.clone(), ..Spec::new("true") };
            assert!(Walls::around(&spec, &scratch, &[&scratch], &home).is_err(), "{writable:?}");
            let spec = Spec { readable: named, ..Spec::new("true") };
            assert!(Walls::around(&spec, &scratch, &[&scratch], &home).is_err(), "{writable:?}");
        }
    }
}
