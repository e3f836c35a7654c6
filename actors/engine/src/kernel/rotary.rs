//! Rotary position embedding (RoFormer, arXiv 2104.09864): pairs of elements are turned by an angle
//! that grows with the position.

use crate::model::{Rope, RopeStyle};

/// The frequencies of a model.
pub(crate) struct Rotary {
    frequencies: Vec<f64>,
    style: RopeStyle,
}

/// Sine and cosine for each row and pair.
pub(crate) struct Angles(Vec<(f32, f32)>);

impl Rotary {
    /// `factors` divide the frequencies one by one; empty for none.
    pub(crate) fn new(rope: &Rope, factors: &[f32]) -> Self {
        let pairs = rope.dimensions / 2;
        let frequency = |pair: u32| {
            let exponent = -2.0 * f64::from(pair) / f64::from(rope.dimensions);
            let factor = factors.get(pair as usize).map_or(1.0, |&factor| f64::from(factor));
            f64::from(rope.base).powf(exponent) / f64::from(rope.divisor) / factor
        };
        Self { frequencies: (0..pairs).map(frequency).collect(), style: rope.style }
    }

    /// The angles of rows at `positions`; computed once a pass and used by every layer.
    pub(crate) fn angles(&self, positions: impl Iterator<Item = u32>) -> Angles {
        // In f64, because at position 100,000 an f32 angle is off by a hundredth.
        let turn = |position: u32| {
            self.frequencies.iter().map(move |frequency| {
                let (sine, cosine) = (f64::from(position) * frequency).sin_cos();
                (sine as f32, cosine as f32)
            })
        };
        Angles(positions.flat_map(turn).collect())
    }

    /// Turns rows of heads, each head `head_width` wide and `row_width` values to a row.
    pub(crate) fn turn(&self, rows: &mut [f32], row_width: usize, head_width: usize, angles: &Angles) {
        let pairs = self.frequencies.len();
        for (row, angles) in rows.chunks_exact_mut(row_width).zip(angles.0.chunks_exact(pairs)) {
            for head in row.chunks_exact_mut(head_width) {
                for (pair, &(sine, cosine)) in angles.iter().enumerate() {
                    let (first, second) = match self.style {
                        RopeStyle::Interleaved => (2 * pair, 2 * pair + 1),
                        RopeStyle::Halves => (pair, pair + pairs),
                    };
                    let (a, b) = (head[first], head[second]);
                    head[first] = a * cosine - b * sine;
                    head[second] = a * sine + b * cosine;
                }
            }
        }
    }
}
