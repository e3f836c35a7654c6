//! One stage's work: a step in, the step for the next stage out. Blocks while it computes; knows no stream.
//!
//! Sequences and the tokens that they may grow to are bounded here again: a shard doesn't trust its pipeline's
//! arithmetic.

use super::{
    Stats,
    step::{HISTORY_TOKENS_MAX, Step},
};
use crate::pipeline::RUNNING_MAX;
use skep_engine::{
    Cache, Hidden, Input, LogitRows, Output, Part, Sampling, Shard, defaults::CACHE_GROWTH_TOKENS, sample,
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

/// Sequences that one shard keeps: more than a pipeline ever runs at once.
const SEQUENCES_MAX: usize = 64;

/// A stage with its sequences.
pub(super) struct Worker {
    shard: Arc<Shard>,
    stage: u16,
    /// Tokens of cache that this shard was given memory for.
    cache_tokens: u64,
    sequences: BTreeMap<u64, Sequence>,
    rows: u64,
}

struct Sequence {
    cache: Cache,
    sampling: Sampling,
    history: VecDeque<u32>,
}

impl Worker {
    pub(super) fn new(shard: Arc<Shard>, stage: u16, cache_tokens: u64) -> Worker {
        Worker { shard, stage, cache_tokens, sequences: BTreeMap::new(), rows: 0 }
    }

    /// Bytes of one row that comes in.
    pub(super) fn row_bytes(&self) -> usize {
        if self.shard.is_first() { 4 } else { self.shard.card().hidden as usize * 4 }
    }

    /// Does one step; gives what the next stage is to get.
    pub(super) fn step(&mut self, step: Step, rows: &[u8]) -> Option<(Step, Vec<u8>)> {
        match step {
            Step::Open { sequence, tokens_max, ref sampling, ref history } => {
                // A sequence that finds no room is not kept: its first rows are answered by a failure.
                if self.has_room(tokens_max) {
                    let cache = self.shard.cache(tokens_max);
                    let known =
                        Sequence { cache, sampling: sampling.clone(), history: history.iter().copied().collect() };
                    self.sequences.insert(sequence, known);
                }
                self.passed_on(step)
            }
            Step::Close { sequence } => {
                self.sequences.remove(&sequence);
                self.passed_on(step)
            }
            Step::Failed { sequence, .. } => {
                self.sequences.remove(&sequence);
                Some((step, Vec::new()))
            }
            Step::Rows { sequence, position, sample, .. } => {
                Some(match self.compute(sequence, position, rows, sample) {
                    Ok(next) => next,
                    Err(reason) => {
                        self.sequences.remove(&sequence);
                        (Step::Failed { sequence, stage: self.stage, reason }, Vec::new())
                    }
                })
            }
            // Only a last stage says these, and only to the pipeline.
            Step::Token { sequence, .. } | Step::Done { sequence } => {
                self.sequences.remove(&sequence);
                let reason = "an answer came where work belongs".to_owned();
                Some((Step::Failed { sequence, stage: self.stage, reason }, Vec::new()))
            }
        }
    }

    /// Its figures.
    pub(super) fn stats(&self) -> Stats {
        let layers = self.shard.layers();
        Stats {
            from: layers.start,
            to: layers.end,
            weight_bytes: self.shard.memory().weight_bytes,
            sequences: self.sequences.len() as u32,
            reserved_tokens: self.reserved(),
            cache_bytes: self.sequences.values().map(|s| s.cache.bytes()).sum(),
            rows: self.rows,
        }
    }

    fn reserved(&self) -> u64 {
        self.sequences.values().map(|s| u64::from(s.cache.tokens_max())).sum()
    }

    /// Whether another sequence has room, as memory is taken for it: each cache is rounded up, which a pipeline that
    /// runs as many as it may was given room for.
    fn has_room(&self, tokens: u32) -> bool {
        let rounded = |tokens: u32| u64::from(tokens).next_multiple_of(CACHE_GROWTH_TOKENS as u64);
        let held: u64 = self.sequences.values().map(|s| rounded(s.cache.tokens_max())).sum();
        let most = self.cache_tokens + (RUNNING_MAX * CACHE_GROWTH_TOKENS) as u64;
        self.sequences.len() < SEQUENCES_MAX && held + rounded(tokens) <= most
    }

    fn passed_on(&self, step: Step) -> Option<(Step, Vec<u8>)> {
        (!self.shard.is_last()).then_some((step, Vec::new()))
    }

    fn compute(&mut self, sequence: u64, position: u32, rows: &[u8], wanted: bool) -> Result<(Step, Vec<u8>), String> {
        let missing = "the sequence is not open on this stage: it found no room for its cache, or has failed before";
        let known = self.sequences.get_mut(&sequence).ok_or(missing)?;
        let (tokens, hidden);
        let input = if self.shard.is_first() {
            tokens = rows.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect::<Vec<u32>>();
            Input::Tokens(&tokens)
        } else {
            hidden = Hidden::from_bytes(self.shard.card().hidden as usize, rows).map_err(|e| e.to_string())?;
            Input::Hidden(&hidden)
        };
        let logits = if wanted { LogitRows::Last } else { LogitRows::None };
        let mut parts = [Part { cache: &mut known.cache, position, input, logits }];
        let mut outputs = self.shard.forward(&mut parts).map_err(|e| e.to_string())?;
        self.rows +=
            (rows.len() / if self.shard.is_first() { 4 } else { self.shard.card().hidden as usize * 4 }) as u64;
        match outputs.pop() {
            Some(Output::Hidden(hidden)) => {
                let rows = hidden.rows() as u32;
                Ok((Step::Rows { sequence, position, rows, sample: wanted }, hidden.to_bytes()))
            }
            Some(Output::Logits(logits)) => match logits.last() {
                Some(logits) => Ok((Step::Token { sequence, token: known.choose(logits)? }, Vec::new())),
                None => Ok((Step::Done { sequence }, Vec::new())),
            },
            None => Err("the engine gave no output".to_owned()),
        }
    }
}

impl Sequence {
    fn choose(&mut self, logits: &[f32]) -> Result<u32, String> {
        let history = self.history.make_contiguous();
        let token =
            sample(logits, history, u64::from(self.cache.tokens()), &self.sampling).map_err(|e| e.to_string())?;
        if self.history.len() >= HISTORY_TOKENS_MAX {
            self.history.pop_front();
        }
        self.history.push_back(token);
        Ok(token)
    }
}
