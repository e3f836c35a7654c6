//! Terms: owners in their order.

use serde::{Deserialize, Serialize};
use skep_runtime::NodeId;

/// An owner's right to decide about a record, and its place in the order of owners: a later one fences the earlier.
///
/// A takeover counts one up and puts 20 bits of the new owner's key behind the count, so that two nodes that take over
/// at once, each without knowing of the other, don't act in the same term; the later one of the two is everyone's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Term(pub u64);

impl Term {
    const KEY_BITS: u32 = 20;

    /// The term in which `by` takes a new command. It counts from the second on the wall, so that of two that were taken
    /// with one key the later one counts: the earlier is of a node that went before anybody heard of it, and whoever asked
    /// again has the later one. Comes back, the node finds that out before it acts.
    pub fn first(now_ms: u64, by: NodeId) -> Term {
        // Far beyond any wall clock's seconds; a clock that is as wrong as that must not overflow it.
        let seconds = (now_ms / 1000).min(u64::from(u32::MAX));
        Term(seconds << Term::KEY_BITS).next(by)
    }

    /// The term in which `by` takes over from whoever had this one.
    #[must_use]
    pub fn next(self, by: NodeId) -> Term {
        let [a, b, c, ..] = by.as_bytes();
        let key = u64::from(u32::from_le_bytes([*a, *b, *c, 0])) & ((1 << Term::KEY_BITS) - 1);
        Term((((self.0 >> Term::KEY_BITS) + 1) << Term::KEY_BITS) | key)
    }
}
