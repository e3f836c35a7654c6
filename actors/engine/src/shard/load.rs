//! Loads a shard: only its own tensors, one at a time, so that the peak stays near the end size.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::cache::Cache;
use super::layer::Layer;
use crate::error::LoadError;
use crate::kernel::{self, Matrix, Rotary};
use crate::model::{Card, Model, Weights, layout};

/// A range of a model's layers with its weights in memory.
///
/// Shared freely between threads: a pass borrows it and changes only caches.
pub struct Shard {
    pub(super) card: Card,
    pub(super) layers: Range<u32>,
    /// The embedding table, on the first shard.
    pub(super) embedding: Option<Arc<Matrix>>,
    pub(super) blocks: Vec<Layer>,
    /// The final norm and the output head, on the last shard.
    pub(super) head: Option<(Vec<f32>, Arc<Matrix>)>,
    pub(super) rotary: Rotary,
}

/// What a shard takes of the machine's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Bytes of weights as they are held.
    pub weight_bytes: u64,
    /// Bytes at most once the kernels have made their own copies, which happens on first use.
    pub resident_bytes: u64,
    /// Bytes of cache for each token of each sequence.
    pub cache_bytes_per_token: u64,
}

impl Shard {
    /// Loads `layers` of the model at `path`: with the embedding if they start at 0, with the final
    /// norm and the head if they end at the last layer.
    pub fn load(path: impl AsRef<Path>, layers: Range<u32>) -> Result<Self, LoadError> {
        Self::from_model(&Model::open(path)?, layers)
    }

    /// The same for a model that is open already.
    pub fn from_model(model: &Model, layers: Range<u32>) -> Result<Self, LoadError> {
        let card = model.card().clone();
        if layers.is_empty() || layers.end > card.layers {
            return Err(LoadError::LayerRange { start: layers.start, end: layers.end, layers: card.layers });
        }
        let mut weights = Weights::open(model)?;
        let (first, last) = (layers.start == 0, layers.end == card.layers);
        let head = if last { Some(load_head(&mut weights, &card)?) } else { None };
        let embedding = match &head {
            _ if !first => None,
            Some((_, table)) if card.tied => Some(Arc::clone(table)),
            _ => {
                let stored = weights.require(&layout::embedding(&card))?;
                let table = Matrix::table(&stored).map_err(|failure| failure.loading(layout::EMBEDDING))?;
                Some(Arc::new(table))
            }
        };
        let blocks: Result<_, _> = layers.clone().map(|index| Layer::load(&mut weights, &card, index)).collect();
        let rotary = Rotary::new(&card.rope, &rope_factors(&mut weights, model)?);
        Ok(Self { layers, embedding, blocks: blocks?, head, rotary, card })
    }

    /// The model that this is a part of.
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// The layers that it holds.
    pub fn layers(&self) -> Range<u32> {
        self.layers.clone()
    }

    /// Whether it takes token ids.
    pub fn is_first(&self) -> bool {
        self.layers.start == 0
    }

    /// Whether it gives logits.
    pub fn is_last(&self) -> bool {
        self.layers.end == self.card.layers
    }

    /// What it takes of the machine's memory.
    pub fn memory(&self) -> Memory {
        let blocks: u64 = self.blocks.iter().map(Layer::bytes).sum();
        let mut weight_bytes = blocks;
        if let Some((_, head)) = &self.head {
            weight_bytes += head.bytes();
        }
        if let Some(embedding) = &self.embedding
            && !self.head.as_ref().is_some_and(|(_, head)| Arc::ptr_eq(head, embedding))
        {
            weight_bytes += embedding.bytes();
        }
        Memory {
            weight_bytes,
            resident_bytes: self.card.resident_bytes(self.layers()).max(weight_bytes),
            cache_bytes_per_token: self.card.cache_bytes_per_token(self.layers()),
        }
    }

    /// An empty cache for one sequence of at most `tokens_max` tokens, or as many as the model takes.
    ///
    /// Memory is taken as the sequence grows, not now.
    pub fn cache(&self, tokens_max: u32) -> Cache {
        let tokens_max = tokens_max.min(self.card.context_tokens);
        Cache::new(self.layers(), self.card.kv_heads, self.card.head_width, tokens_max)
    }
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard").field("model", &self.card.id).field("layers", &self.layers).finish_non_exhaustive()
    }
}

fn load_head(weights: &mut Weights<'_>, card: &Card) -> Result<(Vec<f32>, Arc<Matrix>), LoadError> {
    let [norm, table] = layout::head(card);
    let norm_values = kernel::dequantise(&weights.require(&norm)?).map_err(|failure| failure.loading(&norm.name))?;
    let matrix = Matrix::new(&weights.require(&table)?).map_err(|failure| failure.loading(&table.name))?;
    Ok((norm_values, Arc::new(matrix)))
}

/// Divisors of the rotary frequencies, if the file holds them; they apply to every layer.
fn rope_factors(weights: &mut Weights<'_>, model: &Model) -> Result<Vec<f32>, LoadError> {
    let wanted = layout::rope_factors(model.card());
    let Some(stored) = weights.read(&wanted)? else {
        return Ok(Vec::new());
    };
    let factors = kernel::dequantise(&stored).map_err(|failure| failure.loading(&wanted.name))?;
    if factors.iter().all(|factor| factor.is_finite() && *factor > 0.0) {
        Ok(factors)
    } else {
        Err(LoadError::Hyperparameters("the rotary factors are not positive numbers".to_owned()))
    }
}
