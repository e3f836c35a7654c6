//! A whole model in one process, cut into shards as asked: for tests, examples and single machines.
//!
//! It shows the order of calls that a pipeline over several machines makes too: prompt in chunks,
//! then token by token, hidden states handed on in their wire form.

use std::ops::ControlFlow;
use std::path::Path;

use crate::defaults::PREFILL_CHUNK_ROWS;
use crate::error::{ForwardError, GenerateError};
use crate::model::{Card, Model};
use crate::sample::{Sampling, sample};
use crate::shard::{Cache, Hidden, Input, LogitRows, Logits, Output, Part, Shard};

/// Shards that cover a model from the first layer to the last.
#[derive(Debug)]
pub struct Chain {
    shards: Vec<Shard>,
}

/// What one sequence has left behind in each shard of a chain.
#[derive(Clone, Debug)]
pub struct ChainState {
    caches: Vec<Cache>,
}

/// What to generate.
#[derive(Clone, Debug)]
pub struct Request<'r> {
    /// Tokens to continue.
    pub prompt: &'r [u32],
    /// Tokens at most.
    pub tokens_max: u32,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Tokens that end the answer; they are not part of it. See `Tokenizer::endings`.
    pub endings: Vec<u32>,
}

/// What was generated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it.
    Ended,
    /// It reached the asked number of tokens, or the sequence its limit.
    Length,
    /// The caller ended it.
    Stopped,
}

impl Chain {
    /// Loads a model cut at the layers `cuts`, which must rise and lie within it; none for one shard.
    pub fn load(path: impl AsRef<Path>, cuts: &[u32]) -> Result<Self, GenerateError> {
        let model = Model::open(path)?;
        let mut edges = vec![0];
        edges.extend_from_slice(cuts);
        edges.push(model.card().layers);
        let shards: Result<_, _> = edges.windows(2).map(|pair| Shard::from_model(&model, pair[0]..pair[1])).collect();
        Self::new(shards?)
    }

    /// Chains shards of one model, given in order.
    pub fn new(shards: Vec<Shard>) -> Result<Self, GenerateError> {
        let mut missing = 0;
        for shard in &shards {
            if shard.layers().start != missing || shard.card().id != shards[0].card().id {
                return Err(GenerateError::Gap { missing });
            }
            missing = shard.layers().end;
        }
        match shards.last() {
            Some(last) if last.is_last() => Ok(Self { shards }),
            _ => Err(GenerateError::Gap { missing }),
        }
    }

    /// The model's card.
    pub fn card(&self) -> &Card {
        self.shards[0].card()
    }

    /// The shards in order.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// An empty state for a sequence of at most `tokens_max` tokens.
    pub fn state(&self, tokens_max: u32) -> ChainState {
        ChainState { caches: self.shards.iter().map(|shard| shard.cache(tokens_max)).collect() }
    }

    /// One pass of `tokens` through all shards.
    pub fn forward(&self, state: &mut ChainState, tokens: &[u32], logits: LogitRows) -> Result<Logits, ForwardError> {
        let position = state.tokens();
        let mut between: Option<Hidden> = None;
        for (shard, cache) in self.shards.iter().zip(&mut state.caches) {
            let input = between.as_ref().map_or(Input::Tokens(tokens), Input::Hidden);
            let part = Part { cache, position, input, logits };
            match shard.forward(&mut [part])?.pop() {
                Some(Output::Hidden(hidden)) => {
                    between = Some(Hidden::from_bytes(hidden.width(), &hidden.to_bytes())?);
                }
                Some(Output::Logits(logits)) => return Ok(logits),
                None => break,
            }
        }
        unreachable!("a chain ends with the shard that gives logits, and each part has an output")
    }

    /// Generates an answer; `on_token` sees each token as it comes and may end it there.
    pub fn generate(
        &self,
        state: &mut ChainState,
        request: &Request<'_>,
        mut on_token: impl FnMut(u32) -> ControlFlow<()>,
    ) -> Result<Generated, GenerateError> {
        let mut history = request.prompt.to_vec();
        let mut logits = None;
        let chunks = request.prompt.chunks(PREFILL_CHUNK_ROWS);
        let last = chunks.len();
        for (chunk, index) in chunks.zip(1..) {
            let rows = if index == last { LogitRows::Last } else { LogitRows::None };
            logits = Some(self.forward(state, chunk, rows)?);
        }
        let mut logits = logits.ok_or(GenerateError::EmptyPrompt)?;
        let mut tokens = Vec::new();
        let finish = loop {
            if tokens.len() >= request.tokens_max as usize {
                break Finish::Length;
            }
            let row = logits.last().unwrap_or_default();
            let token = sample(row, &history, history.len() as u64, &request.sampling)?;
            if request.endings.contains(&token) {
                break Finish::Ended;
            }
            tokens.push(token);
            history.push(token);
            if on_token(token).is_break() {
                break Finish::Stopped;
            }
            if state.tokens() >= state.tokens_max() {
                break Finish::Length;
            }
            logits = self.forward(state, &[token], LogitRows::Last)?;
        };
        Ok(Generated { tokens, finish })
    }
}

impl ChainState {
    /// Tokens that every shard holds.
    pub fn tokens(&self) -> u32 {
        self.caches.iter().map(Cache::tokens).min().unwrap_or(0)
    }

    /// Tokens that it may hold.
    pub fn tokens_max(&self) -> u32 {
        self.caches.iter().map(Cache::tokens_max).min().unwrap_or(0)
    }

    /// Forgets everything from position `tokens` on.
    pub fn truncate(&mut self, tokens: u32) {
        for cache in &mut self.caches {
            cache.truncate(tokens);
        }
    }
}
