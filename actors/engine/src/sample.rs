//! Logits to a token: a pure function, so that the same logits, history, position and seed give the
//! same token on every machine, also after an answer was moved to another one half-way.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::error::SampleError;

/// How tokens are chosen. The default is greedy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 takes the likeliest token; higher spreads the choice. 0 to 100.
    pub temperature: f32,
    /// Keep the likeliest this many; 0 for all.
    pub top_k: u32,
    /// Keep the likeliest that together reach this probability. Over 0, at most 1; 1 for all.
    pub top_p: f32,
    /// Keep those at least this likely in proportion to the likeliest. 0 to 1; 0 for all.
    pub min_p: f32,
    /// Divides the logits of tokens that were used (multiplies negative ones). Over 0; 1 for none.
    pub repetition_penalty: f32,
    /// Taken off the logits of tokens that were used. -100 to 100; 0 for none.
    pub presence_penalty: f32,
    /// Taken off for each time a token was used. -100 to 100; 0 for none.
    pub frequency_penalty: f32,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: 0,
        }
    }
}

impl Sampling {
    /// Fails if a parameter is out of its range or not a number.
    pub fn check(&self) -> Result<(), SampleError> {
        let in_100 = |value: f32| (-100.0..=100.0).contains(&value);
        for (name, value, is_good, range) in [
            ("temperature", self.temperature, (0.0..=100.0).contains(&self.temperature), "from 0 to 100"),
            ("top_p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "over 0 and at most 1"),
            ("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), "from 0 to 1"),
            (
                "repetition_penalty",
                self.repetition_penalty,
                self.repetition_penalty > 0.0 && self.repetition_penalty <= 100.0,
                "over 0 and at most 100",
            ),
            ("presence_penalty", self.presence_penalty, in_100(self.presence_penalty), "from -100 to 100"),
            ("frequency_penalty", self.frequency_penalty, in_100(self.frequency_penalty), "from -100 to 100"),
        ] {
            if !is_good {
                return Err(SampleError::Parameter { name, value, range });
            }
        }
        Ok(())
    }

    fn penalises(&self) -> bool {
        self.repetition_penalty != 1.0 || self.presence_penalty != 0.0 || self.frequency_penalty != 0.0
    }
}

/// How much less likely than the likeliest a token may be (as a difference of scaled logits) before
/// it is left out unsorted: e^-24 each, a millionth for a whole vocabulary.
const NEGLIGIBLE: f32 = 24.0;

/// Chooses the token at `position` of a sequence. `history` is what penalties count.
///
/// Logits that are not numbers are never chosen; equal ones give the lower id.
pub fn sample(logits: &[f32], history: &[u32], position: u64, sampling: &Sampling) -> Result<u32, SampleError> {
    sampling.check()?;
    let mut candidates: Vec<(f32, u32)> = logits.iter().copied().zip(0..).collect();
    if sampling.penalises() {
        penalise(&mut candidates, history, sampling);
    }
    candidates.retain(|(logit, _)| !logit.is_nan() && *logit > f32::NEG_INFINITY);
    let best = candidates.iter().copied().min_by(likelier).ok_or(SampleError::NoCandidate)?;
    // An infinite logit leaves no choice, and a temperature this low leaves none either.
    if sampling.temperature < 1e-6 || best.0 == f32::INFINITY {
        return Ok(best.1);
    }
    for (logit, _) in &mut candidates {
        *logit = (*logit - best.0) / sampling.temperature;
    }
    let floor = (-NEGLIGIBLE).max(if sampling.min_p > 0.0 { sampling.min_p.ln() } else { f32::MIN });
    candidates.retain(|(logit, _)| *logit >= floor);
    keep_top_k(&mut candidates, sampling.top_k as usize);
    candidates.sort_unstable_by(likelier);
    Ok(draw(&candidates, sampling.top_p, uniform(sampling.seed, position)))
}

/// A token with its probability.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogProb {
    /// The token.
    pub token: u32,
    /// Natural logarithm of its probability, as the model gave it: before any parameter.
    pub log_prob: f32,
}

/// The probability of `chosen`, then those of the `top` likeliest tokens, likeliest first.
pub fn log_probs(logits: &[f32], chosen: u32, top: usize) -> Vec<LogProb> {
    let mut candidates: Vec<(f32, u32)> =
        logits.iter().copied().zip(0..).filter(|(logit, _)| logit.is_finite()).collect();
    let Some(best) = candidates.iter().copied().min_by(likelier) else {
        return Vec::new();
    };
    let sum: f64 = candidates.iter().map(|(logit, _)| f64::from(logit - best.0).exp()).sum();
    let log_prob = |(logit, token): (f32, u32)| LogProb { token, log_prob: logit - best.0 - sum.ln() as f32 };
    let own = logits.get(chosen as usize).filter(|logit| logit.is_finite()).map(|&logit| (logit, chosen));
    keep_top_k(&mut candidates, top.max(1));
    candidates.sort_unstable_by(likelier);
    own.into_iter().chain(candidates.into_iter().take(top)).map(log_prob).collect()
}

/// Orders the likelier first, and the lower id among equals.
fn likelier(a: &(f32, u32), b: &(f32, u32)) -> std::cmp::Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

fn penalise(candidates: &mut [(f32, u32)], history: &[u32], sampling: &Sampling) {
    let mut counts = BTreeMap::new();
    for &token in history {
        *counts.entry(token).or_insert(0_u32) += 1;
    }
    for (token, count) in counts {
        if let Some((logit, _)) = candidates.get_mut(token as usize) {
            let penalty = sampling.repetition_penalty;
            *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
            *logit -= sampling.presence_penalty + sampling.frequency_penalty * count as f32;
        }
    }
}

fn keep_top_k(candidates: &mut Vec<(f32, u32)>, top_k: usize) {
    if (1..candidates.len()).contains(&top_k) {
        candidates.select_nth_unstable_by(top_k - 1, likelier);
        candidates.truncate(top_k);
    }
}

/// Draws from `candidates`, sorted by logit, the likeliest at 0, cut where they reach `top_p`.
fn draw(candidates: &[(f32, u32)], top_p: f32, uniform: f64) -> u32 {
    let weights: Vec<f64> = candidates.iter().map(|(logit, _)| f64::from(*logit).exp()).collect();
    let goal = weights.iter().sum::<f64>() * f64::from(top_p);
    let mut kept = 0.0;
    let mut count = 0;
    while count < weights.len() && (count == 0 || kept < goal) {
        kept += weights[count];
        count += 1;
    }
    let mut rest = uniform * kept;
    for ((_, token), weight) in candidates.iter().zip(&weights).take(count) {
        if rest < *weight {
            return *token;
        }
        rest -= weight;
    }
    // Rounding can leave a crumb; it belongs to the last one kept.
    candidates[count - 1].1
}

/// A number in [0, 1) that depends on seed and position alone: each position has a stream of its own.
fn uniform(seed: u64, position: u64) -> f64 {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(position);
    (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hot(seed: u64) -> Sampling {
        Sampling { temperature: 1.0, seed, ..Sampling::default() }
    }

    #[test]
    fn greedy_takes_the_likeliest_and_the_lower_of_equals() {
        assert_eq!(sample(&[0.0, 2.0, 2.0, f32::NAN], &[], 0, &Sampling::default()), Ok(1));
        assert_eq!(sample(&[0.0, f32::INFINITY], &[], 0, &hot(3)), Ok(1));
    }

    #[test]
    fn nothing_usable_is_an_error_not_a_guess() {
        let broken = [f32::NAN, f32::NEG_INFINITY];
        assert_eq!(sample(&broken, &[], 0, &hot(1)), Err(SampleError::NoCandidate));
        assert_eq!(sample(&[], &[], 0, &Sampling::default()), Err(SampleError::NoCandidate));
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let logits = [0.0, 3.0_f32.ln(), f32::NEG_INFINITY];
        let ones = (0..4000).filter(|&position| sample(&logits, &[], position, &hot(7)) == Ok(1)).count();
        assert!((2850..3150).contains(&ones), "{ones} of 4000, not about 3000");
    }

    #[test]
    fn a_position_draws_the_same_whatever_was_drawn_before() {
        let logits: Vec<f32> = (0..100).map(|at| (at % 7) as f32).collect();
        let draw = |position| sample(&logits, &[], position, &hot(11)).unwrap();
        let forward: Vec<u32> = (0..50).map(draw).collect();
        let backward: Vec<u32> = (0..50).rev().map(draw).collect();
        assert!(forward.iter().eq(backward.iter().rev()));
        assert!(forward.windows(2).any(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn penalties_push_used_tokens_down() {
        let repeated = Sampling { repetition_penalty: 2.0, ..Sampling::default() };
        assert_eq!(sample(&[3.0, 2.0], &[0], 0, &repeated), Ok(1));
        let frequent = Sampling { frequency_penalty: 0.6, ..Sampling::default() };
        assert_eq!(sample(&[3.0, 2.0], &[0], 0, &frequent), Ok(0));
        assert_eq!(sample(&[3.0, 2.0], &[0, 0], 0, &frequent), Ok(1));
    }

    #[test]
    fn parameters_out_of_range_are_named() {
        let broken = Sampling { top_p: f32::NAN, ..Sampling::default() };
        assert!(matches!(broken.check(), Err(SampleError::Parameter { name: "top_p", .. })));
    }

    #[test]
    fn log_probabilities_sum_to_one() {
        let all = log_probs(&[1.0, 2.0, 0.5, f32::NAN], 0, 10);
        assert_eq!(all.len(), 4);
        assert_eq!((all[0].token, all[1].token), (0, 1));
        let sum: f32 = all[1..].iter().map(|one| one.log_prob.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-5);
    }

    proptest! {
        #[test]
        fn a_draw_obeys_its_parameters(
            logits in proptest::collection::vec(prop_oneof![8 => -20.0_f32..20.0, 1 => Just(f32::NAN)], 1..60),
            top_k in 0_u32..10,
            top_p in 0.01_f32..=1.0,
            temperature in 0.0_f32..3.0,
            seed in any::<u64>(),
            position in any::<u64>(),
        ) {
            let sampling = Sampling { temperature, top_k, top_p, seed, ..Sampling::default() };
            match sample(&logits, &[], position, &sampling) {
                Err(error) => {
                    prop_assert_eq!(error, SampleError::NoCandidate);
                    prop_assert!(logits.iter().all(|logit| logit.is_nan()));
                }
                Ok(token) => {
                    let chosen = logits[token as usize];
                    let better = logits.iter().filter(|&&logit| logit > chosen).count();
                    prop_assert!(!chosen.is_nan());
                    prop_assert!(top_k == 0 || better < top_k as usize);
                    prop_assert_eq!(sample(&logits, &[], position, &sampling), Ok(token));
                }
            }
        }

        #[test]
        fn any_bits_are_survived(bits in proptest::collection::vec(any::<u32>(), 0..40), seed in any::<u64>()) {
            let logits: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
            let _ = sample(&logits, &[1, 2], 0, &Sampling { top_p: 0.9, repetition_penalty: 1.3, ..hot(seed) });
            let _ = log_probs(&logits, 3, 5);
        }
    }
}
