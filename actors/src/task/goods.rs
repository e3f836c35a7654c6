//! A command's files: put into its folder before it starts, and taken out of it when nothing of it is left.
//!
//! Nothing else runs in the folder at either time, so that what is looked at stays as it is. A link is never followed: it may
//! lead out of the folder. Not here: which files (`scheduler::files`), and where their content lies (`blob`).

use super::launch::free;
use crate::{
    Context,
    blob::BlobError,
    scheduler::files::{ARTEFACTS_MAX, Artefact, Files, Input, is_within},
};
use skep_runtime::NodeId;
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::{Instant, timeout_at};

/// The share of what is free on the disk that inputs may take.
const FREE_DIVISOR: u64 = 2;
/// How long copies to other machines may hold up the end of a command, all of them together.
const COPY_TIMEOUT: Duration = Duration::from_secs(600);
/// Entries of folders that are looked at under the outputs.
const ENTRIES_MAX: usize = 10_000;

/// Why a command has not what it was to be given.
pub(super) struct Missing {
    /// For people.
    pub why: String,
    /// Another node may have more luck.
    pub elsewhere: bool,
}

/// Puts the inputs into the folder. How many bytes they are.
pub(super) async fn place(context: &Context, folder: &Path, inputs: &[Input]) -> Result<u64, Missing> {
    let mut bytes = 0;
    for input in inputs {
        let blob = context.blobs.fetch(context, input.digest).await.map_err(|e| missing(input, e))?;
        bytes += blob.bytes;
    }
    let free = free(folder);
    if bytes > free / FREE_DIVISOR {
        let why = format!("its inputs have {} MiB, and this machine's disk {} MiB free", bytes >> 20, free >> 20);
        return Err(Missing { why, elsewhere: true });
    }
    for input in inputs {
        let path = folder.join(&input.path);
        let placed = async {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(|e| BlobError::Disk(e.to_string()))?;
            }
            context.blobs.place(context, input.digest, (path.clone(), input.executable)).await
        };
        placed.await.map_err(|e| missing(input, e))?;
    }
    Ok(bytes)
}

/// Has the inputs on this node, where nothing is put anywhere.
pub(super) async fn fetch(context: &Context, inputs: &[Input]) -> Result<(), Missing> {
    for input in inputs {
        context.blobs.fetch(context, input.digest).await.map_err(|e| missing(input, e))?;
    }
    Ok(())
}

fn missing(input: &Input, e: BlobError) -> Missing {
    Missing { why: format!("input {}: {e}", input.path), elsewhere: !matches!(e, BlobError::NoSuchBlob(_)) }
}

/// Stores what lies under the names of the outputs, and has `owner` or another node keep a copy. All files that are there,
/// and the first name under which there is nothing.
///
/// # Errors
/// What is there is too much, or could not be stored: for people.
pub(super) async fn collect(
    context: &Context,
    folder: &Path,
    (files, bytes_max): (&Files, u64),
    owner: NodeId,
) -> Result<(Vec<Artefact>, Option<String>), String> {
    let (root, outputs) = (folder.to_path_buf(), files.outputs.clone());
    let found = context.tasks.compute(move || find(&root, &outputs)).await.map_err(|e| e.to_string())??;
    let length = |path: &String| fs::symlink_metadata(folder.join(path)).map_or(0, |data| data.len());
    let bytes = found.0.iter().map(length).fold(0, u64::saturating_add);
    if bytes > bytes_max {
        return Err(format!(
            "its outputs have {} MiB, more than its limit of the disk ({} MiB)",
            bytes >> 20,
            bytes_max >> 20
        ));
    }
    let copied_by = Instant::now() + COPY_TIMEOUT;
    let mut artefacts = Vec::new();
    for path in found.0 {
        let file = folder.join(&path);
        let opened = open(&file).map_err(|e| format!("output {path}: {e}"))?;
        let executable = opened.metadata().is_ok_and(|data| data.permissions().mode() & 0o100 != 0);
        let blob = context.blobs.take(context, opened).await.map_err(|e| format!("output {path}: {e}"))?;
        // It is here. If no other machine takes a copy, it is lost with this one.
        match timeout_at(copied_by, context.blobs.copy_out(context, blob.digest, Some(owner))).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%path, %error, "what a command left lies on this machine alone"),
            Err(_) => tracing::warn!(%path, "what a command left lies on this machine alone: others were too slow"),
        }
        artefacts.push(Artefact { path, digest: blob.digest, bytes: blob.bytes, executable });
    }
    Ok((artefacts, found.1))
}

