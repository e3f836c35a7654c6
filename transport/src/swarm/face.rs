//! What one node knows of one member beside its place on the roster: what gossip says, where it is, what is overdue.
//!
//! The driver keeps it and acts on it; nothing here sends or asks.

use crate::{
    defaults::{EXCHANGE_PAUSE, EXCHANGE_PAUSE_MAX, ROSTER_GRACE},
    membership::cards::Card,
};
use skep_runtime::{Load, member::State};
use std::net::SocketAddr;
use tokio::time::Instant;

/// What the picture shows of a member beside its place on the roster.
#[derive(Debug, Clone, Default)]
pub(super) struct Face {
    pub(super) state: Option<State>,
    pub(super) name: Option<String>,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) seen_ms: u64,
    pub(super) load: Load,
    pub(super) card: Card,
    /// The newest version of its card that was heard of.
    pub(super) card_heard: u64,
    /// Since when its roster is said to be another one.
    pub(super) differs_since: Option<Instant>,
    pub(super) pull_after: Option<Instant>,
    pub(super) pulling: bool,
    pub(super) exchange_after: Option<Instant>,
    pub(super) exchanging: bool,
    pub(super) wants_exchange: bool,
    /// Exchanges that failed since one succeeded.
    pub(super) exchanges_failed: u32,
}

impl Face {
    /// Whether it can be called: gossip says that it is up, and there is an address to dial. Gossip may be first.
    pub(super) fn answers(&self) -> bool {
        self.state == Some(State::Up) && !self.addresses.is_empty()
    }

    /// What the picture shows of it. Who can't be called yet is not shown as up.
    pub(super) fn shown(&self) -> State {
        self.state.filter(|state| *state != State::Up || self.answers()).unwrap_or(State::Down)
    }

    /// Takes its card; says whether it is a newer one.
    pub(super) fn has_card(&mut self, card: Option<Card>) -> bool {
        let newer = card.filter(|card| card.version > self.card.version);
        let news = newer.is_some();
        self.card = newer.unwrap_or_else(|| std::mem::take(&mut self.card));
        news
    }

    /// Gossip tells whether it has this node's roster.
    pub(super) fn heard_roster(&mut self, same: bool, now: Instant) {
        self.differs_since = if same { None } else { self.differs_since.or(Some(now)) };
    }

    /// Whether its roster has been another one for so long that this is no news under way.
    pub(super) fn differs(&self, now: Instant) -> bool {
        self.differs_since.is_some_and(|since| now - since >= ROSTER_GRACE)
    }

    /// The exchange with it has ended. One that failed is made good later: a connection that outlives a broken
    /// network gives no other reason for it.
    pub(super) fn exchanged(&mut self, met: bool, now: Instant) {
        self.exchanging = false;
        if met {
            self.exchanges_failed = 0;
            return;
        }
        self.exchanges_failed = self.exchanges_failed.saturating_add(1);
        self.wants_exchange = true;
        let pause = EXCHANGE_PAUSE.saturating_mul(1 << self.exchanges_failed.min(8));
        self.exchange_after = Some(now + pause.min(EXCHANGE_PAUSE_MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn who_is_up_by_hearsay_and_can_not_be_dialled_is_not_shown_as_up() {
        let mut face = Face { state: Some(State::Up), ..Face::default() };
        assert_eq!(face.shown(), State::Down);
        face.addresses.push(SocketAddr::from(([10, 0, 0, 1], 4892)));
        assert_eq!(face.shown(), State::Up);
        face.state = Some(State::Left);
        assert_eq!(face.shown(), State::Left);
    }

    #[tokio::test(start_paused = true)]
    async fn a_roster_that_differs_for_a_moment_is_news_under_way() {
        let (mut face, start) = (Face::default(), Instant::now());
        face.heard_roster(false, start);
        face.heard_roster(false, start + ROSTER_GRACE / 2);
        assert!(!face.differs(start + ROSTER_GRACE / 2) && face.differs(start + ROSTER_GRACE));
        face.heard_roster(true, start + ROSTER_GRACE);
        assert!(!face.differs(start + 2 * ROSTER_GRACE));
    }

    #[tokio::test(start_paused = true)]
    async fn an_exchange_that_failed_is_wanted_again_after_a_pause_that_has_an_end() {
        let (mut face, now) = (Face::default(), Instant::now());
        let pauses: Vec<Duration> = (0..40)
            .map(|_| {
                (face.wants_exchange, face.exchanging) = (false, true);
                face.exchanged(false, now);
                assert!(face.wants_exchange && !face.exchanging);
                face.exchange_after.unwrap() - now
            })
            .collect();
        assert!(pauses.is_sorted() && pauses[0] >= EXCHANGE_PAUSE && pauses[39] == EXCHANGE_PAUSE_MAX);
        face.exchanged(true, now);
        assert_eq!(face.exchanges_failed, 0);
    }
}
