//! What a command does in simulation, where no process is started: a few words of the shell, one after another.
//!
//! `sleep S`, `echo WORDS`, `attempt` (its number), `flood BYTES`, `exit N`, separated by `;`. Anything else succeeds
//! at once. It is here so that placement, failure and cancelling can be simulated with a hundred nodes on one thread.

use super::output::Sink;
use std::time::Duration;

/// Bytes of the longest imitated flood.
const FLOOD_BYTES_MAX: usize = 64 << 20;

/// Runs the line to its end. Its exit status.
pub(super) async fn imitate(line: &str, attempt: u32, sink: &mut Sink) -> i32 {
    for step in line.split(';').map(str::trim) {
        let (word, rest) = step.split_once(' ').unwrap_or((step, ""));
        match word {
            "sleep" => {
                tokio::time::sleep(Duration::from_secs_f64(rest.parse::<f64>().unwrap_or(0.0).clamp(0.0, 1e6))).await
            }
            "echo" => sink.append(format!("{rest}\n").as_bytes()).await,
            "attempt" => sink.append(format!("{attempt}\n").as_bytes()).await,
            "flood" => sink.append(&vec![b'y'; rest.parse().unwrap_or(0).min(FLOOD_BYTES_MAX)]).await,
            "exit" => return rest.parse().unwrap_or(2),
            _ => {}
        }
    }
    0
}
