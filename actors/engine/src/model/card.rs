//! A model's card: everything that a planner, a catalogue and a decoder must know without the file.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::ContentId;
use super::layout::{self, Architecture};
use crate::defaults::{CONTEXT_TOKENS_MAX, LAYERS_MAX, WIDTH_MAX};
use crate::error::{GgufError, LoadError};
use crate::gguf::Gguf;
use crate::kernel;

/// What a model is. Small, serialisable, without weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// Which content this is; equal on every machine that holds the same file.
    pub id: ContentId,
    /// The architecture, such as `llama`.
    pub architecture: String,
    /// The name that the file gives itself; empty if it gives none.
    pub name: String,
    /// How most weights are stored, such as `Q4_K_M`.
    pub quantisation: String,
    /// Length of the file in bytes.
    pub file_bytes: u64,
    /// Number of weights.
    pub parameters: u64,
    /// Number of layers.
    pub layers: u32,
    /// Width of a hidden state.
    pub hidden: u32,
    /// Width of the feed-forward part.
    pub feed_forward: u32,
    /// Attention heads.
    pub heads: u32,
    /// Heads of keys and values; divides `heads`.
    pub kv_heads: u32,
    /// Width of a head.
    pub head_width: u32,
    /// Token ids that the model has logits for.
    pub vocabulary: u32,
    /// Tokens of the longest sequence, bounded by [`CONTEXT_TOKENS_MAX`].
    pub context_tokens: u32,
    /// Rotary position parameters.
    pub rope: Rope,
    /// Epsilon of the root-mean-square norm.
    pub norm_epsilon: f32,
    /// Whether the output head is the embedding table itself.
    pub tied: bool,
    /// Bytes of the embedding table in the file.
    pub embedding_bytes: u64,
    /// Bytes of the final norm and the output head in the file; of the embedding table if they are tied.
    pub head_bytes: u64,
    /// Bytes of each layer in the file.
    pub layer_bytes: Vec<u64>,
    /// Bytes of memory each layer takes at most once its kernels have made their own copies.
    pub layer_resident_bytes: Vec<u64>,
    /// The same for the output head.
    pub head_resident_bytes: u64,
}

/// Rotary position embedding.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rope {
    /// Base of the frequencies.
    pub base: f32,
    /// Positions are divided by this (linear scaling); 1 for none.
    pub divisor: f32,
    /// Dimensions of a head that are rotated.
    pub dimensions: u32,
    /// Which elements form a pair.
    pub style: RopeStyle,
}

/// Which elements of a head are rotated together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RopeStyle {
    /// Neighbours: 0 with 1, 2 with 3 (llama files).
    Interleaved,
    /// Halves: 0 with n/2, 1 with n/2+1 (qwen files).
    Halves,
}

impl Card {
    /// Bytes of weights in the file that a shard of `layers` reads: with the embedding if it
    /// starts at 0, with the head if it ends at the last layer. A tied table counts once.
    pub fn weight_bytes(&self, layers: Range<u32>) -> u64 {
        self.sum(layers, &self.layer_bytes, self.head_bytes)
    }

    /// Bytes of memory that such a shard's weights take at most, with the copies that kernels make
    /// in their own order. An estimate from measured ratios, made to be safe for planning.
    pub fn resident_bytes(&self, layers: Range<u32>) -> u64 {
        self.sum(layers, &self.layer_resident_bytes, self.head_resident_bytes)
    }

    /// Bytes of cache that one token of one sequence takes on a shard of `layers`.
    pub fn cache_bytes_per_token(&self, layers: Range<u32>) -> u64 {
        let floats = 2 * u64::from(self.kv_heads) * u64::from(self.head_width);
        u64::from(layers.end.saturating_sub(layers.start)) * floats * 4
    }

    /// Bytes of hidden state that go from one shard to the next for one token.
    pub fn hidden_bytes_per_token(&self) -> u64 {
        u64::from(self.hidden) * 4
    }

    fn sum(&self, layers: Range<u32>, each: &[u64], head: u64) -> u64 {
        let inner = each.get(layers.start as usize..layers.end as usize).unwrap_or_default();
        let (first, last) = (layers.start == 0, layers.end == self.layers);
        let table = if first && !(last && self.tied) { self.embedding_bytes } else { 0 };
        inner.iter().sum::<u64>() + table + if last { head } else { 0 }
    }

