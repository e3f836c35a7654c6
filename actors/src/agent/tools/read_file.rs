//! `read_file`: a text file of the run's own folder, and nothing outside of it.
//!
//! The path is walked part by part from the folder's handle, and no part may be a link: there is no moment between
//! checking a path and opening it in which a link could be put in the way.

use super::{Bench, Tool, text};
use rustix::{
    fs::{CWD, FileType, Mode, OFlags, fstat, openat},
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
    let read = bench.context.tasks.compute(move || inside(&bench.folder, &path));
    read.await.map_err(|e| e.to_string())?
}

/// The text of `path` under `folder`.
fn inside(folder: &Path, path: &str) -> Result<String, String> {
    if path.len() > PATH_BYTES_MAX {
        return Err(format!("a path has at most {PATH_BYTES_MAX} bytes"));
    }
    let unreadable = |e: Errno| match e {
        Errno::LOOP | Errno::NOTDIR => format!("{path}: a part of it is a link or no folder"),
        e => format!("{path}: {}", std::io::Error::from(e)),
    };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut handle = openat(CWD, folder, flags | OFlags::DIRECTORY, Mode::empty()).map_err(unreadable)?;
    for part in Path::new(path).components() {
        match part {
            // Not waiting for whoever writes into a pipe.
            Component::Normal(part) => {
                let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK;
                handle = openat(&handle, part, flags, Mode::empty()).map_err(unreadable)?;
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
        let folder = root.path().join("run");
        fs::create_dir_all(folder.join("sub")).unwrap();
        fs::write(root.path().join("secret"), "s").unwrap();
        fs::write(folder.join("sub/a.txt"), "hello").unwrap();
        fs::write(folder.join("binary"), [0, 159]).unwrap();
        fs::write(folder.join("large"), vec![b'x'; FILE_BYTES_MAX as usize + 1]).unwrap();
        symlink(root.path(), folder.join("up")).unwrap();
        symlink("/etc/passwd", folder.join("passwd")).unwrap();
        symlink("sub", folder.join("inner")).unwrap();
        assert_eq!(inside(&folder, "./sub/a.txt").unwrap(), "hello");
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
            assert!(inside(&folder, path).is_err(), "{path}");
        }
    }
}
