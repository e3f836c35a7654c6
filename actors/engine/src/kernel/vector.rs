//! Lets plain loops run with the widest vector instructions that the processor has.
//!
//! Products are multiplied and added in two steps (no fused multiply-add), so that every
//! processor rounds alike and the same loops give the same bits.

/// Values that loops handle at a time: one AVX register.
pub(crate) const LANES: usize = 8;

/// Runs `work` compiled for AVX2 where the processor has it. `work` and all that it calls must be
/// `#[inline(always)]` closures and functions, or they are compiled for the baseline.
#[inline]
pub(crate) fn widest<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn avx2<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            #[allow(unsafe_code, reason = "calls a function compiled for a detected instruction set")]
            // SAFETY: the processor was just found to have AVX2; `avx2` needs nothing else.
            return unsafe { avx2(work) };
        }
    }
    work()
}

/// The scalar product.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += x[lane] * y[lane];
        }
    }
    sum(lanes) + tail
}

/// The sum of all lanes, always in the same order.
#[inline(always)]
pub(crate) fn sum(lanes: [f32; LANES]) -> f32 {
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// e to the power of `x`, within 2 units in the last place over the range where it is finite;
/// a polynomial, because calls into the C library do not vectorise. (Cephes `expf`.)
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts, so that the reduction loses no bits.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Adding and taking away 1.5 * 2^23 rounds to the nearest whole number.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let whole = x * LOG2_E + ROUND - ROUND;
    let rest = x - whole * LN_2_HIGH - whole * LN_2_LOW;
    let mut polynomial = 1.987_569_2e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        polynomial = polynomial * rest + coefficient;
    }
    let mantissa = polynomial * rest * rest + rest + 1.0;
    mantissa * f32::from_bits(((whole as i32 + 127) as u32) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_agrees_with_the_standard_library() {
        for step in -8600..8800 {
            let x = step as f32 / 100.0;
            let (ours, exact) = (exp(x), f64::from(x).exp());
            assert!((f64::from(ours) / exact - 1.0).abs() < 4e-7, "exp({x}) = {ours}, not {exact}");
        }
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
        assert!(exp(f32::INFINITY).is_finite());
    }

    #[test]
    fn a_dot_product_covers_lanes_and_tail() {
        let values: Vec<f32> = (0..19).map(|value| value as f32).collect();
        let exact: f32 = values.iter().map(|value| value * value).sum();
        assert_eq!(
            widest(
                #[inline(always)]
                || dot(&values, &values)
            ),
            exact
        );
    }
}
