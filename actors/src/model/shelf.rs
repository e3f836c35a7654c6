//! The weights on this disk: GGUF files in one folder, each with its digest, its card and where it came from.
//!
//! The folder is the truth, and several nodes of one machine may share it: what is put there by hand is found, what
//! is taken away is forgotten. A digest is computed once and remembered by file name, size and time of change.

use super::{
    messages::{Model, ModelError},
    name,
    part::{Part, Scrap},
};
use crate::{
    Context, digest,
    node::{self, messages::CardModel},
};
use serde::{Deserialize, Serialize};
use skep_engine::Card;
use skep_runtime::store::{Batch, Table};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

/// What is remembered of a file, by its name.
const FILES: Table<String, Record> = Table::new("model_files");
/// Files in the folder that are looked at; a folder of more is no models' folder.
const FILES_MAX: usize = 1024;
/// How long a question waits for files that were put there by hand since the last one.
pub(super) const GLANCE_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of the disk that a model leaves free: logs, the store and the owner need some.
const DISK_RESERVE_BYTES: u64 = 1 << 30;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    stamp: Stamp,
    digest: String,
    source: String,
    added_ms: u64,
}

/// What tells a changed file from the one that was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    bytes: u64,
    changed_ns: u64,
}

/// A file that is known.
#[derive(Clone)]
pub(super) struct Shelved {
    pub(super) model: Model,
    pub(super) card: Arc<Card>,
    pub(super) path: PathBuf,
    stamp: Stamp,
}

/// A node's models. Cheap to clone; all clones show the same.
#[derive(Clone)]
pub(super) struct Shelf {
    context: Context,
    files: Arc<Mutex<BTreeMap<String, Shelved>>>,
    /// Held while the folder is looked through or changed, so that no file is hashed twice.
    hand: Arc<tokio::sync::Mutex<()>>,
    /// Bytes of the disk that fetches under way may still write.
    promised: Arc<Mutex<u64>>,
}

impl Shelf {
    pub(super) fn new(context: Context) -> Shelf {
        Shelf { context, files: Arc::default(), hand: Arc::default(), promised: Arc::default() }
    }

    /// Everything, by name.
    pub(super) fn list(&self) -> Vec<Model> {
        self.lock().values().map(|known| known.model.clone()).collect()
    }

    /// The first model that `fits`.
    pub(super) fn find(&self, fits: impl Fn(&Model) -> bool) -> Option<Shelved> {
        self.lock().values().find(|known| fits(&known.model)).cloned()
    }

    /// The same, after a glance at the folder if it isn't known: a question doesn't wait for a large file that was
    /// just put there.
    pub(super) async fn seek(&self, fits: impl Fn(&Model) -> bool) -> Option<Shelved> {
        if let Some(known) = self.find(&fits) {
            return Some(known);
        }
        self.glance(GLANCE_TIMEOUT).await;
        self.find(fits)
    }

    /// Looks the folder through, waiting for it no longer than `patience`: hashing a large new file goes on behind.
    pub(super) async fn glance(&self, patience: Duration) {
        let (shelf, (done, ready)) = (self.clone(), tokio::sync::oneshot::channel());
        self.context.tasks.spawn(async move {
            shelf.look().await;
            let _ = done.send(());
        });
        let _ = tokio::time::timeout(patience, ready).await;
    }

