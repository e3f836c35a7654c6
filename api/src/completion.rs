//! One generation on behalf of an HTTP caller: find who serves the model, set the tokens aside, pass the text on,
//! and have what it really cost written down.
//!
//! ```text
//! Serve -> Count -> Purse::open -> Generate -> Text, Text, ... End -> Purse::settle
//!                      `-> refused before a token is burnt                (also when the caller goes away)
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
    budget::{Call, Metered, Purse, Spent},
    model::{
        self,
        messages::{Serve, Served},
    },
    pipeline::{self, Chunk, Generate, GenerateError, Sampling, Turn, messages::Accepted},
    runtime::{Handle, NodeId, Wire, defaults::ASK_TIMEOUT},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use uuid::Uuid;

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

/// Begins a generation. A task of the node's, so that a caller who goes away meanwhile leaves nothing set aside.
pub(crate) async fn begin(context: &Context, wanted: Wanted) -> Reply<Running> {
    let (teller, told) = oneshot::channel();
    let node = context.clone();
    context.tasks.spawn(async move {
        let begun = prepare(&node, wanted, &teller).await;
        // Nobody listens any more: dropping what has begun cancels it, and it is settled.
        let _ = teller.send(begun);
    });
    // Its task ends early only with the node.
    told.await.unwrap_or_else(|_| Err(GenerateError::Ended.into()))
}

async fn prepare(context: &Context, wanted: Wanted, teller: &oneshot::Sender<Reply<Running>>) -> Reply<Running> {
    let models = context.directory.here::<model::Message>(model::NAME);
    let serve = Serve { model: wanted.model.clone(), stages: None };
    let served = models.ask(SERVE_TIMEOUT, |port| model::Message::Serve(Wire(serve), port)).await??;
    let pipeline = context.directory.at::<pipeline::Message>(served.node, served.actor.clone());
    let turns = wanted.turns.clone();
    let prompt = pipeline.ask(ASK_TIMEOUT, |port| pipeline::Message::Count(Wire(turns), port)).await??;
    let room = room(context, &served).await.saturating_sub(prompt);
    if teller.is_closed() {
        return Err(Problem::bad("the caller went away"));
    }
    let completion = u64::from(wanted.max_tokens).min(room);
    let prompt = Metered::prompt_of(prompt, wanted.turns.iter().map(|turn| turn.content.len()).sum());
    let purse = Purse::open(context, wanted.thread, Call::new(&served.model, prompt, completion)).await?;
    let metered = Metered::new(prompt, completion);
    let bill = Bill { purse, agent: wanted.agent, model: served.model.clone(), metered, since: Instant::now() };
    match generate(context, &pipeline, wanted).await {
        Ok((accepted, frames)) => Ok(running(context, served, accepted, frames, bill)),
        Err(problem) => {
            bill.purse.release().await;
            Err(problem)
        }
    }
}

/// Tokens of the longest sequence that the model can have: an answer can't cost more, whatever was asked for.
async fn room(context: &Context, served: &Served) -> u64 {
    let there = context.directory.at::<model::Message>(served.node, model::NAME);
    let name = served.model.clone();
    match there.ask(ASK_TIMEOUT, |port| model::Message::Get(Wire(name), port)).await {
        Ok(Ok(model)) if model.context > 0 => u64::from(model.context),
        // It doesn't say: what was asked for is set aside, which errs on the safe side.
        _ => u64::MAX,
    }
}

async fn generate(
    context: &Context,
    pipeline: &Handle<pipeline::Message>,
    wanted: Wanted,
) -> Reply<(Accepted, Frames<Chunk>)> {
    let stream = await_from(context, pipeline.node())?;
    let Wanted { turns, max_tokens, sampling, stop, thread, .. } = wanted;
    let request = Generate { turns, max_tokens, sampling, stop, to: stream.me, ticket: stream.ticket, thread };
    let accepted = pipeline.ask(ASK_TIMEOUT, |port| pipeline::Message::Generate(Wire(request), port)).await??;
    Ok((accepted, stream.frames().await?))
}

fn running(context: &Context, served: Served, accepted: Accepted, frames: Frames<Chunk>, bill: Bill) -> Running {
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    // A task of the node, not of the connection: what was generated is settled even when the caller went away.
    context.tasks.spawn(pump(frames, sender, bill));
    Running {
        id: accepted.id,
        model: served.model,
        prompt_tokens: accepted.prompt_tokens,
        nodes: served.plan.stages.iter().map(|stage| stage.node).collect(),
        chunks: to_the_end(receiver),
    }
}

/// The chunks that come, and a last one if the node's end cuts them off: no answer that was cut may look whole.
fn to_the_end(receiver: mpsc::Receiver<Chunk>) -> BoxStream<'static, Chunk> {
    let next = |state: Option<mpsc::Receiver<Chunk>>| async move {
        let mut receiver = state?;
        let cut = Chunk::Failed { error: GenerateError::Ended, completion_tokens: 0 };
        let chunk = receiver.recv().await.unwrap_or(cut);
        let more = matches!(chunk, Chunk::Text(_));
        Some((chunk, more.then_some(receiver)))
    };
    stream::unfold(Some(receiver), next).boxed()
}

async fn pump(mut frames: Frames<Chunk>, sender: mpsc::Sender<Chunk>, mut bill: Bill) {
    // Until the end tells the true number: each text is at least a token.
    let mut completion = 0;
    loop {
        let frame = tokio::select! {
            frame = frames.next() => frame,
            () = sender.closed() => break,
        };
        let chunk = match frame {
            Some(Ok(chunk)) => chunk,
            Some(Err(e)) => broken(e.to_string(), bill.metered.pieces),
            None => broken("the stream ended early".into(), bill.metered.pieces),
        };
        match &chunk {
            Chunk::Text(text) => bill.metered.came(text),
            Chunk::End { completion_tokens, .. } | Chunk::Failed { completion_tokens, .. } => {
                completion = *completion_tokens;
            }
        }
        let last = !matches!(chunk, Chunk::Text(_));
        if sender.send(chunk).await.is_err() || last {
            break;
        }
    }
    // Closing the stream is what cancels the generation; it must not wait for the budget's disk.
    drop(frames);
    bill.settle(completion).await;
}

fn broken(reason: String, completion_tokens: u64) -> Chunk {
    Chunk::Failed { error: GenerateError::Engine(reason), completion_tokens }
}

/// What one generation is charged to.
struct Bill {
    purse: Purse,
    agent: &'static str,
    model: String,
    metered: Metered,
    since: Instant,
}

impl Bill {
    /// The server says that the completion has so many tokens.
    async fn settle(self, claimed: u64) {
        let (prompt, completion) = (self.metered.prompt, self.metered.completion(claimed));
        let latency_ms = self.since.elapsed().as_millis() as u64;
        let spent = Spent { prompt, completion, agent: self.agent.into(), model: self.model, latency_ms };
        self.purse.settle(spent).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_that_the_nodes_end_cuts_says_so() {
        let (sender, receiver) = mpsc::channel(1);
        sender.send(Chunk::Text("half".into())).await.unwrap();
        drop(sender);
        let all: Vec<Chunk> = to_the_end(receiver).collect().await;
        assert_eq!(all[1], Chunk::Failed { error: GenerateError::Ended, completion_tokens: 0 });
    }
}
