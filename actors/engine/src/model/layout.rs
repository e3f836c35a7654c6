//! Which tensors an architecture has, by name and shape. The one place that knows their names.

use super::{Card, RopeStyle};
use crate::error::LoadError;
use crate::gguf::{Gguf, Tensor};

/// The embedding table.
pub(crate) const EMBEDDING: &str = "token_embd.weight";
/// The norm before the head.
const FINAL_NORM: &str = "output_norm.weight";
/// The output head; absent when it is tied to the embedding.
pub(crate) const HEAD: &str = "output.weight";
/// Divisors of the rotary frequencies (Llama 3.1 and later); may be absent.
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// Decoders that the engine has: one block structure with small differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Architecture {
    /// Llama, Mistral, SmolLM and everything else that calls itself `llama`.
    Llama,
    /// Qwen 2 and 2.5: biases on query, key and value.
    Qwen2,
    /// Qwen 3: norms on query and key.
    Qwen3,
}

impl Architecture {
    /// The architecture that a file calls by `name`.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "llama" => Some(Self::Llama),
            "qwen2" => Some(Self::Qwen2),
            "qwen3" => Some(Self::Qwen3),
            _ => None,
        }
    }

    /// Converters permute the projections of llama files for interleaved pairs; the others keep halves.
    pub(crate) fn rope_style(self) -> RopeStyle {
        match self {
            Self::Llama => RopeStyle::Interleaved,
            Self::Qwen2 | Self::Qwen3 => RopeStyle::Halves,
        }
    }
}

/// What a tensor must be.
pub(crate) struct Wanted {
    /// Its name.
    pub(crate) name: String,
    /// Its dimensions, row length first.
    pub(crate) dimensions: Vec<u64>,
    /// Whether the model can't do without it.
    pub(crate) required: bool,
}

fn matrix(name: impl Into<String>, columns: u32, rows: u32) -> Wanted {
    Wanted { name: name.into(), dimensions: vec![columns.into(), rows.into()], required: true }
}

fn vector(name: impl Into<String>, length: u32) -> Wanted {
    Wanted { name: name.into(), dimensions: vec![length.into()], required: true }
}

fn optional(wanted: Wanted) -> Wanted {
    Wanted { required: false, ..wanted }
}

/// The embedding table.
pub(crate) fn embedding(card: &Card) -> Wanted {
    matrix(EMBEDDING, card.hidden, card.vocabulary)
}

/// The final norm and the head, which is the embedding table if they are tied.
pub(crate) fn head(card: &Card) -> [Wanted; 2] {
    let table = if card.tied { embedding(card) } else { matrix(HEAD, card.hidden, card.vocabulary) };
    [vector(FINAL_NORM, card.hidden), table]
}

/// Divisors of the rotary frequencies, one a pair.
pub(crate) fn rope_factors(card: &Card) -> Wanted {
    optional(vector(ROPE_FACTORS, card.rope.dimensions / 2))
}

/// The tensors of one layer.
pub(crate) fn layer(card: &Card, architecture: Architecture, layer: u32) -> Vec<Wanted> {
    let name = |part: &str| format!("blk.{layer}.{part}");
    let (queries, keys) = (card.heads * card.head_width, card.kv_heads * card.head_width);
    let mut tensors = vec![
        vector(name("attn_norm.weight"), card.hidden),
        matrix(name("attn_q.weight"), card.hidden, queries),
        matrix(name("attn_k.weight"), card.hidden, keys),
        matrix(name("attn_v.weight"), card.hidden, keys),
        matrix(name("attn_output.weight"), queries, card.hidden),
        vector(name("ffn_norm.weight"), card.hidden),
        matrix(name("ffn_gate.weight"), card.hidden, card.feed_forward),
        matrix(name("ffn_up.weight"), card.hidden, card.feed_forward),
        matrix(name("ffn_down.weight"), card.feed_forward, card.hidden),
    ];
    let biases =
        [vector(name("attn_q.bias"), queries), vector(name("attn_k.bias"), keys), vector(name("attn_v.bias"), keys)];
    match architecture {
        Architecture::Llama => {
            tensors.extend(biases.map(optional));
            tensors.push(optional(vector(name("attn_output.bias"), card.hidden)));
        }
        Architecture::Qwen2 => tensors.extend(biases),
        Architecture::Qwen3 => {
            tensors.push(vector(name("attn_q_norm.weight"), card.head_width));
            tensors.push(vector(name("attn_k_norm.weight"), card.head_width));
        }
    }
    tensors
}

/// Finds a tensor in its right shape; `None` if it is optional and absent.
pub(crate) fn find<'g>(gguf: &'g Gguf, wanted: &Wanted) -> Result<Option<&'g Tensor>, LoadError> {
    match gguf.tensors.get(&wanted.name) {
        Some(tensor) if tensor.dimensions == wanted.dimensions => Ok(Some(tensor)),
        Some(tensor) => Err(LoadError::TensorShape {
            name: wanted.name.clone(),
            found: tensor.dimensions.clone(),
            wanted: wanted.dimensions.clone(),
        }),
        None if wanted.required => Err(LoadError::MissingTensor(wanted.name.clone())),
        None => Ok(None),
    }
}
