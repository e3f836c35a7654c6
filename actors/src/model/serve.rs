//! Finds the pipeline that serves a model, anywhere, or starts one where the file lies.
//!
//! ```text
//! name or source -> a pipeline on someone's card? use it
//!                -> the file here?      plan, load the stages, chain them, start the pipeline here
//!                -> the file elsewhere? ask that node, by digest, so that the question never comes back
//!                -> a public source?    pull it, then as if it were here
//! ```

use super::{
    NAME,
    messages::{LoadShard, Loaded, Message, ModelError, Plan, Room, Serve, Served},
    planner::{self, Candidate, Job},
    pull::Pulls,
    room,
    shards::Shards,
    shelf::{Shelf, Shelved},
    source::Source,
};
use crate::{
    Context, defaults,
    flight::Flights,
    node::{self, Card, messages::CardPipeline},
    pipeline::{self, Lexicon},
};
use futures::future::{BoxFuture, join_all, try_join_all};
use ractor::{ActorCell, ActorId};
use skep_runtime::{
    Error, NodeId, Wire,
    defaults::{ASK_TIMEOUT_MAX, MESSAGE_BYTES_MAX},
    member::State,
    wire,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::Semaphore, time::sleep};
use uuid::Uuid;

/// What [`defaults::MODEL`] is called once it lies somewhere: its file is `SmolLM2-135M-Instruct.Q4_1.gguf`.
pub const MODEL_NAME: &str = "smollm2-135m-instruct";
/// Bytes of cache that a pipeline sets aside over all its stages, if that holds a useful context: a few chats at once.
const CACHE_BYTES: u64 = 1 << 30;
/// Tokens of context that it sets aside at least: a conversation.
const CACHE_TOKENS_MIN: u64 = 2048;
/// Contexts of full length that it sets aside at most.
const CACHE_CONTEXTS_MAX: u64 = 4;
/// How often a node is asked again whether it has loaded its stage: each question waits for minutes, and a file of
/// 100 GB takes a quarter of an hour over 1 GbE.
const LOAD_ASKS_MAX: u32 = 12;
/// How often a pipeline is placed and put together, with a pause between: two of its nodes may have heard of each other a
/// moment ago, or a link is just being replaced by another. After some seconds it is more than a moment.
const START_TRIES_MAX: u32 = 5;
const START_PAUSE: Duration = Duration::from_secs(1);
/// How often a stage of a pipeline that did not come to be is told to go, and the pause between: its node may be away
/// for a moment. One that never hears of it ends when it has waited long enough.
const UNLOAD_TRIES_MAX: u32 = 5;
const UNLOAD_PAUSE: Duration = Duration::from_secs(2);

/// What serving takes. Cheap to clone.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) context: Context,
    pub(super) shelf: Shelf,
    pub(super) pulls: Pulls,
    pub(super) shards: Shards,
    /// The ModelsActor: shards and pipelines end with it.
    pub(super) me: ActorCell,
    /// Places of questions that are worked on.
    pub(super) places: Arc<Semaphore>,
    /// By digest, or by source where it isn't known yet: what a model is called differs.
    flights: Flights<(String, Option<u16>), Result<Served, ModelError>>,
    pipelines: Arc<Mutex<BTreeMap<ActorId, Served>>>,
}

impl Desk {
    pub(super) fn new(context: Context, me: ActorCell, places: Arc<Semaphore>) -> Desk {
        let shelf = Shelf::new(context.clone());
        let pulls = Pulls::new(context.clone(), shelf.clone());
        Desk {
            context,
            shelf,
            pulls,
            shards: Shards::default(),
            me,
            places,
            flights: Flights::default(),
            pipelines: Arc::default(),
        }
    }

    /// The pipeline for `wanted`; those who ask at the same time get the same one.
    pub(super) async fn serve(&self, wanted: Serve) -> Result<Served, ModelError> {
        self.found(self.resolve(&wanted).await?, wanted.stages).await
    }

    /// The same for a file that lies here.
    pub(super) async fn serve_digest(&self, digest: String, stages: Option<u16>) -> Result<Served, ModelError> {
        self.found(self.here(&digest).await?, stages).await
    }

