//! One question to a model, paid for: find who serves it, count, reserve, generate, settle.
//!
//! ```text
//! models: Serve -> pipeline: Count -> budget: Reserve -> pipeline: Generate -> Chunk ... End -> budget: Settle
//! ```
//!
//! Tokens are charged as the server counted them, within what the payer knows (`budget::metered`). When it can't say any more (its node died, the stream broke), the
//! whole reservation is charged: a budget may be spent too early, never twice.

use super::{
    repetition::Repetition,
    strategy::{Failure, Prompt, Room},
};
use crate::{
    Context,
    budget::{self, BudgetError, Call, Metered, Reservation, Spent},
    event::{self, What},
    model::{
        self,
        messages::{Serve, Served},
    },
    pipeline::{Chunk, Generate, GenerateError, Message as Pipeline, Sampling, Turn},
};
use skep_runtime::{Error, Handle, Stream, Wire, bulk::Expected, defaults::ASK_TIMEOUT, frames};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::AsyncWriteExt,
    sync::Mutex,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long a model may take to be there: it may have to be fetched and loaded first.
const SERVE_TIMEOUT: Duration = Duration::from_secs(300);
/// How long counting the tokens of a prompt may take on a node that is busy generating.
const COUNT_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a count is asked for again that found the model busy, with a pause between.
const COUNT_TRIES_MAX: u32 = 5;
/// How long the next piece of text may take: a long prompt on a slow machine, behind others.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(180);
/// How long a generation that was given up may take to say what it cost.
const LAST_WORD_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a question is asked again after the one who served it went away.
const TRIES_MAX: u32 = 3;
/// How often a busy model is asked again, and the first pause; it doubles: about two minutes in all.
const BUSY_TRIES_MAX: u32 = 7;
const BUSY_PAUSE: Duration = Duration::from_secs(1);
/// How long a thread's keeper may be away before its work is given up: it has to be missed, and another to take over.
const KEEPER_PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of an answer: more than the most tokens make.
const TEXT_BYTES_MAX: usize = 256 << 10;
/// Tokens of the most that an answer may have, if the context has room for it.
const ANSWER_TOKENS_MAX: u64 = 512;
/// Tokens that instructions and the chat's own marks take at most.
const INSTRUCTION_TOKENS: u64 = 256;
/// Bytes of a document that are counted to see how many bytes this text has to a token.
const SAMPLE_BYTES: usize = 2048;
/// Thousandths of a byte to a token, where there is no sample: less than English has, to be safe.
const TOKEN_MILLIBYTES: u64 = 3000;
/// How much less likely a token gets by having occurred: small models go round in circles without.
const REPEAT_PENALTY: f32 = 1.1;
/// Completions shorter than this aren't worth asking for.
const COMPLETION_TOKENS_MIN: u64 = 16;

/// The model answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Thought {
    pub(super) text: String,
    /// What it cost: prompt and completion.
    pub(super) tokens: u64,
    /// Its prompt's part of that.
    pub(super) prompt: u64,
    /// Which model it was.
    pub(super) model: String,
}

/// It didn't; what it cost all the same, and what it had said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unthought {
    pub(super) failure: Failure,
    pub(super) partial: String,
    pub(super) tokens: u64,
    pub(super) prompt: u64,
}

/// One run's way to its model and its budget.
pub(super) struct Thinking {
    context: Context,
    model: Option<String>,
    thread: Uuid,
    agent: String,
    served: Mutex<Option<(Served, u64)>>,
}

/// Why one attempt failed, and whether another may do better.
struct Attempt {
    failure: Failure,
    partial: String,
    tokens: u64,
    prompt: u64,
    again: bool,
}

impl Attempt {
    fn free(reason: impl ToString, again: bool) -> Attempt {
        Attempt { failure: Failure::new(reason.to_string()), partial: String::new(), tokens: 0, prompt: 0, again }
    }

    fn ended() -> Attempt {
        Attempt::free("the run has ended", false)
    }

    fn budget(error: &BudgetError) -> Attempt {
        let failure = Failure { reason: error.to_string(), exhausted: error.is_exhausted() };
        Attempt { failure, partial: String::new(), tokens: 0, prompt: 0, again: false }
    }
}

impl Thinking {
    /// For a run of this thread; `agent` is the name that its usage is metered under.
    pub(super) fn new(context: Context, model: Option<String>, thread: Uuid, agent: String) -> Arc<Thinking> {
        Arc::new(Thinking { context, model, thread, agent, served: Mutex::new(None) })
    }

