//! How fast a shard computes on this machine, for whoever plans where layers go.
//!
//! Computes for real on made-up input. Has no clock: the caller gives one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::defaults::FORWARD_ROWS_MAX;
use crate::error::ForwardError;
use crate::kernel;
use crate::shard::{Hidden, Input, LogitRows, Part, Shard};

/// How much to compute for a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Rows of the one prefill pass; 1 to [`FORWARD_ROWS_MAX`].
    pub prefill_rows: u32,
    /// Passes of one row each.
    pub decode_tokens: u32,
}

impl Default for Workload {
    /// A second or so for a model of 100 M parameters on two cores.
    fn default() -> Self {
        Self { prefill_rows: 64, decode_tokens: 16 }
    }
}

/// What a shard manages. Zero where the clock did not move.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// Tokens a second of a prompt.
    pub prefill_tokens_per_s: f64,
    /// Tokens a second of one answer, by the median pass.
    pub decode_tokens_per_s: f64,
    /// Threads that computed.
    pub threads: u32,
}

/// Measures `shard`. `elapsed` tells the time since any fixed moment.
///
/// The first pass of each kind is not counted: kernels arrange weights for themselves then.
pub fn measure(shard: &Shard, workload: Workload, elapsed: &dyn Fn() -> Duration) -> Result<Speed, ForwardError> {
    let prefill_rows = (workload.prefill_rows as usize).clamp(1, FORWARD_ROWS_MAX);
    let tokens_max = (prefill_rows as u32).saturating_add(workload.decode_tokens).saturating_add(1);
    let mut cache = shard.cache(tokens_max);
    let prefill_rows = prefill_rows.min(cache.tokens_max() as usize);
    let mut pass = |rows: usize, position: u32| -> Result<Duration, ForwardError> {
        cache.truncate(position);
        let start = elapsed();
        let logits = LogitRows::Last;
        if shard.is_first() {
            let tokens: Vec<u32> = (0..rows as u32).map(|at| at * 31 % shard.card().vocabulary).collect();
            shard.forward(&mut [Part { cache: &mut cache, position, input: Input::Tokens(&tokens), logits }])?;
        } else {
            let width = shard.card().hidden as usize;
            let hidden = Hidden::new(width, (0..rows * width).map(|at| (at % 17) as f32 / 17.0 - 0.5).collect());
            shard.forward(&mut [Part { cache: &mut cache, position, input: Input::Hidden(&hidden), logits }])?;
        }
        Ok(elapsed().saturating_sub(start))
    };
    pass(prefill_rows, 0)?;
    let prefill = pass(prefill_rows, 0)?;
    let held = prefill_rows as u32;
    let mut decode = Vec::new();
    for step in 0..=workload.decode_tokens {
        if held + step < shard.card().context_tokens {
            decode.push(pass(1, held + step)?);
        }
    }
    let counted = decode.get_mut(1..).unwrap_or_default();
    counted.sort_unstable();
    let median = counted.get(counted.len() / 2).copied().unwrap_or_default();
    Ok(Speed {
        prefill_tokens_per_s: per_second(prefill_rows, prefill),
        decode_tokens_per_s: per_second(1, median),
        threads: kernel::threads() as u32,
    })
}

fn per_second(count: usize, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() }
}
