//! A decoder as the papers write it, in plain loops over `f32` weights: what the engine is compared with.
//! Slow, without a cache, for `llama` files that store everything as F32.

use std::path::Path;

use skep_engine::{Card, Model, RopeStyle};

/// A whole model's weights.
pub(crate) struct Reference {
    card: Card,
    file: Vec<u8>,
    model: Model,
}

impl Reference {
    pub(crate) fn open(path: &Path) -> Self {
        let model = Model::open(path).unwrap();
        Self { card: model.card().clone(), file: std::fs::read(path).unwrap(), model }
    }

    fn weights(&self, name: &str) -> Option<Vec<f32>> {
        let gguf = self.model.gguf();
        let tensor = gguf.tensors.get(name)?;
        assert_eq!(tensor.kind.name(), "F32", "the reference reads plain floats only");
        let start = (gguf.data_offset + tensor.offset) as usize;
        let bytes = &self.file[start..start + tensor.bytes as usize];
        Some(bytes.chunks_exact(4).map(|value| f32::from_le_bytes(value.try_into().unwrap())).collect())
    }

    fn need(&self, name: &str) -> Vec<f32> {
        self.weights(name).unwrap_or_else(|| panic!("{name} is missing"))
    }

    /// The logits after every token.
    pub(crate) fn logits(&self, tokens: &[u32]) -> Vec<Vec<f32>> {
        let width = self.card.hidden as usize;
        let table = self.need("token_embd.weight");
        let mut rows: Vec<Vec<f32>> =
            tokens.iter().map(|&token| table[token as usize * width..][..width].to_vec()).collect();
        for layer in 0..self.card.layers {
            self.layer(layer, &mut rows);
        }
        let norm = self.need("output_norm.weight");
        let head = self.weights("output.weight").unwrap_or(table);
        rows.iter().map(|row| times(&head, &self.normed(row, &norm))).collect()
    }

    fn layer(&self, layer: u32, rows: &mut [Vec<f32>]) {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let project = |part: &str, row: &[f32]| {
            let mut output = times(&self.need(&name(&format!("{part}.weight"))), row);
            if let Some(bias) = self.weights(&name(&format!("{part}.bias"))) {
                output.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
            }
            output
        };
        let (heads, kv_heads) = (self.card.heads as usize, self.card.kv_heads as usize);
        let width = self.card.head_width as usize;
        let norm = self.need(&name("attn_norm.weight"));
        let (mut queries, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for (position, row) in rows.iter().enumerate() {
            let normed = self.normed(row, &norm);
            let mut query = project("attn_q", &normed);
            let mut key = project("attn_k", &normed);
            for (part, heads) in [("attn_q_norm.weight", &mut query), ("attn_k_norm.weight", &mut key)] {
                if let Some(norm) = self.weights(&name(part)) {
                    *heads = heads.chunks(width).flat_map(|head| self.normed(head, &norm)).collect();
                }
            }
            self.turn(&mut query, position);
            self.turn(&mut key, position);
            queries.push(query);
            keys.push(key);
            values.push(project("attn_v", &normed));
        }
        for (position, row) in rows.iter_mut().enumerate() {
            let mut attended = vec![0.0; heads * width];
            for head in 0..heads {
                let shared = head / (heads / kv_heads) * width;
                let query = &queries[position][head * width..][..width];
                let scores: Vec<f32> = (0..=position)
                    .map(|seen| (dot(query, &keys[seen][shared..][..width]) / (width as f32).sqrt()).exp())
                    .collect();
                let total: f32 = scores.iter().sum();
                for (seen, score) in scores.iter().enumerate() {
                    for at in 0..width {
                        attended[head * width + at] += score / total * values[seen][shared + at];
                    }
                }
            }
            add(row, &project("attn_output", &attended));
            let normed = self.normed(row, &self.need(&name("ffn_norm.weight")));
            let gate = project("ffn_gate", &normed);
            let up = project("ffn_up", &normed);
            let gated: Vec<f32> = gate.iter().zip(&up).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect();
            add(row, &project("ffn_down", &gated));
        }
    }

    fn normed(&self, row: &[f32], weight: &[f32]) -> Vec<f32> {
        let scale = 1.0 / (dot(row, row) / row.len() as f32 + self.card.norm_epsilon).sqrt();
        row.iter().zip(weight).map(|(value, weight)| value * scale * weight).collect()
    }

    fn turn(&self, heads: &mut [f32], position: usize) {
        let pairs = self.card.rope.dimensions as usize / 2;
        for head in heads.chunks_mut(self.card.head_width as usize) {
            for pair in 0..pairs {
                let exponent = -2.0 * pair as f32 / self.card.rope.dimensions as f32;
                let angle = position as f32 * self.card.rope.base.powf(exponent) / self.card.rope.divisor;
                let (first, second) = match self.card.rope.style {
                    RopeStyle::Interleaved => (2 * pair, 2 * pair + 1),
                    RopeStyle::Halves => (pair, pair + pairs),
                };
                let (a, b) = (head[first], head[second]);
                head[first] = a * angle.cos() - b * angle.sin();
                head[second] = a * angle.sin() + b * angle.cos();
            }
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn times(matrix: &[f32], row: &[f32]) -> Vec<f32> {
    matrix.chunks_exact(row.len()).map(|weights| dot(weights, row)).collect()
}

fn add(row: &mut [f32], other: &[f32]) {
    row.iter_mut().zip(other).for_each(|(value, other)| *value += other);
}
