//! One decoder layer: attention and a gated feed-forward part, each behind a norm and added to its
//! input (Llama, arXiv 2302.13971; the variants of Qwen add biases or norms on queries and keys).

use super::cache::Cache;
use crate::error::LoadError;
use crate::kernel::{self, Angles, Attention, Failure, Matrix, Rotary, Stored};
use crate::model::layout::{self, Architecture, Wanted};
use crate::model::{Card, Weights};

/// The weights of one layer.
pub(super) struct Layer {
    attention_norm: Vec<f32>,
    query: Projection,
    key: Projection,
    value: Projection,
    /// Norms on each head of queries and keys.
    head_norms: Option<(Vec<f32>, Vec<f32>)>,
    output: Projection,
    feed_norm: Vec<f32>,
    gate: Projection,
    up: Projection,
    down: Projection,
}

/// A matrix with a bias that may be absent.
struct Projection {
    matrix: Matrix,
    bias: Option<Vec<f32>>,
}

/// What a layer needs to know of the pass that it is in.
pub(super) struct Pass<'p> {
    /// The model.
    pub(super) card: &'p Card,
    /// Its rotary frequencies.
    pub(super) rotary: &'p Rotary,
    /// The angles of all rows.
    pub(super) angles: &'p Angles,
}

impl Layer {
    /// Loads layer `index`.
    pub(super) fn load(weights: &mut Weights<'_>, card: &Card, index: u32) -> Result<Self, LoadError> {
        let architecture = Architecture::from_name(&card.architecture)
            .ok_or_else(|| LoadError::Architecture(card.architecture.clone()))?;
        let mut source = Source { wanted: layout::layer(card, architecture, index), index, weights };
        let head_norms = match source.vector("attn_q_norm.weight")? {
            Some(query) => source.vector("attn_k_norm.weight")?.map(|key| (query, key)),
            None => None,
        };
        Ok(Self {
            attention_norm: source.required("attn_norm.weight")?,
            query: source.projection("attn_q")?,
            key: source.projection("attn_k")?,
            value: source.projection("attn_v")?,
            head_norms,
            output: source.projection("attn_output")?,
            feed_norm: source.required("ffn_norm.weight")?,
            gate: source.projection("ffn_gate")?,
            up: source.projection("ffn_up")?,
            down: source.projection("ffn_down")?,
        })
    }

    /// Bytes of the weights as they are held.
    pub(super) fn bytes(&self) -> u64 {
        let projections = [&self.query, &self.key, &self.value, &self.output, &self.gate, &self.up, &self.down];
        projections.iter().map(|projection| projection.matrix.bytes()).sum()
    }

    /// Computes all rows in place. `caches` gives each sequence's cache and its number of rows, in
    /// the order of the rows; `slot` is this layer's place in them.
    pub(super) fn forward(
        &self,
        pass: &Pass<'_>,
        slot: usize,
        rows: &mut [f32],
        caches: &mut [(&mut Cache, usize)],
    ) -> Result<(), Failure> {
        let epsilon = pass.card.norm_epsilon;
        let normed = kernel::rms_norm(rows, &self.attention_norm, epsilon);
        let attended = self.attend(pass, slot, &normed, caches)?;
        kernel::add(rows, &self.output.apply(&attended)?);

        let normed = kernel::rms_norm(rows, &self.feed_norm, epsilon);
        let mut gated = self.gate.apply(&normed)?;
        kernel::gate(&mut gated, &self.up.apply(&normed)?);
        kernel::add(rows, &self.down.apply(&gated)?);
        Ok(())
    }

    fn attend(
        &self,
        pass: &Pass<'_>,
        slot: usize,
        normed: &[f32],
        caches: &mut [(&mut Cache, usize)],
    ) -> Result<Vec<f32>, Failure> {
        let (heads, kv_heads) = (pass.card.heads as usize, pass.card.kv_heads as usize);
        let head_width = pass.card.head_width as usize;
        let (query_width, key_width) = (heads * head_width, kv_heads * head_width);

        let mut queries = self.query.apply(normed)?;
        let mut keys = self.key.apply(normed)?;
        let values = self.value.apply(normed)?;
        if let Some((query_norm, key_norm)) = &self.head_norms {
            kernel::rms_norm_in_place(&mut queries, query_norm, pass.card.norm_epsilon);
            kernel::rms_norm_in_place(&mut keys, key_norm, pass.card.norm_epsilon);
        }
        pass.rotary.turn(&mut queries, query_width, head_width, pass.angles);
        pass.rotary.turn(&mut keys, key_width, head_width, pass.angles);

        let mut attended = Vec::with_capacity(queries.len());
        let mut start = 0;
        for (cache, count) in caches {
            let span = |width: usize| start * width..(start + *count) * width;
            let first = cache.tokens() as usize;
            cache.write(slot, &keys[span(key_width)], &values[span(key_width)]);
            let (keys, values) = cache.read(slot);
            let shape = Attention { heads, kv_heads, head_width, first };
            attended.extend(kernel::attend(shape, &queries[span(query_width)], keys, values));
            start += *count;
        }
        Ok(attended)
    }
}

impl Projection {
    fn apply(&self, rows: &[f32]) -> Result<Vec<f32>, Failure> {
        let mut output = self.matrix.apply(rows)?;
        if let Some(bias) = &self.bias {
            kernel::add_bias(&mut output, bias);
        }
        Ok(output)
    }
}

/// Reads the tensors of one layer by the names of their parts, such as `attn_q.weight`.
struct Source<'s, 'm> {
    wanted: Vec<Wanted>,
    index: u32,
    weights: &'s mut Weights<'m>,
}

impl Source<'_, '_> {
    /// Takes a part out of the list, read from the file; `None` if the layer has no such part.
    fn take(&mut self, part: &str) -> Result<Option<(String, Stored)>, LoadError> {
        let name = format!("blk.{}.{part}", self.index);
        let Some(wanted) = self.wanted.iter().find(|wanted| wanted.name == name) else {
            return Ok(None);
        };
        Ok(self.weights.read(wanted)?.map(|stored| (name, stored)))
    }

    fn vector(&mut self, part: &str) -> Result<Option<Vec<f32>>, LoadError> {
        match self.take(part)? {
            None => Ok(None),
            Some((name, stored)) => kernel::dequantise(&stored).map(Some).map_err(|failure| failure.loading(&name)),
        }
    }

    fn required(&mut self, part: &str) -> Result<Vec<f32>, LoadError> {
        self.vector(part)?.ok_or_else(|| self.missing(part))
    }

    fn projection(&mut self, part: &str) -> Result<Projection, LoadError> {
        let weight = format!("{part}.weight");
        let (name, stored) = self.take(&weight)?.ok_or_else(|| self.missing(&weight))?;
        let matrix = Matrix::new(&stored).map_err(|failure| failure.loading(&name))?;
        Ok(Projection { matrix, bias: self.vector(&format!("{part}.bias"))? })
    }

    fn missing(&self, part: &str) -> LoadError {
        LoadError::MissingTensor(format!("blk.{}.{part}", self.index))
    }
}