    /// How a model would be split now. Pulls nothing.
    pub(super) async fn plan(&self, wanted: Serve) -> Result<Plan, ModelError> {
        match self.resolve(&wanted).await? {
            Found::Here(file) => Ok(self.planned(&file, wanted.stages).await?.0),
            Found::There(node, digest) => {
                let models = self.context.directory.at::<Message>(node, NAME);
                let wanted = Wire((digest, wanted.stages));
                models.ask(2 * defaults::GATHER_TIMEOUT, |reply| Message::PlanDigest(wanted, reply)).await?
            }
            Found::Nowhere(source) => Err(ModelError::NoSuchModel(source.to_string())),
        }
    }

    /// The same for a file that lies here.
    pub(super) async fn plan_digest(&self, digest: String, stages: Option<u16>) -> Result<Plan, ModelError> {
        match self.here(&digest).await? {
            Found::Here(file) => Ok(self.planned(&file, stages).await?.0),
            _ => Err(ModelError::NoSuchModel(digest)),
        }
    }

    async fn here(&self, digest: &str) -> Result<Found, ModelError> {
        let here = self.shelf.seek(|model| model.digest == digest).await;
        here.map(Found::Here).ok_or_else(|| ModelError::NoSuchModel(digest.chars().take(64).collect()))
    }