    /// What fits one prompt beside a goal, measured on the beginning of the text that is to be worked on.
    pub(super) async fn room(&self, goal: &str, sample: &str) -> Result<Room, Failure> {
        let (served, context) = self.served().await.map_err(|attempt| attempt.failure)?;
        let pipeline = self.pipeline(&served);
        let sample = &sample[..sample.floor_char_boundary(SAMPLE_BYTES)];
        let mut millibytes = TOKEN_MILLIBYTES;
        if !sample.is_empty() {
            let turns = vec![Turn { role: "user".into(), content: sample.to_owned() }];
            if let Ok(Ok(tokens)) = pipeline.ask(COUNT_TIMEOUT, |reply| Pipeline::Count(Wire(turns), reply)).await {
                // A tenth less: the rest of the text may be denser.
                millibytes = (sample.len() as u64 * 900 / tokens.max(1)).max(250);
            }
        }
        let answer = ANSWER_TOKENS_MAX.min(context / 4);
        let tokens = context.saturating_sub(answer + INSTRUCTION_TOKENS.min(context / 4));
        let bytes = ((tokens * millibytes / 1000) as usize).saturating_sub(goal.len()).max(SAMPLE_BYTES / 8);
        Ok(Room { bytes, answer_tokens: answer as u32 })
    }

    /// Asks the model; spends at most `share` tokens. Given up when `stop` is cancelled.
    pub(super) async fn think(
        &self,
        prompt: Prompt,
        share: u64,
        stop: &CancellationToken,
    ) -> Result<Thought, Unthought> {
        let (mut tokens, mut prompts, mut tries) = (0, 0, 0);
        loop {
            tries += 1;
            match self.attempt(&prompt, share.saturating_sub(tokens), stop).await {
                Ok(thought) => {
                    let prompt = prompts + thought.prompt;
                    return Ok(Thought { tokens: tokens + thought.tokens, prompt, ..thought });
                }
                Err(Attempt { failure, partial, tokens: spent, prompt: asked, again }) => {
                    tokens += spent;
                    prompts += asked;
                    if !again || tries >= TRIES_MAX || stop.is_cancelled() {
                        return Err(Unthought { failure, partial, tokens, prompt: prompts });
                    }
                    // Whoever served it is gone: ask anew who does.
                    *self.served.lock().await = None;
                }
            }
        }
    }

    async fn attempt(&self, prompt: &Prompt, share: u64, stop: &CancellationToken) -> Result<Thought, Attempt> {
        let ((served, context), count) = tokio::select! {
            ready = self.counted(prompt) => ready?,
            () = stop.cancelled() => return Err(Attempt::ended()),
        };
        let room = context.saturating_sub(count);
        if room < COMPLETION_TOKENS_MIN {
            return Err(Attempt::free(GenerateError::TooLong { prompt: count, context }, false));
        }
        let max_tokens = u64::from(prompt.max_tokens).min(room);
        let count = Metered::prompt_of(count, prompt.turns.iter().map(|turn| turn.content.len()).sum());
        let wanted = count + max_tokens;
        if wanted > share {
            let error = BudgetError::Exhausted { wanted, remaining: share, max: share };
            return Err(Attempt::budget(&error));
        }
        // Not given up half-way: whoever stops waiting for a reservation doesn't learn its id, and can't release it.
        let reservation = self.reserve(Call::new(&served.model, count, max_tokens), stop).await?;
        if stop.is_cancelled() {
            self.release(reservation).await;
            return Err(Attempt::ended());
        }
        let began = Instant::now();
        let outcome = self.generate(&served, prompt, count, max_tokens as u32, stop).await;
        let (spent, result) = match outcome {
            Ok(None) => {
                self.release(reservation).await;
                return Err(Attempt::ended());
            }
            Ok(Some((text, prompt, completion))) => ((prompt, completion), Ok(text)),
            Err(Broken { attempt, cost: Cost::Nothing }) => {
                self.release(reservation).await;
                return Err(attempt);
            }
            Err(Broken { attempt, cost: Cost::Known(prompt, completion) }) => ((prompt, completion), Err(attempt)),
            Err(Broken { attempt, cost: Cost::Unknown }) => ((count, max_tokens), Err(attempt)),
        };
        let latency_ms = began.elapsed().as_millis() as u64;
        self.settle(reservation, spent, &served.model, latency_ms).await;
        let tokens = spent.0.saturating_add(spent.1);
        match result {
            Ok(text) => Ok(Thought { text, tokens, prompt: spent.0, model: served.model }),
            Err(attempt) => Err(Attempt { tokens, prompt: spent.0, ..attempt }),
        }
    }

