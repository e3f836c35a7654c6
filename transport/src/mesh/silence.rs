//! Whether a connection leads nowhere any more: its peer was sent something that it has to acknowledge, and nothing came
//! back for a while.
//!
//! Membership can't tell: while others vouch for a peer it is up, though the way from here to it is dead (it got another
//! address, or a router forgot this flow). QUIC's own time-out is long, as handshakes are dear; calls wait for neither.

use quinn::ConnectionStats;
use std::time::Duration;
use tokio::time::Instant;

/// How long a peer may leave unanswered what it has to acknowledge: several retransmissions on a bad link, and less
/// than people wait for a command.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// What one connection carried when it was last looked at.
#[derive(Debug, Default)]
pub(super) struct Silence {
    heard: u64,
    asked: u64,
    /// Since when something is unanswered.
    since: Option<Instant>,
    over: bool,
}

impl Silence {
    /// Looks at a connection; says whether it leads nowhere.
    pub(super) fn look(&mut self, stats: &ConnectionStats, now: Instant) -> bool {
        let sent = &stats.frame_tx;
        // Acknowledgements are not acknowledged: a peer that has nothing to say is silent by right.
        self.see(stats.udp_rx.datagrams, sent.datagram + sent.stream + sent.ping, now)
    }

    fn see(&mut self, heard: u64, asked: u64, now: Instant) -> bool {
        if heard != self.heard {
            *self = Silence { heard, asked, since: None, over: false };
        } else if asked != self.asked {
            self.since.get_or_insert(now);
        }
        self.over = self.since.is_some_and(|since| now - since >= SILENCE_MAX);
        self.over
    }

    /// Whether it was found to lead nowhere.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(500);

    #[tokio::test(start_paused = true)]
    async fn who_answers_nothing_for_a_while_is_gone() {
        let (mut silence, start) = (Silence::default(), Instant::now());
        assert!(!silence.see(5, 1, start));
        assert!(!silence.see(5, 2, start + STEP));
        assert!(!silence.see(5, 4, start + STEP + SILENCE_MAX / 2));
        assert!(silence.see(5, 9, start + STEP + SILENCE_MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_is_asked_nothing_may_be_silent_for_ever() {
        let (mut silence, start) = (Silence::default(), Instant::now());
        assert!((0..1000).all(|step| !silence.see(5, 1, start + STEP * step)));
    }

    #[tokio::test(start_paused = true)]
    async fn any_packet_ends_a_silence() {
        let (mut silence, start) = (Silence::default(), Instant::now());
        assert!((0..1000).all(|step| !silence.see(5 + u64::from(step / 5), u64::from(step), start + STEP * step)));
    }
}
