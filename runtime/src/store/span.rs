//! A range of key bytes: which part of a table a scan reads.

use super::Key;
use std::ops::{Bound, RangeBounds};

/// A range of keys of one table, in key order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    start: Bound<Vec<u8>>,
    end: Bound<Vec<u8>>,
}

impl Span {
    /// The whole table.
    #[must_use]
    pub fn all() -> Self {
        Self { start: Bound::Unbounded, end: Bound::Unbounded }
    }

    /// The keys of a Rust range: `Span::of(&(from..to))`.
    #[must_use]
    pub fn of<K: Key>(range: &impl RangeBounds<K>) -> Self {
        Self { start: range.start_bound().map(Key::to_bytes), end: range.end_bound().map(Key::to_bytes) }
    }

    /// The keys that begin with `prefix`: of a table keyed by `(A, B)`, all with this `A`.
    #[must_use]
    pub fn under<K: Key>(prefix: &K) -> Self {
        let start = prefix.to_bytes();
        let end = successor(start.clone()).map_or(Bound::Unbounded, Bound::Excluded);
        Self { start: Bound::Included(start), end }
    }

    /// What is left of this span behind the key with these bytes.
    #[must_use]
    pub fn after(&self, key: &[u8]) -> Self {
        Self { start: Bound::Excluded(key.to_vec()), end: self.end.clone() }
    }

    /// Both ends, as the engines take them.
    #[must_use]
    pub fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (self.start.as_ref().map(Vec::as_slice), self.end.as_ref().map(Vec::as_slice))
    }

    /// Whether no key can be in it. Engines panic on an inverted range, so nobody hands them one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self.bounds() {
            (Bound::Included(start), Bound::Included(end)) => start > end,
            (Bound::Included(start) | Bound::Excluded(start), Bound::Included(end) | Bound::Excluded(end)) => {
                start >= end
            }
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        }
    }
}

/// The least bytes greater than all that begin with `prefix`; `None` if there are none.
pub(super) fn successor(mut prefix: Vec<u8>) -> Option<Vec<u8>> {
    while let Some(last) = prefix.pop() {
        if let Some(next) = last.checked_add(1) {
            prefix.push(next);
            return Some(prefix);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_its_last_byte_grows() {
        assert_eq!(successor(vec![1, 2]), Some(vec![1, 3]));
        assert_eq!(successor(vec![1, 0xff]), Some(vec![2]));
        assert_eq!(successor(vec![0xff, 0xff]), None);
    }

    #[test]
    fn inverted_and_hollow_spans_are_empty() {
        let (low, high) = (5_u32, 6_u32);
        assert!(Span::of(&(5_u32..5)).is_empty());
        assert!(Span::of(&(high..low)).is_empty());
        assert!(!Span::of(&(5_u32..=5)).is_empty());
        assert!(Span::of(&(..=5_u32)).after(&5_u32.to_bytes()).is_empty());
        assert!(!Span::all().is_empty());
    }
}
