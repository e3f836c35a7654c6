//! What shards hand on: hidden states, and logits at the end.

use crate::defaults::FORWARD_ROWS_MAX;
use crate::error::ForwardError;

/// Hidden states: rows of `width` floats, one row a token.
#[derive(Clone, Debug, PartialEq)]
pub struct Hidden {
    width: usize,
    values: Vec<f32>,
}

impl Hidden {
    /// Wraps whole rows of `width` values.
    pub(crate) fn new(width: usize, values: Vec<f32>) -> Self {
        debug_assert_eq!(values.len() % width, 0, "hidden states come in whole rows");
        Self { width, values }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.width
    }

    /// Values of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// All values, row after row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The wire form: every value as a little-endian 32-bit float, row after row, nothing else.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    /// Reads the wire form. `width` is the model's (`Card::hidden`), never the peer's word.
    ///
    /// Fails unless the bytes are whole rows, at least one and at most [`FORWARD_ROWS_MAX`].
    pub fn from_bytes(width: usize, bytes: &[u8]) -> Result<Self, ForwardError> {
        let row_bytes = width.saturating_mul(size_of::<f32>());
        let whole = row_bytes > 0 && !bytes.is_empty() && bytes.len().is_multiple_of(row_bytes);
        if !whole || bytes.len() / row_bytes > FORWARD_ROWS_MAX {
            return Err(ForwardError::HiddenShape { bytes: bytes.len(), width, rows_max: FORWARD_ROWS_MAX });
        }
        let value = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        Ok(Self { width, values: bytes.chunks_exact(size_of::<f32>()).map(value).collect() })
    }
}

/// Logits: rows of one value for each token of the vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub struct Logits {
    vocabulary: usize,
    values: Vec<f32>,
}

impl Logits {
    /// Wraps whole rows of `vocabulary` values.
    pub(super) fn new(vocabulary: usize, values: Vec<f32>) -> Self {
        debug_assert_eq!(values.len() % vocabulary, 0, "logits come in whole rows");
        Self { vocabulary, values }
    }

    /// Number of rows; zero if none were asked for.
    pub fn rows(&self) -> usize {
        self.values.len() / self.vocabulary
    }

    /// The logits after row `index` of those asked for.
    pub fn row(&self, index: usize) -> Option<&[f32]> {
        self.values.chunks_exact(self.vocabulary).nth(index)
    }

    /// The logits after the last row; `None` if none were asked for.
    pub fn last(&self) -> Option<&[f32]> {
        self.values.chunks_exact(self.vocabulary).next_back()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn hidden_states_survive_the_wire(width in 1_usize..40, rows in 1_usize..20, seed in any::<u32>()) {
            let value = |at: usize| f32::from_bits((at as u32).wrapping_mul(seed) & 0x7f7f_ffff);
            let hidden = Hidden::new(width, (0..width * rows).map(value).collect());
            prop_assert_eq!(Hidden::from_bytes(width, &hidden.to_bytes()).unwrap(), hidden);
        }

        #[test]
        fn foreign_bytes_never_panic(width in 0_usize..10, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(hidden) = Hidden::from_bytes(width, &bytes) {
                prop_assert_eq!(hidden.rows() * hidden.width() * 4, bytes.len());
            }
        }
    }

    #[test]
    fn too_many_rows_are_refused_before_they_are_copied() {
        let bytes = vec![0; (FORWARD_ROWS_MAX + 1) * 4];
        assert!(matches!(Hidden::from_bytes(1, &bytes), Err(ForwardError::HiddenShape { .. })));
    }
}
