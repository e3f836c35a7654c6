//! `read_file`: a text file of the run's own folder, and nothing outside of it.
//!
//! The path is walked part by part from the folder's handle, and no part may be a link: there is no moment between
//! checking a path and opening it in which a link could be put in the way. Nor does one lead through the node's own folder,
//! where its key and its owner's token lie.

use super::{Bench, Tool, text};
use rustix::{
    fd::OwnedFd,
    fs::{CWD, FileType, Mode, OFlags, fstat, openat, stat},
    io::Errno,
};
use serde_json::Value;
use std::{
    fs::File,
    io::Read,
    path::{Component, Path},
};

/// Its name.
pub const NAME: &str = "read_file";
/// What it is.
pub const TOOL: Tool = Tool {
    name: NAME,
    args: "{\"path\": TEXT}",
    about: "read a text file of this agent's own folder",
    repeatable: true,
};

/// Bytes of a file that are read.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// Bytes of a path.
const PATH_BYTES_MAX: usize = 1024;

pub(super) async fn call(bench: Bench, args: &Value) -> Result<String, String> {
    let path = text(args, "path")?.to_owned();
    let home = bench.context.home.clone();
    let read = bench.context.tasks.compute(move || inside(&bench.folder, &home, &path));
    read.await.map_err(|e| e.to_string())?
}

/// The text of `path` under `folder`, which may lie in `home` but not lead through it.
fn inside(folder: &Path, home: &Path, path: &str) -> Result<String, String> {
    if path.len() > PATH_BYTES_MAX {
        return Err(format!("a path has at most {PATH_BYTES_MAX} bytes"));
    }
    let unreadable = |e: Errno| match e {
        Errno::LOOP | Errno::NOTDIR => format!("{path}: a part of it is a link or no folder"),
        e => format!("{path}: {}", std::io::Error::from(e)),
    };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut handle = openat(CWD, folder, flags | OFlags::DIRECTORY, Mode::empty()).map_err(unreadable)?;
    // By what it is and not by its name: a mount has another one.
    let home = stat(home).ok().map(|home| (home.st_dev, home.st_ino));
    let allowed = |handle: &OwnedFd| match fstat(handle) {
        Ok(here) if home != Some((here.st_dev, here.st_ino)) => Ok(()),
        _ => Err(format!("{path}: the node's own folder is not read")),
    };
    allowed(&handle)?;
    for part in Path::new(path).components() {
        match part {
            // Not waiting for whoever writes into a pipe.
            Component::Normal(part) => {
                let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK;
                handle = openat(&handle, part, flags, Mode::empty()).map_err(unreadable)?;
                allowed(&handle)?;
            }
            Component::CurDir => {}
            _ => return Err(format!("{path}: only paths inside this agent's folder, without \"..\"")),
        }
    }
    let kind = FileType::from_raw_mode(fstat(&handle).map_err(unreadable)?.st_mode);
    if kind != FileType::RegularFile {
        return Err(format!("{path} is not a file"));
    }
    let mut bytes = Vec::new();
    let file = File::from(handle);
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|e| format!("{path}: {e}"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("{path} is larger than {FILE_BYTES_MAX} bytes"));
    }
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err(format!("{path} is not a text file")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    #[test]
    fn only_files_inside_the_folder_are_read() {
        let root = tempfile::tempdir().unwrap();
        let (folder, home) = (root.path().join("run"), root.path());
        fs::create_dir_all(folder.join("sub")).unwrap();
        fs::write(root.path().join("secret"), "s").unwrap();
        fs::write(folder.join("sub/a.txt"), "hello").unwrap();
        fs::write(folder.join("binary"), [0, 159]).unwrap();
        fs::write(folder.join("large"), vec![b'x'; FILE_BYTES_MAX as usize + 1]).unwrap();
        symlink(root.path(), folder.join("up")).unwrap();
        symlink("/etc/passwd", folder.join("passwd")).unwrap();
        symlink("sub", folder.join("inner")).unwrap();
        assert_eq!(inside(&folder, home, "./sub/a.txt").unwrap(), "hello");
        let absolute = root.path().join("secret");
        let escapes = [
            "../secret",
            "sub/../../secret",
            "up/secret",
            "passwd",
            "inner/a.txt",
            "/etc/passwd",
            "/proc/self/root/etc/passwd",
            absolute.to_str().unwrap(),
            "sub",
            "",
            "binary",
            "large",
            "missing",
        ];
        for path in escapes {
            assert!(inside(&folder, home, path).is_err(), "{path}");
        }
    }

    /// A15: a folder that came to hold the node's own after it was given.
    #[test]
    fn a15_no_path_leads_through_the_nodes_own_folder() {
        let root = tempfile::tempdir().unwrap();
        let home = root.path().join("node");
        fs::create_dir_all(home.join("runs/1")).unwrap();
        fs::write(home.join("token"), "secret").unwrap();
        fs::write(home.join("runs/1/document"), "mine").unwrap();
        let above = root.path();
        for (folder, path) in [(above, "node/token"), (above, "./node/runs/1/document"), (&*home, "token")] {
            assert!(inside(folder, &home, path).unwrap_err().contains("own folder"), "{path}");
        }
        assert_eq!(inside(&home.join("runs/1"), &home, "document").unwrap(), "mine");
    }
}
