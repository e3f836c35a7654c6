//! What one sequence has left behind in one shard: keys and values of each layer.

use std::ops::Range;

use crate::defaults::CACHE_GROWTH_TOKENS;

/// Keys and values of one sequence in one shard, as 32-bit floats.
///
/// Only [`crate::Shard::cache`] makes one, only that shard takes it. A pass that fails leaves it as
/// it was. A clone is a copy that goes its own way: several answers to one prompt share its cost.
#[derive(Clone)]
pub struct Cache {
    pub(super) layers: Range<u32>,
    kv_heads: usize,
    head_width: usize,
    tokens: u32,
    tokens_max: u32,
    /// `[layer][kv head]`, position after position.
    keys: Vec<Vec<Vec<f32>>>,
    values: Vec<Vec<Vec<f32>>>,
}

impl Cache {
    pub(super) fn new(layers: Range<u32>, kv_heads: u32, head_width: u32, tokens_max: u32) -> Self {
        let empty = vec![vec![Vec::new(); kv_heads as usize]; layers.len()];
        Self {
            layers,
            kv_heads: kv_heads as usize,
            head_width: head_width as usize,
            tokens: 0,
            tokens_max,
            keys: empty.clone(),
            values: empty,
        }
    }

    /// Tokens that it holds; the position at which the next row belongs.
    pub fn tokens(&self) -> u32 {
        self.tokens
    }

    /// Tokens that it may hold.
    pub fn tokens_max(&self) -> u32 {
        self.tokens_max
    }

    /// Forgets everything from position `tokens` on; the next row belongs there. Never grows.
    ///
    /// Use it to keep a shared prefix, to take back rejected drafts, or with 0 to start again.
    pub fn truncate(&mut self, tokens: u32) {
        self.tokens = self.tokens.min(tokens);
    }

    /// Bytes of memory that it holds now.
    pub fn bytes(&self) -> u64 {
        let floats = self.keys.iter().chain(&self.values).flatten().map(Vec::capacity);
        floats.sum::<usize>() as u64 * size_of::<f32>() as u64
    }

    /// Whether it has the shape that a shard of `layers` makes.
    pub(super) fn fits(&self, layers: &Range<u32>, kv_heads: u32, head_width: u32) -> bool {
        self.layers == *layers && self.kv_heads == kv_heads as usize && self.head_width == head_width as usize
    }

    /// Writes rows of keys and values behind the tokens held, without counting them yet.
    pub(super) fn write(&mut self, layer: usize, keys: &[f32], values: &[f32]) {
        let position = self.tokens as usize;
        for (rows, heads) in [(keys, &mut self.keys[layer]), (values, &mut self.values[layer])] {
            append(rows, heads, position, self.head_width);
        }
    }

    /// Keys and values of a layer, by head; what [`Cache::write`] wrote last included.
    pub(super) fn read(&self, layer: usize) -> (&[Vec<f32>], &[Vec<f32>]) {
        (&self.keys[layer], &self.values[layer])
    }

    /// Counts `rows` more tokens, after all layers have written them.
    pub(super) fn commit(&mut self, rows: usize) {
        self.tokens += rows as u32;
    }
}

/// Puts each head's part of each row behind the first `position` positions of that head.
fn append(rows: &[f32], heads: &mut [Vec<f32>], position: usize, head_width: usize) {
    let row_width = heads.len() * head_width;
    let count = rows.len() / row_width;
    for (index, head) in heads.iter_mut().enumerate() {
        head.truncate(position * head_width);
        let wanted = (position + count) * head_width;
        if wanted > head.capacity() {
            let step = CACHE_GROWTH_TOKENS * head_width;
            head.reserve_exact(wanted.next_multiple_of(step) - head.len());
        }
        for row in rows.chunks_exact(row_width) {
            head.extend_from_slice(&row[index * head_width..][..head_width]);
        }
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache")
            .field("layers", &self.layers)
            .field("tokens", &self.tokens)
            .field("tokens_max", &self.tokens_max)
            .finish_non_exhaustive()
    }
}
