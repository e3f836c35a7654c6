//! The forward pass: several sequences through one shard at once.
//!
//! All checks come before the first multiplication, and caches count new tokens only after the
//! last one, so that a refused or failed pass changes nothing.

use super::cache::Cache;
use super::hidden::{Hidden, Logits};
use super::layer::Pass;
use super::load::Shard;
use crate::defaults::FORWARD_ROWS_MAX;
use crate::error::ForwardError;
use crate::kernel::{self, Failure};

/// What one sequence brings into a pass.
pub struct Part<'p> {
    /// The sequence's cache on this shard.
    pub cache: &'p mut Cache,
    /// Position of the first row; must be the number of tokens that the cache holds.
    pub position: u32,
    /// The rows.
    pub input: Input<'p>,
    /// Which logits to give; only the last shard looks at it.
    pub logits: LogitRows,
}

/// Rows of one sequence.
#[derive(Clone, Copy)]
pub enum Input<'p> {
    /// Token ids, for the first shard.
    Tokens(&'p [u32]),
    /// Hidden states of the shard before, for any other.
    Hidden(&'p Hidden),
}

/// Which rows to compute logits for; the head is the widest matrix, so none more than needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogitRows {
    /// None: a chunk of a prompt that goes on.
    None,
    /// Of the last row: the next token.
    Last,
    /// Of every row: to verify a draft, or to score a text.
    All,
}

/// What a shard gives for one sequence.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Hidden states for the next shard.
    Hidden(Hidden),
    /// Logits, from the last shard; no rows if none were asked for.
    Logits(Logits),
}

impl Input<'_> {
    fn rows(&self) -> usize {
        match self {
            Self::Tokens(tokens) => tokens.len(),
            Self::Hidden(hidden) => hidden.rows(),
        }
    }
}

impl Shard {
    /// Computes one pass over the rows of all `parts`, and gives one output for each, in order.
    ///
    /// Blocks until done. On success each cache holds its part's rows; on error nothing changed.
    /// At most [`FORWARD_ROWS_MAX`] rows, all parts together.
    pub fn forward(&self, parts: &mut [Part<'_>]) -> Result<Vec<Output>, ForwardError> {
        self.check(parts)?;
        self.compute(parts).map_err(Failure::computing)
    }

    fn check(&self, parts: &[Part<'_>]) -> Result<(), ForwardError> {
        if parts.is_empty() || parts.iter().any(|part| part.input.rows() == 0) {
            return Err(ForwardError::Empty);
        }
        let rows = parts.iter().map(|part| part.input.rows()).sum();
        if rows > FORWARD_ROWS_MAX {
            return Err(ForwardError::TooManyRows { rows, max: FORWARD_ROWS_MAX });
        }
        parts.iter().try_for_each(|part| self.check_part(part))
    }

    fn check_part(&self, part: &Part<'_>) -> Result<(), ForwardError> {
        let cache = &part.cache;
        if !cache.fits(&self.layers, self.card.kv_heads, self.card.head_width) {
            return Err(ForwardError::ForeignCache);
        }
        if part.position != cache.tokens() {
            return Err(ForwardError::Position { given: part.position, held: cache.tokens() });
        }
        let wanted = u64::from(part.position) + part.input.rows() as u64;
        if wanted > u64::from(cache.tokens_max()) {
            return Err(ForwardError::ContextFull { wanted, max: cache.tokens_max() });
        }
        match part.input {
            Input::Tokens(tokens) if self.is_first() => {
                let vocabulary = self.card.vocabulary;
                match tokens.iter().find(|&&token| token >= vocabulary) {
                    Some(&token) => Err(ForwardError::UnknownToken { token, vocabulary }),
                    None => Ok(()),
                }
            }
            Input::Hidden(hidden) if !self.is_first() => {
                let width = self.card.hidden as usize;
                if hidden.width() == width {
                    return Ok(());
                }
                let bytes = size_of_val(hidden.values());
                Err(ForwardError::HiddenShape { bytes, width, rows_max: FORWARD_ROWS_MAX })
            }
            _ => Err(ForwardError::WrongInput { first_layer: self.layers.start }),
        }
    }

    fn compute(&self, parts: &mut [Part<'_>]) -> Result<Vec<Output>, Failure> {
        let counts: Vec<usize> = parts.iter().map(|part| part.input.rows()).collect();
        let mut rows = self.gather(parts)?;
        let positions = parts.iter().zip(&counts).flat_map(|(part, &count)| (part.position..).take(count));
        let angles = self.rotary.angles(positions);
        let pass = Pass { card: &self.card, rotary: &self.rotary, angles: &angles };
        {
            let mut caches: Vec<_> =
                parts.iter_mut().zip(&counts).map(|(part, &count)| (&mut *part.cache, count)).collect();
            for (slot, layer) in self.blocks.iter().enumerate() {
                layer.forward(&pass, slot, &mut rows, &mut caches)?;
            }
        }
        let outputs = self.finish(&rows, parts, &counts)?;
        for (part, &count) in parts.iter_mut().zip(&counts) {
            part.cache.commit(count);
        }
        Ok(outputs)
    }

    /// The rows of all parts one after the other, tokens looked up.
    fn gather(&self, parts: &[Part<'_>]) -> Result<Vec<f32>, Failure> {
        let mut rows = Vec::new();
        for part in parts {
            match (&self.embedding, part.input) {
                (Some(table), Input::Tokens(tokens)) => rows.extend(table.look_up(tokens)?),
                (_, Input::Hidden(hidden)) => rows.extend_from_slice(hidden.values()),
                (None, Input::Tokens(_)) => {
                    unreachable!("`check_part` lets tokens through to the first shard only")
                }
            }
        }
        Ok(rows)
    }

    fn finish(&self, rows: &[f32], parts: &[Part<'_>], counts: &[usize]) -> Result<Vec<Output>, Failure> {
        let width = self.card.hidden as usize;
        let mut rest = rows;
        let mut own = counts.iter().map(|count| {
            let (own, later) = rest.split_at(count * width);
            rest = later;
            own
        });
        let Some((norm, head)) = &self.head else {
            return Ok(own.map(|rows| Output::Hidden(Hidden::new(width, rows.to_vec()))).collect());
        };
        let wanted: Vec<&[f32]> = parts
            .iter()
            .zip(&mut own)
            .map(|(part, rows)| match part.logits {
                LogitRows::None => &rows[rows.len()..],
                LogitRows::Last => &rows[rows.len() - width..],
                LogitRows::All => rows,
            })
            .collect();
        let gathered = wanted.concat();
        let mut values = Vec::new();
        if !gathered.is_empty() {
            values = head.apply(&kernel::rms_norm(&gathered, norm, self.card.norm_epsilon))?;
        }
        let vocabulary = self.card.vocabulary as usize;
        let mut rest = values.as_slice();
        let outputs = wanted.iter().map(|rows| {
            let (own, later) = rest.split_at(rows.len() / width * vocabulary);
            rest = later;
            Output::Logits(Logits::new(vocabulary, own.to_vec()))
        });
        Ok(outputs.collect())
    }
}
