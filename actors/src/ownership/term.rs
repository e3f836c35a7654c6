//! Terms: owners in their order.

use serde::{Deserialize, Serialize};
use skep_runtime::NodeId;

/// An owner's right to decide about a record, and its place in the order of owners: a later one fences the earlier.
///
/// A takeover counts one up and puts 20 bits of the new owner's key behind the count, so that two nodes that take over
/// at once, each without knowing of the other, don't act in the same term; the later one of the two is everyone's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Term(pub u64);

impl Term {
    const KEY_BITS: u32 = 20;

    /// The term in which `by` takes over from whoever had this one.
    #[must_use]
    pub fn next(self, by: NodeId) -> Term {
        let [a, b, c, ..] = by.as_bytes();
        let key = u64::from(u32::from_le_bytes([*a, *b, *c, 0])) & ((1 << Term::KEY_BITS) - 1);
        Term((((self.0 >> Term::KEY_BITS) + 1) << Term::KEY_BITS) | key)
    }
}
