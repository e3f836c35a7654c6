//! How a caller's wishes become a way to choose words.

use skep_actors::{pipeline::Sampling, runtime::Env};

/// OpenAI's own default, which clients count on, is 1; small models ramble at it. This is what they are tuned for.
const TEMPERATURE: f32 = 0.7;

/// What the caller said about it.
pub(crate) struct Choice {
    pub(crate) temperature: Option<f32>,
    pub(crate) top_p: Option<f32>,
    pub(crate) seed: Option<i64>,
}

impl Choice {
    /// The same, completed; without a seed each call gets another.
    pub(crate) fn sampling(self, env: &Env) -> Sampling {
        Sampling {
            temperature: self.temperature.unwrap_or(TEMPERATURE),
            top_p: self.top_p.unwrap_or(1.0),
            seed: self.seed.map_or_else(|| u64::from_le_bytes(env.bytes()), i64::cast_unsigned),
            ..Sampling::default()
        }
    }
}
