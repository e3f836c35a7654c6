//! Hybrid logical time: the wall clock where it can be believed, a count where it can't, and who wrote.
//!
//! Stamps of one node never go back, and a stamp is later than everything that its writer had seen (Kulkarni et al.,
//! "Logical Physical Clocks", 2014). Own, in a page: the crate `uhlc` reads the clock through a plain function, which
//! a simulated node has no room in.

use serde::{Deserialize, Serialize};
use skep_runtime::NodeId;

/// How far ahead of this machine's clock a stamp may be. Clocks that are wrong by hours are followed, since order is
/// all that matters; one that is wrong by more would hold everyone's time in the future for as long.
pub const AHEAD_MAX_MS: u64 = 24 * 3_600_000;

/// When and by whom something was written. Ordered by time, then by count, then by node: no two writes are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// Milliseconds since 1970.
    pub ms: u64,
    /// Tells writes of one millisecond apart.
    pub count: u32,
    /// Who wrote.
    pub node: NodeId,
}

/// One node's hybrid clock.
#[derive(Debug, Clone)]
pub struct Clock {
    me: NodeId,
    ms: u64,
    count: u32,
}

impl Clock {
    /// A clock that has seen nothing.
    pub fn new(me: NodeId) -> Clock {
        Clock { me, ms: 0, count: 0 }
    }

    /// Whose it is.
    pub fn node(&self) -> NodeId {
        self.me
    }

    /// The next stamp, at this time on the wall.
    pub fn tick(&mut self, now_ms: u64) -> Stamp {
        (self.ms, self.count) = match () {
            () if now_ms > self.ms => (now_ms, 0),
            // The count is used up within a millisecond that never ends: time goes on without the wall.
            () if self.count == u32::MAX => (self.ms + 1, 0),
            () => (self.ms, self.count + 1),
        };
        Stamp { ms: self.ms, count: self.count, node: self.me }
    }

    /// Notes a stamp that was seen: the next own one is later. `false`, and nothing is noted, if it is too far ahead to
    /// be believed.
    pub fn saw(&mut self, stamp: Stamp, now_ms: u64) -> bool {
        let believed = stamp.ms <= now_ms.saturating_add(AHEAD_MAX_MS);
        if believed {
            (self.ms, self.count) = (self.ms, self.count).max((stamp.ms, stamp.count));
        }
        believed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    #[test]
    fn a_clock_that_would_drag_everyone_into_the_future_is_not_believed() {
        let mut clock = Clock::new(node(1));
        assert!(!clock.saw(Stamp { ms: 1000 + AHEAD_MAX_MS + 1, count: 0, node: node(2) }, 1000));
        assert_eq!(clock.tick(1000).ms, 1000);
        assert!(clock.saw(Stamp { ms: 3_600_000, count: 7, node: node(2) }, 1000));
        assert_eq!(clock.tick(1001), Stamp { ms: 3_600_000, count: 8, node: node(1) });
    }

    proptest! {
        #[test]
        fn each_stamp_is_later_than_all_that_was_written_or_seen_before(
            events in prop::collection::vec((0u64..20, prop::option::of((0u64..30, prop::sample::select(vec![0, 5, u32::MAX])))), 1..60),
        ) {
            let mut clock = Clock::new(node(1));
            let mut latest = None;
            for (now_ms, seen) in events {
                if let Some((ms, count)) = seen {
                    let stamp = Stamp { ms, count, node: node(9) };
                    prop_assert!(clock.saw(stamp, now_ms));
                    latest = latest.max(Some((ms, count)));
                }
                let stamp = clock.tick(now_ms);
                prop_assert!(Some((stamp.ms, stamp.count)) > latest);
                latest = Some((stamp.ms, stamp.count));
            }
        }
    }
}