/// Paths of the files under these names, and the first name under which there is nothing. Blocks.
fn find(folder: &Path, names: &[String]) -> Result<(Vec<String>, Option<String>), String> {
    let (mut files, mut missing) = (Vec::new(), None);
    for name in names {
        // No part of the name may be a link either.
        let mut way = PathBuf::new();
        let mut parts = Path::new(name).components();
        let through = parts.all(|part| {
            way.push(part);
            fs::symlink_metadata(folder.join(&way)).is_ok_and(|data| !data.is_symlink())
        });
        match through {
            true => add(folder, Path::new(name), &mut files)?,
            false => missing = missing.or(Some(name.clone())),
        }
    }
    files.sort();
    files.dedup();
    Ok((files, missing))
}

fn add(folder: &Path, path: &Path, files: &mut Vec<String>) -> Result<(), String> {
    let (mut waiting, mut seen) = (vec![path.to_path_buf()], 0);
    while let Some(path) = waiting.pop() {
        let failed = |e: io::Error| format!("output {}: {e}", path.display());
        let kind = fs::symlink_metadata(folder.join(&path)).map_err(failed)?.file_type();
        if kind.is_dir() {
            for entry in fs::read_dir(folder.join(&path)).map_err(failed)? {
                waiting.push(path.join(entry.map_err(failed)?.file_name()));
                seen += 1;
                if seen > ENTRIES_MAX {
                    return Err(format!(
                        "output {} holds more than {ENTRIES_MAX} entries: pack them into one",
                        path.display()
                    ));
                }
            }
        } else if kind.is_file() {
            let name = path.to_str().filter(|name| is_within(name));
            let name = name.ok_or_else(|| format!("output {}: its path is too long, or no text", path.display()))?;
            files.push(name.to_owned());
        }
        if files.len() > ARTEFACTS_MAX {
            return Err(format!("it left more than {ARTEFACTS_MAX} files under its outputs: pack them into one"));
        }
    }
    Ok(())
}

/// The file itself, whatever it is called meanwhile.
fn open(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_lies_under_the_names_is_found_and_no_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at("out/deep")).unwrap();
        fs::create_dir_all(at("empty")).unwrap();
        for file in ["result", "out/a", "out/deep/b"] {
            fs::write(at(file), file).unwrap();
        }
        symlink("/etc/passwd", at("out/passwd")).unwrap();
        symlink("/etc", at("etc")).unwrap();
        let find = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            find(folder.path(), &names).unwrap()
        };
        let files = |files: &[&str]| files.iter().map(|file| (*file).to_owned()).collect::<Vec<_>>();
        assert_eq!(find(&["result", "out", "out/a", "empty"]), (files(&["out/a", "out/deep/b", "result"]), None));
        for none in ["nothing", "etc", "etc/passwd", "out/passwd", "result/x"] {
            assert_eq!(find(&["out/a", none]), (files(&["out/a"]), Some(none.to_owned())), "{none}");
        }
        assert!(open(&at("out/passwd")).is_err());
        for n in 0..=ARTEFACTS_MAX {
            fs::write(at(&format!("empty/{n}")), "").unwrap();
        }
        assert!(super::find(folder.path(), &["empty".into()]).unwrap_err().contains("pack them"));
    }
}
