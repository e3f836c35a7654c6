//! The shards that live on this node: loaded once a request, bounded by memory, freed when their actor ends.

use super::{
    messages::{LoadShard, Loaded, Model, ModelError},
    planner,
    room::{self, SPEEDS},
    shelf::{Shelf, Shelved},
    transfer,
};
use crate::{
    Context,
    flight::Flights,
    shard::{self, Arguments},
};
use ractor::{ActorCell, ActorId};
use skep_engine::{Shard, Workload, measure};
use skep_runtime::store::Batch;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::time::Instant;
use uuid::Uuid;

/// Shards on one node: each is a model's part, and none is small.
const SHARDS_MAX: usize = 64;
/// Shards that were given up and are remembered, lest one that is still fetching its file is loaded after all.
const GIVEN_UP_MAX: usize = 256;
/// A measurement of decoding alone: what plans are made of. A second for 10 GB of weights on a desktop.
const MEASURED: Workload = Workload { prefill_rows: 1, decode_tokens: 7 };

/// A node's shards. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Shards {
    flights: Flights<Uuid, Result<Loaded, ModelError>>,
    /// By digest: two shards of one model fetch its file once.
    receiving: Flights<String, Result<Model, ModelError>>,
    given_up: Arc<Mutex<VecDeque<Uuid>>>,
    entries: Arc<Mutex<BTreeMap<Uuid, Entry>>>,
}

struct Entry {
    digest: String,
    /// Bytes of memory promised to it, and those of them that it holds for certain.
    bytes: u64,
    resident_bytes: u64,
    /// Its actor, once it is loaded.
    ready: Option<(ActorCell, Loaded)>,
}

/// Memory that all shards together may take, and what they have taken of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Promised {
    pub(super) bytes: u64,
    pub(super) resident_bytes: u64,
}

impl Shards {
    /// Loads a shard under `supervisor`; the same request again gives the same shard.
    pub(super) async fn load(
        &self,
        context: &Context,
        shelf: &Shelf,
        supervisor: ActorCell,
        request: LoadShard,
    ) -> Result<Loaded, ModelError> {
        if let Some(loaded) =
            self.lock().get(&request.id).and_then(|entry| entry.ready.as_ref().map(|(_, l)| l.clone()))
        {
            return Ok(loaded);
        }
        let (this, context, shelf) = (self.clone(), context.clone(), shelf.clone());
        self.flights
            .join(request.id, async move {
                let loaded = Box::pin(this.run(&context, &shelf, supervisor, &request)).await;
                if loaded.is_err() {
                    this.lock().remove(&request.id);
                }
                loaded
            })
            .await
    }

    /// Ends a shard, also one that is being loaded.
    pub(super) fn unload(&self, id: Uuid) {
        {
            let mut given_up = self.given_up.lock().unwrap_or_else(PoisonError::into_inner);
            given_up.push_back(id);
            if given_up.len() > GIVEN_UP_MAX {
                given_up.pop_front();
            }
        }
        if let Some((cell, _)) = self.lock().remove(&id).and_then(|entry| entry.ready) {
            cell.stop(Some("its pipeline ended".into()));
        }
    }

    /// An actor has ended: its memory is free.
    pub(super) fn ended(&self, actor: ActorId) {
        self.lock().retain(|_, entry| entry.ready.as_ref().is_none_or(|(cell, _)| cell.get_id() != actor));
    }

    /// Whether layers of the model with this digest are loaded, or are about to be.
    pub(super) fn uses(&self, digest: &str) -> bool {
        self.lock().values().any(|entry| entry.digest == digest)
    }

    /// Memory promised to all of them.
    pub(super) fn promised(&self) -> Promised {
        promised(&self.lock())
    }

    async fn run(
        &self,
        context: &Context,
        shelf: &Shelf,
        supervisor: ActorCell,
        request: &LoadShard,
    ) -> Result<Loaded, ModelError> {
        let file = match shelf.seek(|model| model.digest == request.digest).await {
            Some(file) => file,
            None => {
                self.receive(context, shelf, request).await?;
                let here = shelf.find(|model| model.digest == request.digest);
                here.ok_or_else(|| ModelError::NoSuchModel(request.model.clone()))?
            }
        };
        self.promise(context, &file, request)?;
        if !shelf.is_same(&file) {
            return Err(changed(&file));
        }
        let (path, layers) = (file.path.clone(), request.from..request.to);
        let loading = context.tasks.compute(move || Shard::load(path, layers).map(Arc::new)).await;
        let shard =
            loading.map_err(|e| ModelError::BadFile(e.to_string()))?.map_err(|e| ModelError::BadFile(e.to_string()))?;
        if shard.card().id != file.card.id {
            return Err(changed(&file));
        }
        measured(context, &request.digest, &shard).await;
        let memory = shard.memory();
        let arguments = Arguments {
            context: context.clone(),
            id: request.id,
            shard,
            cache_tokens: request.cache_tokens,
            pipeline: request.pipeline,
        };
        let cell = shard::start(arguments, supervisor).await.map_err(|e| ModelError::Start(e.to_string()))?;
        let loaded = Loaded {
            actor: shard::name(request.id),
            weight_bytes: memory.weight_bytes,
            cache_bytes_per_token: memory.cache_bytes_per_token,
        };
        match self.lock().get_mut(&request.id) {
            Some(entry) => {
                entry.ready = Some((cell, loaded.clone()));
                // A simulated machine's free memory doesn't shrink by what is loaded.
                entry.resident_bytes = if context.env.simulated() { 0 } else { memory.weight_bytes.min(entry.bytes) };
            }
            None => {
                cell.stop(Some("it was unloaded while it was loaded".into()));
                return Err(ModelError::Start("its pipeline gave it up".into()));
            }
        }
        Ok(loaded)
    }