    /// The pipeline for a file that was found. Boxed, since after a pull it is found again.
    fn found(&self, found: Found, stages: Option<u16>) -> BoxFuture<'_, Result<Served, ModelError>> {
        let key = match &found {
            Found::Here(file) => file.model.digest.clone(),
            Found::There(_, digest) => digest.clone(),
            Found::Nowhere(source) => source.to_string(),
        };
        let desk = self.clone();
        Box::pin(self.flights.join((key, stages), async move { desk.find_or_start(found, stages).await }))
    }

    /// An actor has ended; if it was a pipeline, the card changes.
    pub(super) async fn ended(&self, actor: ActorId) {
        self.shards.ended(actor);
        if self.pipelines().remove(&actor).is_some() {
            self.announce().await;
        }
    }

    async fn find_or_start(&self, found: Found, stages: Option<u16>) -> Result<Served, ModelError> {
        let (name, digest) = match &found {
            Found::Here(file) => (file.model.name.clone(), Some(file.model.digest.clone())),
            Found::There(node, digest) => (self.called(*node, digest).unwrap_or_default(), Some(digest.clone())),
            Found::Nowhere(source) if source.to_string() == defaults::MODEL => (MODEL_NAME.to_owned(), None),
            Found::Nowhere(source) => (source.to_string(), None),
        };
        if let Some(served) = self.running(&name, digest.as_deref(), stages).await {
            return Ok(served);
        }
        match found {
            Found::Here(file) => self.start(&file, stages).await,
            Found::There(node, digest) => {
                let models = self.context.directory.at::<Message>(node, NAME);
                let ask = || Wire((digest.clone(), stages));
                patiently(|| models.ask(ASK_TIMEOUT_MAX, |reply| Message::ServeDigest(ask(), reply))).await
            }
            Found::Nowhere(source) => {
                let model = self.pulls.finish(source).await?;
                let here = self.shelf.find(|known| known.digest == model.digest);
                let here = Found::Here(here.ok_or(ModelError::NoSuchModel(model.name))?);
                // By its digest now: someone may have asked for the same weights by another name.
                self.found(here, stages).await
            }
        }
    }

    /// Where the file of a model is.
    async fn resolve(&self, wanted: &Serve) -> Result<Found, ModelError> {
        let text = wanted.model.as_deref().unwrap_or(defaults::MODEL);
        let name = if text == defaults::MODEL { MODEL_NAME } else { text };
        if let Some(file) = self.shelf.seek(|model| model.name == name || model.source == text).await {
            return Ok(Found::Here(file));
        }
        let elsewhere = self.cards().into_iter().find_map(|(node, card)| {
            card.models.into_iter().find(|model| model.name == name).map(|model| (node, model.digest))
        });
        if let Some((node, digest)) = elsewhere {
            return Ok(Found::There(node, digest));
        }
        // What only this machine reaches is pulled when its owner says so, never served straight.
        match text.parse::<Source>() {
            Ok(source) if !source.is_private() => Ok(Found::Nowhere(source)),
            _ => Err(ModelError::NoSuchModel(text.chars().take(120).collect())),
        }
    }

    /// Other nodes that are up, the idlest first, with their cards.
    fn cards(&self) -> Vec<(NodeId, Card)> {
        let me = self.context.directory.id();
        let mut others: Vec<_> =
            self.context.members.up().into_iter().filter(|m| m.id != me && !m.load.draining).collect();
        others.sort_by_key(|member| (member.load.cpu_permille, member.id));
        others
            .into_iter()
            .filter_map(|m| Some((m.id, wire::decode::<Card>(&m.card, MESSAGE_BYTES_MAX).ok()?)))
            .collect()
    }

    /// What a node calls the model with this digest.
    fn called(&self, node: NodeId, digest: &str) -> Option<String> {
        let card = self.cards().into_iter().find(|(id, _)| *id == node)?.1;
        card.models.into_iter().find(|model| model.digest == digest).map(|model| model.name)
    }

    /// A pipeline that serves this model now and answers.
    async fn running(&self, name: &str, digest: Option<&str>, stages: Option<u16>) -> Option<Served> {
        let me = self.context.directory.id();
        let own = self
            .pipelines()
            .values()
            .map(|served| (me, served.actor.clone(), served.model.clone(), served.plan.stages.len() as u16))
            .collect::<Vec<_>>();
        let others = self.cards().into_iter().flat_map(|(node, card)| {
            card.pipelines.into_iter().map(move |pipeline| (node, pipeline.actor, pipeline.model, pipeline.stages))
        });
        for (node, actor, model, split) in own.into_iter().chain(others) {
            if model != name || stages.is_some_and(|wanted| wanted != split) {
                continue;
            }
            // Cards are seconds old: only its own answer counts.
            let pipeline = self.context.directory.at::<pipeline::Message>(node, actor);
            match pipeline.ask(defaults::GATHER_TIMEOUT, pipeline::Message::Describe).await {
                Ok(served) if digest.is_none_or(|digest| digest == served.plan.digest) => return Some(served),
                _ => {}
            }
        }
        None
    }

    async fn planned(&self, file: &Shelved, stages: Option<u16>) -> Result<(Plan, u64), ModelError> {
        let cache_tokens = cache_tokens(&file.card);
        let home = self.context.directory.id();
        let (candidates, file) = (self.candidates(&file.model.digest).await, file.clone());
        // Deep models over many nodes take a while.
        let planned = self.context.tasks.compute(move || {
            let (model, digest) = (&file.model.name, &file.model.digest);
            planner::plan(&Job { model, digest, card: &file.card, cache_tokens, stages, home }, &candidates)
        });
        Ok((planned.await.map_err(|e| ModelError::Start(e.to_string()))??, cache_tokens))
    }

    /// The nodes that would take a stage, each asked for its room; who doesn't answer in time is left out.
    async fn candidates(&self, digest: &str) -> Vec<Candidate> {
        let me = self.context.directory.id();
        let own = room::room(&self.context, &self.shelf, &self.shards, digest);
        let picture = self.context.members.now();
        let draining = picture.get(&me).is_some_and(|member| member.load.draining);
        let others = picture.values().filter(|m| m.id != me && m.state == State::Up && !m.load.draining);
        let asked = others.map(|member| {
            let models = self.context.directory.at::<Message>(member.id, NAME);
            let digest = digest.to_owned();
            let node = member.id;
            async move {
                let room = models.ask(defaults::GATHER_TIMEOUT, |reply| Message::Room(Wire(digest), reply)).await;
                room.ok().map(|room| (node, room))
            }
        });
        let found = join_all(asked).await.into_iter().flatten();
        let candidate = |(node, room): (NodeId, Room)| Candidate {
            node,
            memory_bytes: room.memory_bytes,
            bytes_per_second: room.bytes_per_second,
            has_file: room.has_file,
        };
        (!draining).then_some((me, own)).into_iter().chain(found).map(candidate).collect()
    }

    /// Places the model and puts its pipeline together; one that a lost stage stopped is placed anew.
    async fn start(&self, file: &Shelved, stages: Option<u16>) -> Result<Served, ModelError> {
        for _ in 1..START_TRIES_MAX {
            match self.try_start(file, stages).await {
                Err(ModelError::Start(reason)) => {
                    tracing::info!(model = file.model.name, %reason, "a pipeline did not come to be; it is placed anew");
                    sleep(START_PAUSE).await;
                }
                done => return done,
            }
        }
        self.try_start(file, stages).await
    }

    async fn try_start(&self, file: &Shelved, stages: Option<u16>) -> Result<Served, ModelError> {
        let (plan, cache_tokens) = self.planned(file, stages).await?;
        let shards: Vec<(NodeId, Uuid)> = plan.stages.iter().map(|stage| (stage.node, self.context.env.id())).collect();
        let started = self.assemble(file, &plan, cache_tokens, &shards).await;
        if started.is_err() {
            // Those that were loaded, or will be, must not wait for a chain that never comes.
            for (node, id) in shards {
                let models = self.context.directory.at::<Message>(node, NAME);
                self.context.tasks.spawn(async move {
                    for _ in 0..UNLOAD_TRIES_MAX {
                        let told = models.ask(defaults::GATHER_TIMEOUT, |reply| Message::Unload(Wire(id), reply)).await;
                        if told.is_ok() {
                            return;
                        }
                        sleep(UNLOAD_PAUSE).await;
                    }
                });
            }
        }
        started
    }

    async fn assemble(
        &self,
        file: &Shelved,
        plan: &Plan,
        cache_tokens: u64,
        shards: &[(NodeId, Uuid)],
    ) -> Result<Served, ModelError> {
        let me = self.context.directory.id();
        let loads = plan.stages.iter().zip(shards).map(|(stage, (node, id))| {
            let request = LoadShard {
                id: *id,
                model: plan.model.clone(),
                digest: plan.digest.clone(),
                source: me,
                from: stage.from,
                to: stage.to,
                cache_tokens,
                pipeline: me,
            };
            let models = self.context.directory.at::<Message>(*node, NAME);
            async move {
                patiently(|| models.ask(ASK_TIMEOUT_MAX, |reply| Message::Load(Wire(request.clone()), reply))).await
            }
        });
        // The first that fails is the answer: nobody waits for another's hundred gigabytes then.
        let loaded: Vec<Loaded> = try_join_all(loads).await?;
        let path = file.path.clone();
        let lexicon = self.context.tasks.compute(move || Lexicon::open(&path)).await;
        let lexicon =
            lexicon.map_err(|e| ModelError::BadFile(e.to_string()))?.map_err(|e| ModelError::BadFile(e.to_string()))?;
        let stages = shards.iter().zip(loaded).map(|((node, _), loaded)| (*node, loaded.actor)).collect();
        let chain = pipeline::attach(&self.context, stages).await.map_err(|e| ModelError::Start(e.to_string()))?;
        let id = self.context.env.id();
        let served = Served { model: plan.model.clone(), node: me, actor: pipeline::name(id), plan: plan.clone() };
        let arguments = pipeline::Arguments {
            context: self.context.clone(),
            id,
            served: served.clone(),
            lexicon: Arc::new(lexicon),
            chain,
            context_tokens: u64::from(file.card.context_tokens).min(cache_tokens) as u32,
            cache_tokens,
        };
        let cell = pipeline::start(arguments, self.me.clone()).await.map_err(|e| ModelError::Start(e.to_string()))?;
        self.pipelines().insert(cell.get_id(), served.clone());
        self.announce().await;
        Ok(served)
    }

    async fn announce(&self) {
        let card = |served: &Served| CardPipeline {
            model: served.model.clone(),
            actor: served.actor.clone(),
            stages: served.plan.stages.len() as u16,
        };
        let pipelines: Vec<CardPipeline> = self.pipelines().values().map(card).collect();
        // A node without a NodeActor has no card.
        let _ = self
            .context
            .directory
            .here::<node::Message>(node::NAME)
            .tell(node::Message::Pipelines(Wire(pipelines)))
            .await;
    }

    fn pipelines(&self) -> std::sync::MutexGuard<'_, BTreeMap<ActorId, Served>> {
        self.pipelines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a model is.
enum Found {
    Here(Shelved),
    /// Another node, and the digest there.
    There(NodeId, String),
    /// It can be fetched.
    Nowhere(Source),
}

/// Tokens of context to set memory aside for.
fn cache_tokens(card: &skep_engine::Card) -> u64 {
    let context = u64::from(card.context_tokens);
    let affordable = CACHE_BYTES / card.cache_bytes_per_token(0..card.layers).max(1);
    affordable.max(CACHE_TOKENS_MIN.min(context)).min(CACHE_CONTEXTS_MAX * context)
}

/// Asks again as long as the other node works on it: what is asked is one piece of work however often it is asked.
async fn patiently<T, F>(mut ask: impl FnMut() -> F) -> Result<T, ModelError>
where
    F: Future<Output = Result<Result<T, ModelError>, Error>>,
{
    for _ in 1..LOAD_ASKS_MAX {
        match ask().await {
            Err(Error::Timeout) => sleep(Duration::from_millis(100)).await,
            answer => return answer?,
        }
    }
    ask().await?
}