    /// Who serves the model, its context, and the tokens of the prompt.
    async fn counted(&self, prompt: &Prompt) -> Result<((Served, u64), u64), Attempt> {
        let (served, context) = self.served().await?;
        let pipeline = self.pipeline(&served);
        let mut tries = 0;
        loop {
            tries += 1;
            let turns = prompt.turns.clone();
            match pipeline.ask(COUNT_TIMEOUT, |reply| Pipeline::Count(Wire(turns), reply)).await {
                Ok(Ok(count)) => return Ok(((served, context), count)),
                Ok(Err(GenerateError::Busy(_))) if tries < COUNT_TRIES_MAX => sleep(BUSY_PAUSE).await,
                Ok(Err(error)) => return Err(Attempt::free(error, false)),
                Err(error) => return Err(Attempt::free(error, true)),
            }
        }
    }

    /// Generates, and waits while the model is busy. `None`: the run ended before it began.
    async fn generate(
        &self,
        served: &Served,
        prompt: &Prompt,
        count: u64,
        max_tokens: u32,
        stop: &CancellationToken,
    ) -> Result<Option<(String, u64, u64)>, Broken> {
        let (me, pipeline) = (self.context.directory.id(), self.pipeline(served));
        let mut tries = 0;
        let expected: Expected = loop {
            let ticket = self.context.env.ticket();
            let expected = self.context.directory.expect(served.node, ticket);
            let expected = expected.map_err(|e| Broken::new(Attempt::free(e, false), Cost::Nothing))?;
            let request = Generate {
                turns: prompt.turns.clone(),
                max_tokens,
                sampling: Sampling { repeat_penalty: REPEAT_PENALTY, ..Sampling::default() },
                stop: Vec::new(),
                to: me,
                ticket: expected.ticket(),
                thread: Some(self.thread),
            };
            tries += 1;
            match pipeline.ask(ASK_TIMEOUT, |reply| Pipeline::Generate(Wire(request), reply)).await {
                Ok(Ok(_)) => break expected,
                Ok(Err(GenerateError::Busy(_))) if tries < BUSY_TRIES_MAX => {
                    tokio::select! {
                        () = sleep(BUSY_PAUSE * 2u32.pow(tries - 1)) => {}
                        () = stop.cancelled() => return Ok(None),
                    }
                }
                Ok(Err(error)) => return Err(Broken::new(Attempt::free(error, false), Cost::Nothing)),
                Err(error @ (Error::NoSuchActor(_) | Error::Busy(_) | Error::TooLarge { .. })) => {
                    return Err(Broken::new(Attempt::free(error, true), Cost::Nothing));
                }
                // It may have begun; without its stream it stops soon. The prompt may have been read.
                Err(error) => return Err(Broken::new(Attempt::free(error, true), Cost::Known(count, 0))),
            }
        };
        let opened = expected.opened().await;
        let stream = opened.map_err(|e| Broken::new(Attempt::free(e, true), Cost::Known(count, 0)))?;
        let generation = self.context.env.id();
        let told = |delta: &str| {
            self.context.events.publish(|| {
                let thread_id = self.thread.to_string().into();
                What::StreamChunk(event::what::Chunk {
                    thread_id,
                    agent_id: self.agent.as_str().into(),
                    generation_id: generation.to_string().into(),
                    delta: delta.into(),
                })
            });
        };
        read(stream, Metered::new(count, u64::from(max_tokens)), stop, told).await.map(Some)
    }

    async fn served(&self) -> Result<(Served, u64), Attempt> {
        let mut known = self.served.lock().await;
        if let Some(served) = &*known {
            return Ok(served.clone());
        }
        let models = self.context.directory.here::<model::Message>(model::NAME);
        let serve = Serve { model: self.model.clone(), stages: None };
        let served = models.ask(SERVE_TIMEOUT, |reply| model::Message::Serve(Wire(serve), reply)).await;
        let served = served.map_err(|e| Attempt::free(e, true))?.map_err(|e| Attempt::free(e, false))?;
        // What this pipeline has room for: a model's own context may be many times as long.
        let context = self.pipeline(&served).ask(ASK_TIMEOUT, Pipeline::Context).await;
        let context = context.map_err(|e| Attempt::free(e, true))?;
        *known = Some((served.clone(), context));
        Ok((served, context))
    }

    fn pipeline(&self, served: &Served) -> Handle<Pipeline> {
        self.context.directory.at(served.node, served.actor.clone())
    }

    fn budget(&self) -> Handle<budget::Message> {
        self.context.directory.here(budget::NAME)
    }

    /// Waits while the budget's keeper is away: another one is found when it is missed.
    async fn reserve(&self, call: Call, stop: &CancellationToken) -> Result<Reservation, Attempt> {
        let patience = Instant::now() + KEEPER_PATIENCE;
        loop {
            let wanted = Wire((self.thread, call.clone()));
            // The owner may be asked several times behind this.
            let reserved = self.budget().ask(ASK_TIMEOUT * 4, |reply| budget::Message::Reserve(wanted, reply)).await;
            let error = match reserved.map_err(|e| Attempt::free(e, false))? {
                Ok(reservation) => return Ok(reservation),
                Err(error) => error,
            };
            if !error.is_passing() || Instant::now() >= patience {
                return Err(Attempt::budget(&error));
            }
            tokio::select! {
                () = sleep(BUSY_PAUSE) => {}
                () = stop.cancelled() => return Err(Attempt::ended()),
            }
        }
    }