    /// Reads a card from a checked header and verifies that every tensor is there in its shape.
    pub(super) fn read(gguf: &Gguf, id: ContentId) -> Result<Self, LoadError> {
        let name = gguf.text("general.architecture")?.ok_or_else(|| missing("general.architecture"))?;
        let architecture = Architecture::from_name(name).ok_or_else(|| LoadError::Architecture(name.to_owned()))?;
        let keys = Keys { gguf, architecture: name };
        refuse_unsupported(&keys)?;

        let layers = keys.required("block_count", LAYERS_MAX)?;
        let hidden = keys.required("embedding_length", WIDTH_MAX)?;
        let heads = keys.required("attention.head_count", WIDTH_MAX)?;
        let kv_heads = keys.optional("attention.head_count_kv", WIDTH_MAX)?.unwrap_or(heads);
        let head_width = match keys.optional("attention.key_length", WIDTH_MAX)? {
            Some(width) => width,
            None if hidden % heads == 0 => hidden / heads,
            None => return Err(impossible("the heads do not divide the hidden width")),
        };
        if heads % kv_heads != 0 {
            return Err(impossible("the key heads do not divide the heads"));
        }
        if head_width % 2 != 0 || u64::from(heads) * u64::from(head_width) > u64::from(WIDTH_MAX) {
            return Err(impossible("the head width is odd or too large"));
        }
        let table = gguf.tensors.get(layout::EMBEDDING);
        let table = table.ok_or_else(|| LoadError::MissingTensor(layout::EMBEDDING.to_owned()))?;
        let vocabulary = match table.dimensions.as_slice() {
            [_, rows] if *rows <= crate::defaults::ARRAY_ITEMS_MAX => *rows as u32,
            _ => return Err(impossible("the embedding table is not a table of tokens")),
        };
        let mut card = Self {
            id,
            architecture: name.to_owned(),
            name: gguf.text("general.name")?.unwrap_or_default().chars().take(NAME_CHARS).collect(),
            quantisation: quantisation(gguf)?,
            file_bytes: gguf.file_bytes,
            parameters: gguf.tensors.values().map(|tensor| tensor.dimensions.iter().product::<u64>()).sum(),
            layers,
            hidden,
            feed_forward: keys.required("feed_forward_length", WIDTH_MAX)?,
            heads,
            kv_heads,
            head_width,
            vocabulary,
            context_tokens: context_tokens(&keys)?,
            rope: rope(&keys, architecture, head_width)?,
            norm_epsilon: keys.float("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-5),
            tied: !gguf.tensors.contains_key(layout::HEAD),
            embedding_bytes: table.bytes,
            head_bytes: 0,
            layer_bytes: Vec::new(),
            layer_resident_bytes: Vec::new(),
            head_resident_bytes: 0,
        };
        if !(card.norm_epsilon.is_finite() && card.norm_epsilon > 0.0) {
            return Err(impossible("the norm's epsilon is not a positive number"));
        }
        card.weigh(gguf, architecture)?;
        Ok(card)
    }

    fn weigh(&mut self, gguf: &Gguf, architecture: Architecture) -> Result<(), LoadError> {
        layout::find(gguf, &layout::embedding(self))?;
        for layer in 0..self.layers {
            let (mut stored, mut resident) = (0, 0);
            for wanted in layout::layer(self, architecture, layer) {
                if let Some(tensor) = layout::find(gguf, &wanted)? {
                    stored += tensor.bytes;
                    resident += kernel::resident_bytes(tensor);
                }
            }
            self.layer_bytes.push(stored);
            self.layer_resident_bytes.push(resident);
        }
        for wanted in layout::head(self) {
            if let Some(tensor) = layout::find(gguf, &wanted)? {
                self.head_bytes += tensor.bytes;
                self.head_resident_bytes += kernel::resident_bytes(tensor);
            }
        }
        Ok(())
    }
}

/// Characters of a model's own name that are kept.
const NAME_CHARS: usize = 128;

/// Reads `ARCHITECTURE.key`.
struct Keys<'g> {
    gguf: &'g Gguf,
    architecture: &'g str,
}

