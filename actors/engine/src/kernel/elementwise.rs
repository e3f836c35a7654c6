//! Norms, activations and sums over rows.

use super::vector::{dot, exp, widest};

/// Scales each row of `width` values to unit root mean square, times `weight`.
pub(crate) fn rms_norm(rows: &[f32], weight: &[f32], epsilon: f32) -> Vec<f32> {
    let mut normed = rows.to_vec();
    rms_norm_in_place(&mut normed, weight, epsilon);
    normed
}

/// The same in place; `rows` may also be heads, each `weight.len()` wide.
pub(crate) fn rms_norm_in_place(rows: &mut [f32], weight: &[f32], epsilon: f32) {
    let width = weight.len();
    widest(
        #[inline(always)]
        || {
            for row in rows.chunks_exact_mut(width) {
                let scale = 1.0 / (dot(row, row) / width as f32 + epsilon).sqrt();
                for (value, weight) in row.iter_mut().zip(weight) {
                    *value = *value * scale * weight;
                }
            }
        },
    );
}

/// Adds `other` to `values`.
pub(crate) fn add(values: &mut [f32], other: &[f32]) {
    for (value, other) in values.iter_mut().zip(other) {
        *value += other;
    }
}

/// Adds `bias` to each row.
pub(crate) fn add_bias(rows: &mut [f32], bias: &[f32]) {
    for row in rows.chunks_exact_mut(bias.len()) {
        add(row, bias);
    }
}

/// The gated linear unit: `gate` becomes `silu(gate) * up`.
pub(crate) fn gate(gate: &mut [f32], up: &[f32]) {
    widest(
        #[inline(always)]
        || {
            for (value, up) in gate.iter_mut().zip(up) {
                *value = *value / (1.0 + exp(-*value)) * up;
            }
        },
    );
}
