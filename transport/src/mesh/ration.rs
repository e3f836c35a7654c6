//! How many datagrams of one peer are heard: a peer that floods takes no turn from the others.

use std::time::Duration;
use tokio::time::Instant;

/// Datagrams of one peer that are heard in a [`PERIOD`]. Membership sends a few to each peer in one; a swarm of a
/// thousand that gossips about a lost network sends tens.
const DATAGRAMS_MAX: u32 = 256;
/// The period that they are counted in.
const PERIOD: Duration = Duration::from_secs(1);

/// One peer's ration.
#[derive(Debug)]
pub(super) struct Ration {
    since: Instant,
    heard: u32,
}

impl Ration {
    pub(super) fn new(now: Instant) -> Ration {
        Ration { since: now, heard: 0 }
    }

    /// Whether one more is heard.
    pub(super) fn takes(&mut self, now: Instant) -> bool {
        if now.duration_since(self.since) >= PERIOD {
            *self = Ration::new(now);
        }
        self.heard = self.heard.saturating_add(1);
        self.heard <= DATAGRAMS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_cut_and_who_was_cut_is_heard_again() {
        let start = Instant::now();
        let mut ration = Ration::new(start);
        let mut heard = |at| (0..10 * DATAGRAMS_MAX).filter(|_| ration.takes(start + at)).count() as u32;
        assert_eq!(heard(Duration::ZERO), DATAGRAMS_MAX);
        assert_eq!(heard(PERIOD / 2), 0);
        assert_eq!(heard(PERIOD), DATAGRAMS_MAX);
    }
}
