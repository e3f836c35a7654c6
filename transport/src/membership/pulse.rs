//! What each node says of itself in gossip: small enough to ride along with a probe.

use serde::{Deserialize, Serialize};
use skep_runtime::{Load, NodeId};

/// A node's latest word on itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulse {
    /// Whose.
    pub node: NodeId,
    /// Grows with every pulse, across restarts as well.
    pub stamp: u64,
    /// The version of its card.
    pub card: u64,
    /// The start of its roster's digest: another than ours is a reason to compare.
    pub roster: u64,
    /// How busy it is.
    pub load: Load,
    /// It says goodbye.
    pub left: bool,
}