    async fn settle(&self, reservation: Reservation, (prompt, completion): (u64, u64), model: &str, latency_ms: u64) {
        let spent = Spent { prompt, completion, agent: self.agent.clone(), model: model.to_owned(), latency_ms };
        let asked = Wire((reservation, spent));
        let settled = self.budget().ask(ASK_TIMEOUT, |reply| budget::Message::Settle(asked, reply)).await;
        // What is not settled is charged in full when the thread's work ends.
        let error = match settled {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::warn!(error, "a call could not be settled");
    }

    async fn release(&self, reservation: Reservation) {
        let released = self.budget().ask(ASK_TIMEOUT, |reply| budget::Message::Release(Wire(reservation), reply)).await;
        tracing::trace!(?released, "a reservation went back");
    }
}

/// A generation that did not end well.
struct Broken {
    attempt: Attempt,
    cost: Cost,
}

impl Broken {
    fn new(attempt: Attempt, cost: Cost) -> Broken {
        Broken { attempt, cost }
    }
}

/// What is known of its cost.
enum Cost {
    Nothing,
    /// Tokens of prompt and completion.
    Known(u64, u64),
    Unknown,
}

/// Reads the text to its end, or to where it begins to repeat itself: text, tokens of the prompt, tokens of the
/// completion. Each piece is `told` as it comes.
async fn read(
    mut stream: Stream,
    mut metered: Metered,
    stop: &CancellationToken,
    told: impl Fn(&str),
) -> Result<(String, u64, u64), Broken> {
    let count = metered.prompt;
    let (mut text, mut repetition) = (String::new(), Repetition::default());
    loop {
        let next = tokio::select! {
            next = timeout(CHUNK_TIMEOUT, frames::read::<Chunk>(&mut stream.reader)) => next,
            () = stop.cancelled() => {
                let cost = last_word(stream, metered).await;
                let attempt = Attempt { partial: text, ..Attempt::ended() };
                return Err(Broken { attempt, cost });
            }
        };
        let (reason, again, cost) = match next {
            Ok(Ok(Some(Chunk::Text(more)))) if text.len() + more.len() <= TEXT_BYTES_MAX => {
                metered.came(&more);
                told(&more);
                text.push_str(&more);
                let Some(own) = repetition.own(&text) else { continue };
                // The rest would be more of the same: what it said once is its answer.
                text.truncate(own);
                let (prompt, completion) = match last_word(stream, metered).await {
                    Cost::Known(prompt, completion) => (prompt, completion),
                    _ => (count, metered.completion_max),
                };
                return Ok((text, prompt, completion));
            }
            Ok(Ok(Some(Chunk::End { completion_tokens, .. }))) => {
                return Ok((text, count, metered.completion(completion_tokens)));
            }
            Ok(Ok(Some(Chunk::Text(_)))) => ("the model's answer has no end".to_owned(), false, Cost::Unknown),
            Ok(Ok(Some(Chunk::Failed { error, completion_tokens }))) => {
                let again = matches!(error, GenerateError::StageLost { .. } | GenerateError::Ended);
                (error.to_string(), again, Cost::Known(count, metered.completion(completion_tokens)))
            }
            Ok(Ok(None)) => ("the model's node went away in the middle of its answer".to_owned(), true, Cost::Unknown),
            Ok(Err(error)) => (error.to_string(), true, Cost::Unknown),
            Err(_) => (Error::Timeout.to_string(), true, Cost::Unknown),
        };
        let attempt = Attempt { partial: text, ..Attempt::free(reason, again) };
        return Err(Broken { attempt, cost });
    }
}

/// Ends our direction, which cancels, and waits a moment for what it cost.
async fn last_word(mut stream: Stream, mut metered: Metered) -> Cost {
    let wait = async {
        stream.writer.shutdown().await.ok()?;
        loop {
            match frames::read::<Chunk>(&mut stream.reader).await {
                Ok(Some(Chunk::Text(more))) => metered.came(&more),
                Ok(Some(Chunk::End { completion_tokens, .. } | Chunk::Failed { completion_tokens, .. })) => {
                    return Some(Cost::Known(metered.prompt, metered.completion(completion_tokens)));
                }
                Ok(None) | Err(_) => return None,
            }
        }
    };
    timeout(LAST_WORD_TIMEOUT, wait).await.ok().flatten().unwrap_or(Cost::Unknown)
}
