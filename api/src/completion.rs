//! One generation on behalf of an HTTP caller: find who serves the model, set the tokens aside, pass the text on,
//! and have what it really cost written down.
//!
//! ```text
//! Serve -> Count -> Reserve -> Generate -> Text, Text, ... End -> Settle
//!                      `-> refused before a token is burnt            (also when the caller goes away)
//! ```
//!
//! Not here: where a model is placed (`model`), what a thread may spend (`budget`), the wire's shapes (the areas).

use crate::{
    Problem, Reply,
    events::{Frames, await_from},
    limits::{CHUNKS_MAX, SERVE_TIMEOUT},
};
use futures::{StreamExt, stream, stream::BoxStream};
use skep_actors::{
    Context,
    budget::{self, BudgetError, Reservation, Spent},
    defaults::THREAD_TOKENS,
    model::{
        self,
        messages::{Serve, Served},
    },
    pipeline::{self, Chunk, Generate, GenerateError, Sampling, Turn, messages::Accepted},
    runtime::{Handle, NodeId, Wire, defaults::ASK_TIMEOUT},
};
use tokio::{sync::mpsc, time::Instant};
use uuid::Uuid;

/// The budget of the thread that calls without one share: as good as none, but every token is counted.
const UNBOUNDED_TOKENS: u64 = 1 << 60;

/// What is wanted.
pub(crate) struct Wanted {
    /// The model's name; `None` is the node's default.
    pub(crate) model: Option<String>,
    pub(crate) turns: Vec<Turn>,
    pub(crate) max_tokens: u32,
    pub(crate) sampling: Sampling,
    pub(crate) stop: Vec<String>,
    /// Whose budget it spends; `None` is the node's own thread.
    pub(crate) thread: Option<Uuid>,
    /// Who is metered.
    pub(crate) agent: &'static str,
}

/// A generation that has begun.
pub(crate) struct Running {
    pub(crate) id: Uuid,
    /// The name of the model that answers.
    pub(crate) model: String,
    pub(crate) prompt_tokens: u64,
    /// The nodes that it runs on, in order.
    pub(crate) nodes: Vec<NodeId>,
    /// Its text; the last is always [`Chunk::End`] or [`Chunk::Failed`]. Dropping it cancels the generation.
    pub(crate) chunks: BoxStream<'static, Chunk>,
}

/// Begins a generation.
pub(crate) async fn begin(context: &Context, wanted: Wanted) -> Reply<Running> {
    let models = context.directory.here::<model::Message>(model::NAME);
    let serve = Serve { model: wanted.model.clone(), stages: None };
    let served = models.ask(SERVE_TIMEOUT, |port| model::Message::Serve(Wire(serve), port)).await??;
    let pipeline = context.directory.at::<pipeline::Message>(served.node, served.actor.clone());
    let turns = wanted.turns.clone();
    let prompt = pipeline.ask(ASK_TIMEOUT, |port| pipeline::Message::Count(Wire(turns), port)).await??;
    let purse = Purse::open(context, &wanted, &served, prompt + u64::from(wanted.max_tokens)).await?;
    match generate(context, &pipeline, wanted).await {
        Ok((accepted, frames)) => Ok(running(context, served, accepted, frames, purse)),
        Err(problem) => {
            purse.release().await;
            Err(problem)
        }
    }
}

async fn generate(
    context: &Context,
    pipeline: &Handle<pipeline::Message>,
    wanted: Wanted,
) -> Reply<(Accepted, Frames<Chunk>)> {
    let stream = await_from(context, pipeline.node())?;
    let Wanted { turns, max_tokens, sampling, stop, .. } = wanted;
    let request = Generate { turns, max_tokens, sampling, stop, to: stream.me, ticket: stream.ticket };
    let accepted = pipeline.ask(ASK_TIMEOUT, |port| pipeline::Message::Generate(Wire(request), port)).await??;
    Ok((accepted, stream.frames().await?))
}

fn running(context: &Context, served: Served, accepted: Accepted, frames: Frames<Chunk>, purse: Purse) -> Running {
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    // A task of the node, not of the connection: what was generated is settled even when the caller went away.
    context.tasks.spawn(pump(frames, sender, purse, accepted.prompt_tokens));
    let chunks = stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
    Running {
        id: accepted.id,
        model: served.model,
        prompt_tokens: accepted.prompt_tokens,
        nodes: served.plan.stages.iter().map(|stage| stage.node).collect(),
        chunks: chunks.boxed(),
    }
}

