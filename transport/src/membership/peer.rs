//! One run of a node, as gossip knows it: its key, and an epoch that grows with every start.

use skep_runtime::NodeId;
use std::fmt;

/// The largest epoch that is believed: the year 2200 in milliseconds. A forged larger one could not be outlived.
pub(super) const EPOCH_MAX: u64 = 7_258_118_400_000;

/// A node's run. A higher epoch replaces a lower one of the same key, so a restart leaves no ghost.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// Its key.
    pub id: NodeId,
    /// When it started, in milliseconds since 1970 by its own clock, or one more than a run that was declared down.
    pub epoch: u64,
}

impl foca::Identity for Peer {
    type Addr = NodeId;

    fn renew(&self) -> Option<Peer> {
        Some(Peer { epoch: self.epoch.saturating_add(1), ..*self })
    }

    fn addr(&self) -> NodeId {
        self.id
    }

    fn win_addr_conflict(&self, other: &Peer) -> bool {
        self.epoch > other.epoch
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}.{}", self.id, self.epoch)
    }
}
