//! Q4_1 by way of Q4_0, which has vector kernels where Q4_1 has none.
//!
//! A Q4_1 weight is `scale * q + least`, a Q4_0 weight `scale * (q - 8)`: the same nibbles, apart by
//! `8 * scale + least` for the whole block. So a product is the Q4_0 product plus, for each block,
//! that shift times the sum of the inputs there. Exact, and the second part is a 32nd of the work.

use candle_core::quantized::QTensor;
use candle_core::{Device, Tensor};

use super::matrix::{Failure, tensor};
use super::stored::Stored;
use crate::gguf::TensorType;

/// Values that one block covers.
const BLOCK: usize = 32;
/// Bytes of a Q4_1 block: scale and least as 16-bit floats, then 32 nibbles.
const BLOCK_BYTES: usize = 20;
/// Bytes of the scale, which a Q4_0 block has too.
const SCALE_BYTES: usize = 2;
/// Where the nibbles begin.
const NIBBLES_AT: usize = 4;

/// A Q4_1 matrix, taken apart.
pub(super) struct Shifted {
    /// The Q4_0 part.
    pub(super) blocks: QTensor,
    /// The shift of each block: `rows` by `columns / 32`.
    shifts: Tensor,
}

impl Shifted {
    /// Takes `rows` by `columns` Q4_1 weights apart.
    pub(super) fn new(stored: &Stored, rows: usize, columns: usize) -> Result<Self, Failure> {
        let kind = |name| TensorType::from_name(name).ok_or(Failure::NoKernel(name));
        let count = rows * columns / BLOCK;
        let plain_bytes = BLOCK_BYTES - SCALE_BYTES;
        let mut plain = Stored::new(kind("Q4_0")?, Vec::new(), count * plain_bytes);
        let mut scales = Stored::new(kind("F16")?, Vec::new(), count * NIBBLES_AT);
        let source = stored.bytes().chunks_exact(BLOCK_BYTES);
        let targets = plain.bytes_mut().chunks_exact_mut(plain_bytes);
        let scale_targets = scales.bytes_mut().chunks_exact_mut(NIBBLES_AT);
        for ((block, plain), scales) in source.zip(targets).zip(scale_targets) {
            plain[..SCALE_BYTES].copy_from_slice(&block[..SCALE_BYTES]);
            plain[SCALE_BYTES..].copy_from_slice(&block[NIBBLES_AT..]);
            scales.copy_from_slice(&block[..NIBBLES_AT]);
        }
        let blocks = tensor(&plain, vec![rows, columns])?;
        let scales = tensor(&scales, vec![count, 2])?.dequantize(&Device::Cpu)?;
        let scales: Vec<f32> = scales.flatten_all()?.to_vec1()?;
        let shifts: Vec<f32> = scales.chunks_exact(2).map(|pair| 8.0 * pair[0] + pair[1]).collect();
        let shifts = Tensor::from_vec(shifts, (rows, columns / BLOCK), &Device::Cpu)?;
        Ok(Self { blocks, shifts })
    }

    /// What the Q4_0 product of `count` rows of inputs lacks.
    pub(super) fn correction(&self, input: &[f32], count: usize) -> Result<Vec<f32>, Failure> {
        let sums: Vec<f32> = input.chunks_exact(BLOCK).map(|block| block.iter().sum()).collect();
        let shape = (count, input.len() / BLOCK / count);
        let sums = Tensor::from_vec(sums, shape, &Device::Cpu)?;
        Ok(sums.matmul(&self.shifts.t()?)?.flatten_all()?.to_vec1()?)
    }

    /// Looks up the rows `ids`, which must be in range, one after the other.
    pub(super) fn look_up(&self, ids: &Tensor) -> Result<Vec<f32>, Failure> {
        let mut rows: Vec<f32> = self.blocks.embedding(ids)?.flatten_all()?.to_vec1()?;
        let shifts: Vec<f32> = self.shifts.index_select(ids, 0)?.flatten_all()?.to_vec1()?;
        for (block, shift) in rows.chunks_exact_mut(BLOCK).zip(shifts) {
            block.iter_mut().for_each(|value| *value += shift);
        }
        Ok(rows)
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.blocks.storage_size_in_bytes() + self.shifts.elem_count() * size_of::<f32>()
    }
}