async fn pump(mut frames: Frames<Chunk>, sender: mpsc::Sender<Chunk>, purse: Purse, prompt_tokens: u64) {
    // Until the end tells the true number: each text is at least a token.
    let (mut prompt, mut completion) = (prompt_tokens, 0);
    loop {
        let frame = tokio::select! {
            frame = frames.next() => frame,
            () = sender.closed() => break,
        };
        let chunk = match frame {
            Some(Ok(chunk)) => chunk,
            Some(Err(e)) => broken(e.to_string(), completion),
            None => broken("the stream ended early".into(), completion),
        };
        match &chunk {
            Chunk::Text(_) => completion += 1,
            Chunk::End { prompt_tokens, completion_tokens, .. } => {
                (prompt, completion) = (*prompt_tokens, *completion_tokens)
            }
            Chunk::Failed { completion_tokens, .. } => completion = *completion_tokens,
        }
        let last = !matches!(chunk, Chunk::Text(_));
        if sender.send(chunk).await.is_err() || last {
            break;
        }
    }
    // Closing the stream is what cancels the generation; it must not wait for the budget's disk.
    drop(frames);
    purse.settle(prompt, completion).await;
}

fn broken(reason: String, completion_tokens: u64) -> Chunk {
    Chunk::Failed { error: GenerateError::Engine(reason), completion_tokens }
}

/// Tokens set aside for one generation.
struct Purse {
    budgets: Handle<budget::Message>,
    reservation: Reservation,
    agent: &'static str,
    model: String,
    since: Instant,
}

impl Purse {
    async fn open(context: &Context, wanted: &Wanted, served: &Served, tokens: u64) -> Reply<Purse> {
        let budgets = context.directory.here::<budget::Message>(budget::NAME);
        let (thread, max) = match wanted.thread {
            Some(thread) => (thread, THREAD_TOKENS),
            None => (own_thread(context.directory.id()), UNBOUNDED_TOKENS),
        };
        let reserve = || budgets.ask(ASK_TIMEOUT, |port| budget::Message::Reserve(Wire((thread, tokens)), port));
        let reservation = match reserve().await? {
            // A thread's budget is made by its first use, as the documented API says.
            Err(BudgetError::NoSuchThread(_)) => {
                let opened = budgets.ask(ASK_TIMEOUT, |port| budget::Message::Open(Wire((thread, max)), port)).await?;
                match opened {
                    Ok(_) | Err(BudgetError::Exists(_)) => reserve().await??,
                    Err(e) => return Err(e.into()),
                }
            }
            reservation => reservation?,
        };
        let since = Instant::now();
        Ok(Purse { budgets, reservation, agent: wanted.agent, model: served.model.clone(), since })
    }

    async fn settle(self, prompt: u64, completion: u64) {
        let latency_ms = self.since.elapsed().as_millis() as u64;
        let spent = Spent { prompt, completion, agent: self.agent.into(), model: self.model, latency_ms };
        let settled = (self.reservation, spent);
        let answer = self.budgets.ask(ASK_TIMEOUT, |port| budget::Message::Settle(Wire(settled), port)).await;
        if let Err(error) = answer.map_err(Problem::from).and_then(|settled| settled.map_err(Problem::from)) {
            tracing::warn!(%error, "a generation could not be settled; its reservation stays until the node restarts");
        }
    }

    async fn release(self) {
        let reservation = self.reservation;
        let answer = self.budgets.ask(ASK_TIMEOUT, |port| budget::Message::Release(Wire(reservation), port)).await;
        if let Err(error) = answer {
            tracing::warn!(%error, "a reservation could not be released; it stays until the node restarts");
        }
    }
}

/// The thread of a node's calls that name none: the same after a restart, and no other node's.
fn own_thread(node: NodeId) -> Uuid {
    let half = node.as_bytes().first_chunk().expect("a key has 32 bytes");
    uuid::Builder::from_random_bytes(*half).into_uuid()
}
