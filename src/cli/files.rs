//! Files that a command is given and leaves: from this machine's disk into the swarm, and back.

use super::screen;
use crate::client::Client;
use anyhow::{Context, bail, ensure};
use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    os::unix::fs::PermissionsExt,
    path::{Component, Path, PathBuf},
};
use tokio::{
    fs::{self, File, OpenOptions},
    io::AsyncWriteExt,
};

/// Bytes above which a file is worth a bar.
const BAR_BYTES_MIN: u64 = 4 << 20;
/// Files of one folder that are looked at: a node takes fewer.
const FOLDER_FILES_MAX: usize = 1000;

/// Stores files in the swarm. `named` are `FILE` or `NAME=FILE`; a folder is all that is in it. The `inputs` of a task.
pub(super) async fn upload(client: &Client, named: &[String]) -> anyhow::Result<Vec<Value>> {
    let mut files = BTreeMap::new();
    for named in named {
        let (name, file) = match named.split_once('=') {
            Some((name, file)) if !Path::new(named).exists() => (name.to_owned(), file),
            _ => (name_of(named)?, &**named),
        };
        for (name, file) in within(&name, Path::new(file)).await? {
            let name = name.to_str().with_context(|| format!("{} has a name that is no text", file.display()))?;
            files.insert(name.to_owned(), file);
        }
    }
    let mut inputs = Vec::new();
    for (name, file) in files {
        let opened = File::open(&file).await.with_context(|| format!("{} can't be read", file.display()))?;
        let data = opened.metadata().await?;
        ensure!(data.is_file(), "{} is no file", file.display());
        let bar = if data.len() < BAR_BYTES_MIN { indicatif::ProgressBar::hidden() } else { screen::progress() };
        bar.set_message(format!("storing {name}"));
        screen::measured(&bar, data.len());
        let counted = bar.clone();
        let pieces = tokio_util::io::ReaderStream::new(opened).inspect_ok(move |piece| counted.inc(piece.len() as u64));
        let stored = client.upload("/api/blobs", pieces, data.len()).await;
        bar.finish_and_clear();
        let executable = data.permissions().mode() & 0o100 != 0;
        let digest = screen::text(&stored?["digest"]);
        inputs.push(json!({ "path": name, "digest": digest, "executable": executable }));
    }
    Ok(inputs)
}

/// What a file is called in a task's folder if nothing else is said.
fn name_of(file: &str) -> anyhow::Result<String> {
    let real = Path::new(file).canonicalize().with_context(|| format!("{file} is not here"))?;
    let name = real.file_name().with_context(|| format!("{file} has no name: say NAME={file}"))?;
    Ok(name.to_str().with_context(|| format!("{file} has a name that is no text: say NAME={file}"))?.to_owned())
}

/// The files under a path, with their names.
async fn within(name: &str, root: &Path) -> anyhow::Result<Vec<(PathBuf, PathBuf)>> {
    let (mut files, mut waiting) = (Vec::new(), vec![(PathBuf::from(name), root.to_path_buf())]);
    while let Some((name, path)) = waiting.pop() {
        let data = fs::metadata(&path).await.with_context(|| format!("{} is not here", path.display()))?;
        if !data.is_dir() {
            files.push((name, path));
        } else {
            let mut entries = fs::read_dir(&path).await?;
            while let Some(entry) = entries.next_entry().await? {
                if entry.file_type().await?.is_symlink() {
                    screen::note!("{} is a link, and left out: name what it leads to", entry.path().display());
                    continue;
                }
                waiting.push((name.join(entry.file_name()), entry.path()));
            }
        }
        let few = files.len() + waiting.len() <= FOLDER_FILES_MAX;
        ensure!(few, "{} holds too many files: pack them into one", root.display());
    }
    Ok(files)
}

/// Writes what a task left into a folder, under the names that it had. How many files.
pub(super) async fn download(client: &Client, task: &Value, into: &Path) -> anyhow::Result<usize> {
    let artefacts = task["artefacts"].as_array().cloned().unwrap_or_default();
    for artefact in &artefacts {
        let name = artefact["path"].as_str().unwrap_or_default();
        // The node is asked by its owner; what it answers came from any machine of the swarm.
        let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        let wanted = task["outputs"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let plain = plain && wanted.into_iter().any(|output| Path::new(name).starts_with(output));
        ensure!(
            plain && !name.is_empty(),
            "the task left a file {name:?}, which is none of its outputs: nothing was written to {}",
            into.display()
        );
        let path = into.join(name);
        let wrong = || format!("{} can't be written", path.display());
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).await.with_context(wrong)?;
        }
        let digest = artefact["digest"].as_str().unwrap_or_default();
        let bytes = artefact["bytes"].as_u64().unwrap_or_default();
        let bar = if bytes < BAR_BYTES_MIN { indicatif::ProgressBar::hidden() } else { screen::progress() };
        bar.set_message(format!("fetching {}", screen::plain(name)));
        screen::measured(&bar, bytes);
        let part = path.with_file_name(format!(".{}.part", path.file_name().unwrap_or_default().to_string_lossy()));
        let mode = if artefact["executable"] == true { 0o755 } else { 0o644 };
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&part)
            .await
            .with_context(wrong)?;
        let (mut pieces, mut hash) = (client.download(&format!("/api/blobs/{digest}")).await?, Sha256::new());
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            hash.update(&piece);
            file.write_all(&piece).await.with_context(wrong)?;
            bar.inc(piece.len() as u64);
        }
        file.flush().await.with_context(wrong)?;
        bar.finish_and_clear();
        let came = hash.finalize().iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        if came != digest {
            let _ = fs::remove_file(&part).await;
            bail!("what came as {name} is something else: fetch it again");
        }
        fs::rename(&part, &path).await.with_context(wrong)?;
    }
    Ok(artefacts.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_is_all_that_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("b")).unwrap();
        std::fs::write(folder.path().join("a"), "").unwrap();
        std::fs::write(folder.path().join("b/c"), "").unwrap();
        let mut names: Vec<PathBuf> =
            within("x", folder.path()).await.unwrap().into_iter().map(|(name, _)| name).collect();
        names.sort();
        assert_eq!(names, [PathBuf::from("x/a"), PathBuf::from("x/b/c")]);
        assert!(within("x", &folder.path().join("nothing")).await.is_err());
        assert_eq!(name_of(folder.path().join("b/../a").to_str().unwrap()).unwrap(), "a");
    }
}