    /// Looks the folder through: opens and hashes what is new, forgets what has gone.
    pub(super) async fn look(&self) {
        let _hand = self.hand.lock().await;
        let folder = self.context.models.clone();
        let found = match self.context.tasks.compute(move || files(&folder)).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return tracing::warn!(%error, "the models' folder can't be read"),
            Err(error) => return tracing::warn!(%error, "the models' folder can't be read"),
        };
        let mut changed = {
            let mut known = self.lock();
            let before = known.len();
            known.retain(|_, shelved| {
                found.iter().any(|(path, stamp)| *path == shelved.path && *stamp == shelved.stamp)
            });
            known.len() != before
        };
        for (path, stamp) in found {
            if !self.lock().values().any(|shelved| shelved.path == path) {
                match self.open(&path, stamp).await {
                    Ok(shelved) => changed |= self.lock().insert(shelved.model.name.clone(), shelved).is_none(),
                    Err(error) => {
                        tracing::warn!(file = %path.display(), %error, "a file in the models' folder is left out")
                    }
                }
            }
        }
        if changed {
            self.announce().await;
        }
    }

    /// Takes a finished download in: it must be a GGUF file that the engine takes, and have this digest, if one is
    /// expected. The same weights twice are one. `file` is what its name is made of.
    pub(super) async fn put(
        &self,
        part: &Path,
        file: &str,
        source: &str,
        expected: Option<&str>,
    ) -> Result<Model, ModelError> {
        let card = self.card(part).await?;
        let digest = digest::of_file(&self.context.tasks, part).await.map_err(|e| disk(&e))?;
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            let short = |text: &str| text.chars().take(12).collect::<String>();
            return Err(ModelError::Fetch(format!(
                "its checksum is {}..., {}... was published: it was damaged on the way, try again",
                short(&digest),
                short(expected)
            )));
        }
        let _hand = self.hand.lock().await;
        if let Some(known) = self.find(|model| model.digest == digest) {
            return Ok(known.model);
        }
        let taken = |name: &str| self.lock().contains_key(name) || self.path(name).exists();
        let name = name::free(&name::of_file(file), &card.quantisation, taken);
        let path = self.path(&name);
        let (from, to) = (part.to_owned(), path.clone());
        let moved = self.context.tasks.compute(move || shelve(&from, &to)).await;
        let stamp = moved.map_err(|e| ModelError::Store(e.to_string()))?.map_err(|e| disk(&e))?;
        let record = Record { stamp, digest, source: source.to_owned(), added_ms: self.context.env.now_ms() };
        self.remember(&name, &record).await?;
        let shelved = shelved(&name, path, Arc::new(card), record);
        let model = shelved.model.clone();
        self.lock().insert(name, shelved);
        self.announce().await;
        Ok(model)
    }

    /// Deletes a model's file.
    pub(super) async fn remove(&self, name: &str) -> Result<(), ModelError> {
        let _hand = self.hand.lock().await;
        let known = self.lock().get(name).cloned().ok_or_else(|| ModelError::NoSuchModel(name.to_owned()))?;
        match fs::remove_file(&known.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(disk(&error)),
            _ => {}
        }
        self.lock().remove(name);
        let mut batch = Batch::new();
        let key = name.to_owned();
        let forgotten = batch.delete(FILES, &key);
        forgotten.map_err(|e| ModelError::Store(e.to_string()))?;
        self.context.store.commit(batch).await.map_err(|e| ModelError::Store(e.to_string()))?;
        self.announce().await;
        Ok(())
    }

    /// Where a download named `stem` collects, to be gone on with after a cut: beside the models, so that taking it in
    /// is a rename.
    pub(super) fn part(&self, stem: &str) -> Result<Part, ModelError> {
        Part::take(&self.context.models, &name::clean(stem))
    }

    /// The same for what can't be gone on with; nothing is there yet.
    pub(super) fn scrap(&self) -> Scrap {
        Scrap(self.context.models.join(format!(".{}.part", self.context.env.id())))
    }

    /// Whether the file is still the one that was hashed.
    pub(super) fn is_same(&self, known: &Shelved) -> bool {
        stamp(&known.path).is_ok_and(|stamp| stamp == known.stamp)
    }

    /// Sets bytes of the disk aside.
    pub(super) fn promise(&self, bytes: u64) -> Result<(), ModelError> {
        let mut promised = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        let free = self.free_bytes()?.saturating_sub(*promised);
        if bytes > free {
            let mib = |bytes: u64| bytes >> 20;
            return Err(ModelError::NoRoom(format!(
                "{} MiB or more are to be written, the models' disk has room for {}: free some space, or choose a \
                 smaller model",
                mib(bytes),
                mib(free)
            )));
        }
        *promised += bytes;
        Ok(())
    }

    /// Bytes that were set aside were written, or aren't needed.
    pub(super) fn release(&self, bytes: u64) {
        let mut promised = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        *promised = promised.saturating_sub(bytes);
    }

    /// Bytes that may still be written to the models' disk.
    pub(super) fn free_bytes(&self) -> Result<u64, ModelError> {
        let stat = rustix::fs::statvfs(&self.context.models).map_err(|e| disk(&e.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize).saturating_sub(DISK_RESERVE_BYTES))
    }

    /// Tells this node's card what lies here.
    async fn announce(&self) {
        let card = |known: &Shelved| CardModel {
            name: known.model.name.clone(),
            digest: known.model.digest.clone(),
            bytes: known.model.bytes,
            layers: known.model.layers,
        };
        let models: Vec<CardModel> = self.lock().values().map(card).collect();
        let told = node::Message::Models(skep_runtime::Wire(models));
        // A node without a NodeActor has no card.
        let _ = self.context.directory.here::<node::Message>(node::NAME).tell(told).await;
    }

    async fn open(&self, path: &Path, stamp: Stamp) -> Result<Shelved, ModelError> {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        let card = self.card(path).await?;
        let known = self.context.store.get(FILES, &stem).map_err(|e| ModelError::Store(e.to_string()))?;
        let record = match known.filter(|record| record.stamp == stamp) {
            Some(record) => record,
            None => {
                let digest = digest::of_file(&self.context.tasks, path).await.map_err(|e| disk(&e))?;
                let source = path.display().to_string();
                let record = Record { stamp, digest, source, added_ms: self.context.env.now_ms() };
                self.remember(&stem, &record).await?;
                record
            }
        };
        Ok(shelved(&stem, path.to_owned(), Arc::new(card), record))
    }

    /// The card of the GGUF file at `path`, if it is one that the engine takes.
    pub(super) async fn card(&self, path: &Path) -> Result<Card, ModelError> {
        let path = path.to_owned();
        let work =
            self.context.tasks.compute(move || skep_engine::Model::open(&path).map(|model| model.card().clone()));
        let opened = work.await.map_err(|e| ModelError::BadFile(e.to_string()))?;
        opened.map_err(|e| ModelError::BadFile(e.to_string()))
    }

    async fn remember(&self, name: &str, record: &Record) -> Result<(), ModelError> {
        let mut batch = Batch::new();
        batch.put(FILES, &name.to_owned(), record).map_err(|e| ModelError::Store(e.to_string()))?;
        self.context.store.commit(batch).await.map_err(|e| ModelError::Store(e.to_string()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.context.models.join(format!("{name}.gguf"))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Shelved>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shelved(name: &str, path: PathBuf, card: Arc<Card>, record: Record) -> Shelved {
    let model = Model {
        name: name.to_owned(),
        digest: record.digest,
        bytes: record.stamp.bytes,
        architecture: card.architecture.clone(),
        quantization: card.quantisation.clone(),
        layers: card.layers,
        hidden: card.hidden,
        context: card.context_tokens,
        vocabulary: card.vocabulary,
        source: record.source,
        added_ms: record.added_ms,
    };
    Shelved { model, card, path, stamp: record.stamp }
}

/// The GGUF files of a folder, in order.
fn files(folder: &Path) -> io::Result<Vec<(PathBuf, Stamp)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)?.take(FILES_MAX) {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        let gguf = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"));
        if gguf && !hidden && path.is_file() {
            let stamp = stamp(&path)?;
            found.push((path, stamp));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let data = fs::metadata(path)?;
    let changed = data.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Stamp { bytes: data.len(), changed_ns: changed.as_nanos() as u64 })
}

/// Flushes the file and gives it its name: after a power cut it is there wholly or not at all.
fn shelve(part: &Path, path: &Path) -> io::Result<Stamp> {
    fs::File::open(part)?.sync_all()?;
    fs::rename(part, path)?;
    if let Some(folder) = path.parent() {
        fs::File::open(folder)?.sync_all()?;
    }
    stamp(path)
}

pub(super) fn disk(error: &io::Error) -> ModelError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ModelError::NoRoom("the disk is full: free some space, or choose a smaller model".into())
        }
        _ => ModelError::Store(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Swarm;
    use skep_engine::synthetic::{Options, tiny_llama};

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_not_the_published_one_is_not_taken_in() {
        let swarm = Swarm::new(1).await;
        let shelf = Shelf::new(swarm.context(0).clone());
        let scrap = shelf.scrap();
        let part = scrap.0.clone();
        tiny_llama(&part, 1, &Options::default()).unwrap();
        let refused = shelf.put(&part, "tiny.gguf", "hf:a/b/tiny.gguf", Some(&"0".repeat(64))).await;
        assert!(matches!(&refused, Err(ModelError::Fetch(reason)) if reason.contains("checksum")), "{refused:?}");
        let digest = digest::of_file(&swarm.context(0).tasks, &part).await.unwrap();
        let taken = shelf.put(&part, "tiny.gguf", "hf:a/b/tiny.gguf", Some(&digest)).await.unwrap();
        assert_eq!((taken.name.as_str(), taken.digest), ("tiny", digest));
    }

    #[tokio::test(start_paused = true)]
    async fn the_default_model_is_known_by_its_digest_wherever_it_came_from() {
        let swarm = Swarm::new(1).await;
        let context = swarm.context(0);
        tiny_llama(context.models.join("mine.gguf"), 1, &Options::default()).unwrap();
        Shelf::new(context.clone()).look().await;
        let key = "mine".to_owned();
        let mut record = context.store.get(FILES, &key).unwrap().unwrap();
        record.digest = crate::defaults::MODEL_SHA256.into();
        let shelf = Shelf::new(context.clone());
        shelf.remember(&key, &record).await.unwrap();
        let pulls = crate::model::pull::Pulls::new(context.clone(), shelf);
        let pulled = pulls.finish(crate::defaults::MODEL.parse().unwrap()).await.unwrap();
        assert_eq!(pulled.name, "mine", "nothing was fetched");
    }

    #[tokio::test(start_paused = true)]
    async fn a_digest_is_remembered_until_the_file_changes() {
        let swarm = Swarm::new(1).await;
        let context = swarm.context(0);
        let path = context.models.join("tiny.gguf");
        tiny_llama(&path, 1, &Options::default()).unwrap();
        let first = Shelf::new(context.clone()).seek(|_| true).await.unwrap().model;
        // A record that says otherwise is believed as long as the file is the one it was made of.
        let key = "tiny".to_owned();
        let mut record = context.store.get(FILES, &key).unwrap().unwrap();
        record.digest = "remembered".into();
        let shelf = Shelf::new(context.clone());
        shelf.remember(&key, &record).await.unwrap();
        assert_eq!(shelf.seek(|_| true).await.unwrap().model.digest, "remembered");
        tiny_llama(&path, 2, &Options { layers: 5, ..Options::default() }).unwrap();
        let changed = Shelf::new(context.clone()).seek(|_| true).await.unwrap().model;
        assert!(changed.digest != first.digest && changed.digest != "remembered" && changed.layers == 5);
    }
}
