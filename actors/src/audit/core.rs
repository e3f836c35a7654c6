//! What a node's audit log decides: which entry comes next, when the oldest ones go, and which belong to a turn.
//!
//! No disk, clock or task: what [`Core::next`] gives counts once it is on the disk and [`Core::flushed`] has said so.

use super::entry::{Head, NOTHING, Row, What};
use skep_runtime::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Entries that a log keeps, at 300 bytes to 5 KiB each: months of an agent that works all day.
pub const ENTRIES_MAX: u64 = 50_000;
/// Entries that go at once when there are more: one removal is one batch of the store.
pub const CUT_ENTRIES: u64 = 5_000;

/// Whether a log that ends with entry `ends` may have removed this one: it keeps at least as many behind it.
pub fn may_be_gone(seq: u64, ends: u64) -> bool {
    ends.saturating_sub(seq) >= ENTRIES_MAX
}

/// Entries to be written, and what goes for them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Next {
    /// In order.
    pub rows: Vec<(u64, Row)>,
    /// These leave the disk in the same batch.
    pub cut: std::ops::Range<u64>,
}

/// One node's log, as far as it is in memory.
#[derive(Debug)]
pub struct Core {
    me: NodeId,
    head: Head,
    /// The first entry that is kept.
    first: u64,
    turns: BTreeMap<Uuid, BTreeSet<u64>>,
    entries_max: u64,
    cut_entries: u64,
}

impl Core {
    /// The empty log of a node.
    pub fn new(me: NodeId) -> Core {
        Core::bounded(me, ENTRIES_MAX, CUT_ENTRIES)
    }

    /// The same with other bounds.
    pub fn bounded(me: NodeId, entries_max: u64, cut_entries: u64) -> Core {
        let head = Head { seq: 0, hash: NOTHING };
        Core { me, head, first: 1, turns: BTreeMap::new(), entries_max, cut_entries }
    }

    /// An entry that is on the disk, in order.
    pub fn load(&mut self, seq: u64, row: &Row) {
        if self.head.seq == 0 {
            self.first = seq;
        }
        self.head = Head { seq, hash: row.hash };
        if let Some(turn) = row.what().and_then(|what| what.turn()) {
            self.turns.entry(turn).or_default().insert(seq);
        }
    }

    /// The last entry.
    pub fn head(&self) -> Head {
        self.head
    }

    /// These happened. They are no entries before they are on the disk.
    pub fn next(&self, whats: impl IntoIterator<Item = What>, now_ms: u64) -> Next {
        Next { rows: self.chain(self.following(), whats, now_ms), cut: self.first..self.first }
    }

    /// Others have seen more of this log than there is: what comes next is numbered behind what they have seen, so that
    /// whoever checks finds the hole.
    pub fn lost(&self, seen: Head, now_ms: u64) -> Next {
        let from = self.following().max(seen.seq.saturating_add(1));
        Next { rows: self.chain(from, [What::Lost(seen)], now_ms), cut: self.first..self.first }
    }

    fn chain(&self, from: u64, whats: impl IntoIterator<Item = What>, now_ms: u64) -> Vec<(u64, Row)> {
        let mut prev = self.head.hash;
        let row = |(seq, what)| {
            let row = Row::new(self.me, seq, now_ms, &what, prev);
            prev = row.hash;
            (seq, row)
        };
        (from..=u64::MAX).zip(whats).map(row).collect()
    }

    /// Which entries have to go, if there are too many: all up to this one, which stays known by its hash.
    pub fn overdue(&self) -> Option<u64> {
        let kept = self.following().saturating_sub(self.first);
        (kept >= self.entries_max + self.cut_entries).then(|| self.first + self.cut_entries - 1)
    }

    /// The entry that says that all up to `last` are gone, and their removal, as one.
    pub fn cut(&self, last: Head, now_ms: u64) -> Next {
        Next { rows: self.chain(self.following(), [What::Cut(last)], now_ms), cut: self.first..last.seq + 1 }
    }

    /// They are on the disk.
    pub fn flushed(&mut self, next: &Next) {
        next.rows.iter().for_each(|(seq, row)| self.load(*seq, row));
        if next.cut.end > self.first {
            self.first = next.cut.end;
            self.turns.retain(|_, seqs| {
                *seqs = seqs.split_off(&next.cut.end);
                !seqs.is_empty()
            });
        }
    }

    /// The entries of a turn.
    pub fn of_turn(&self, turn: Uuid) -> Vec<u64> {
        self.turns.get(&turn).into_iter().flatten().copied().collect()
    }

    /// The newest entries, at most so many.
    pub fn newest(&self, count: u64) -> std::ops::RangeInclusive<u64> {
        self.following().saturating_sub(count).max(self.first)..=self.head.seq
    }

    /// The number behind the last one. Whoever wrote the disk may have put any there.
    fn following(&self) -> u64 {
        self.head.seq.saturating_add(1)
    }
}
