//! Which connection of a pair stays when both dial: the rule alone, without sockets.
//!
//! Both sides know both keys, so both decide alike: the lower key's dial wins. The higher key takes it and drops
//! its own; the lower key holds the other's back until its own has come to something. A connection that stands
//! is never replaced while its other side answers, so no call is lost to a tie.

use skep_runtime::NodeId;

/// What this side has towards a peer that dials it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Own {
    /// Nothing.
    Nothing,
    /// A dial that is under way.
    Dial,
    /// A connection that stands.
    Connection,
    /// A connection whose link is down already.
    Dead,
}

/// What to do with the peer's dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Take it; a dial or a dead connection of ours goes.
    Adopt,
    /// See what our own dial comes to first.
    Hold,
    /// See whether the standing connection answers: if it does, the peer's dial is a duplicate.
    Check,
}

/// Decides about the dial of `peer`; `held` says that it was held back long enough.
pub(super) fn verdict(me: NodeId, peer: NodeId, own: Own, held: bool) -> Verdict {
    match own {
        Own::Nothing | Own::Dead => Verdict::Adopt,
        Own::Dial if held || peer < me => Verdict::Adopt,
        Own::Dial => Verdict::Hold,
        Own::Connection => Verdict::Check,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_both_dial_exactly_one_side_takes_the_others() {
        let (low, high) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        assert_eq!(verdict(high, low, Own::Dial, false), Verdict::Adopt);
        assert_eq!(verdict(low, high, Own::Dial, false), Verdict::Hold);
    }

    #[test]
    fn a_dial_that_comes_to_nothing_does_not_hold_the_other_for_ever() {
        let (low, high) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        assert_eq!(verdict(low, high, Own::Dial, true), Verdict::Adopt);
        assert_eq!(verdict(low, high, Own::Nothing, false), Verdict::Adopt);
    }

    #[test]
    fn a_standing_connection_is_asked_before_it_is_replaced() {
        let (low, high) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        for (me, peer) in [(low, high), (high, low)] {
            assert_eq!(verdict(me, peer, Own::Connection, true), Verdict::Check);
            assert_eq!(verdict(me, peer, Own::Dead, false), Verdict::Adopt);
        }
    }
}