    /// Fetches the file of a shard from another node, once for all shards of it.
    async fn receive(&self, context: &Context, shelf: &Shelf, request: &LoadShard) -> Result<Model, ModelError> {
        let (context, shelf) = (context.clone(), shelf.clone());
        let (digest, name, source) = (request.digest.clone(), request.model.clone(), request.source);
        let receiving = async move { transfer::receive(&context, &shelf, &digest, &name, source).await };
        self.receiving.join(request.digest.clone(), receiving).await
    }

    /// Sets the shard's memory aside, so that two loads at once don't share the same bytes.
    fn promise(&self, context: &Context, file: &Shelved, request: &LoadShard) -> Result<(), ModelError> {
        let bytes = planner::memory_bytes(&file.card, request.from..request.to, request.cache_tokens);
        let memory = room::memory(context);
        let mut entries = self.lock();
        if self.given_up.lock().unwrap_or_else(PoisonError::into_inner).contains(&request.id) {
            return Err(ModelError::Start("its pipeline gave it up".into()));
        }
        let free = room::left(memory, promised(&entries));
        if bytes > free {
            let mib = |bytes: u64| bytes >> 20;
            return Err(ModelError::NoRoom(format!(
                "the shard needs {} MiB of memory, {} are free",
                mib(bytes),
                mib(free)
            )));
        }
        if entries.len() >= SHARDS_MAX {
            return Err(ModelError::NoRoom(format!("{SHARDS_MAX} shards live on this node already")));
        }
        entries.insert(request.id, Entry { digest: request.digest.clone(), bytes, resident_bytes: 0, ready: None });
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Uuid, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn promised(entries: &BTreeMap<Uuid, Entry>) -> Promised {
    let sum = |part: fn(&Entry) -> u64| entries.values().map(part).sum();
    Promised { bytes: sum(|entry| entry.bytes), resident_bytes: sum(|entry| entry.resident_bytes) }
}

fn changed(file: &Shelved) -> ModelError {
    ModelError::BadFile(format!("{} has changed since it was looked at: ask again", file.path.display()))
}

/// Measures this node with this model, once. A failure costs only the figure: plans then assume one.
async fn measured(context: &Context, digest: &str, shard: &Arc<Shard>) {
    let key = digest.to_owned();
    if context.env.simulated() || matches!(context.store.get(SPEEDS, &key), Ok(Some(_))) {
        return;
    }
    let (own, start) = (shard.clone(), Instant::now());
    let Ok(Ok(speed)) = context.tasks.compute(move || measure(&own, MEASURED, &|| start.elapsed())).await else {
        return;
    };
    let bytes_per_second = speed.decode_tokens_per_s * planner::read_bytes(shard.card(), shard.layers()) as f64;
    let mut batch = Batch::new();
    if bytes_per_second > 0.0
        && batch.put(SPEEDS, &key, &bytes_per_second).is_ok()
        && let Err(error) = context.store.commit(batch).await
    {
        tracing::warn!(%error, "the measured speed could not be kept");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Swarm;
    use skep_engine::synthetic::{Options, tiny_llama};

    #[tokio::test(start_paused = true)]
    async fn a_shard_that_was_given_up_before_its_file_came_is_not_loaded() {
        let swarm = Swarm::new(1).await;
        let context = swarm.context(0);
        tiny_llama(context.models.join("tiny.gguf"), 1, &Options::default()).unwrap();
        let (shelf, shards) = (Shelf::new(context.clone()), Shards::default());
        let digest = shelf.seek(|_| true).await.unwrap().model.digest;
        let id = Uuid::from_u128(1);
        let request = LoadShard {
            id,
            model: "tiny".into(),
            digest,
            source: swarm.id(0),
            from: 0,
            to: 1,
            cache_tokens: 16,
            pipeline: swarm.id(0),
        };
        shards.unload(id);
        let loaded = Box::pin(shards.load(context, &shelf, swarm.root(0), request)).await;
        assert!(matches!(loaded, Err(ModelError::Start(_))), "{loaded:?}");
    }
}