impl Keys<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    /// A number from 1 to `max`.
    fn optional(&self, key: &str, max: u32) -> Result<Option<u32>, LoadError> {
        let key = self.key(key);
        match self.gguf.number(&key)? {
            None => Ok(None),
            Some(number) => match u32::try_from(number) {
                Ok(number) if (1..=max).contains(&number) => Ok(Some(number)),
                _ => Err(impossible(&format!("{key} is {number}; it must be 1 to {max}"))),
            },
        }
    }

    fn required(&self, key: &str, max: u32) -> Result<u32, LoadError> {
        self.optional(key, max)?.ok_or_else(|| missing(&self.key(key)))
    }

    fn float(&self, key: &str) -> Result<Option<f32>, LoadError> {
        Ok(self.gguf.float(&self.key(key))?.map(|number| number as f32))
    }
}

/// A window that is shorter than the context caps it: within the window, full attention is the same.
fn context_tokens(keys: &Keys<'_>) -> Result<u32, LoadError> {
    let trained = keys.required("context_length", u32::MAX)?;
    let window = match keys.gguf.number(&keys.key("attention.sliding_window"))? {
        None | Some(0) => u32::MAX,
        Some(window) => u32::try_from(window).unwrap_or(u32::MAX),
    };
    Ok(trained.min(window).min(CONTEXT_TOKENS_MAX))
}

fn rope(keys: &Keys<'_>, architecture: Architecture, head_width: u32) -> Result<Rope, LoadError> {
    let base = keys.float("rope.freq_base")?.unwrap_or(10_000.0);
    let dimensions = keys.optional("rope.dimension_count", head_width)?.unwrap_or(head_width);
    let divisor = match keys.gguf.text(&keys.key("rope.scaling.type"))? {
        None | Some("none") => 1.0,
        Some("linear") => keys.float("rope.scaling.factor")?.unwrap_or(1.0),
        Some(other) => {
            return Err(LoadError::Unsupported(format!("{other:?} scaling of positions")));
        }
    };
    if !(base.is_finite() && base > 1.0 && divisor.is_finite() && divisor >= 1.0 && dimensions % 2 == 0) {
        return Err(impossible("the rotary position parameters are out of range"));
    }
    Ok(Rope { base, divisor, dimensions, style: architecture.rope_style() })
}

fn refuse_unsupported(keys: &Keys<'_>) -> Result<(), LoadError> {
    if keys.gguf.number(&keys.key("expert_count"))?.is_some_and(|experts| experts > 0) {
        return Err(LoadError::Unsupported("a mixture of experts".to_owned()));
    }
    Ok(())
}

/// The label of `general.file_type`, else the storage type that holds the most bytes.
fn quantisation(gguf: &Gguf) -> Result<String, LoadError> {
    let label = match gguf.number("general.file_type")? {
        Some(0) => "F32",
        Some(1) => "F16",
        Some(2) => "Q4_0",
        Some(3) => "Q4_1",
        Some(7) => "Q8_0",
        Some(8) => "Q5_0",
        Some(9) => "Q5_1",
        Some(10) => "Q2_K",
        Some(11) => "Q3_K_S",
        Some(12) => "Q3_K_M",
        Some(13) => "Q3_K_L",
        Some(14) => "Q4_K_S",
        Some(15) => "Q4_K_M",
        Some(16) => "Q5_K_S",
        Some(17) => "Q5_K_M",
        Some(18) => "Q6_K",
        Some(32) => "BF16",
        _ => {
            let mut bytes = std::collections::BTreeMap::new();
            for tensor in gguf.tensors.values() {
                *bytes.entry(tensor.kind.name()).or_insert(0_u64) += tensor.bytes;
            }
            bytes.into_iter().max_by_key(|&(_, bytes)| bytes).map_or("", |(name, _)| name)
        }
    };
    Ok(label.to_owned())
}

fn missing(key: &str) -> LoadError {
    GgufError::MissingKey(key.to_owned()).into()
}

fn impossible(why: &str) -> LoadError {
    LoadError::Hyperparameters(why.to_owned())
}
