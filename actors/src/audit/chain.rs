//! Whether a log is whole: its entries are read in order, and the first that is not as it must be is named.
//!
//! No disk and no link: rows come in, a [`Fault`] or the log's head comes out. That a log was cut short can't be seen in it;
//! so it is compared with what other members have seen of it ([`Chain::expect`]).

use super::{
    core::ENTRIES_MAX,
    entry::{Head, NOTHING, Row, SEQ_MAX, What},
};
use crate::digest::Digest;
use serde::{Deserialize, Serialize};
use skep_runtime::NodeId;
use std::collections::BTreeMap;

/// What is wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Fault {
    /// Entries are not there.
    #[error("entries {from} to {to} are missing")]
    Missing {
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },
    /// An entry is not what its hash says.
    #[error("entry {0} was changed")]
    Changed(u64),
    /// An entry doesn't follow the one before it.
    #[error("entry {0} does not follow the one before it: one of both was put in another's place")]
    Unlinked(u64),
    /// The first entries are gone, and nothing says that they were removed.
    #[error("the log begins with entry {0}, and no entry says that those before it were removed")]
    Beheaded(u64),
    /// It says that others were removed which a log of this length still has.
    #[error("entry {0} says that others were removed, and the log is too short for that: somebody took them out")]
    Cut(u64),
    /// The log is shorter than another member has seen it.
    #[error("the log ends with entry {ends}, and another member has seen entry {seen}")]
    Short {
        /// Its last entry.
        ends: u64,
        /// What was seen.
        seen: u64,
    },
    /// An entry is another one than another member has seen.
    #[error("entry {0} is not the one that another member has seen: the log was rewritten")]
    Rewritten(u64),
    /// The disk doesn't give it.
    #[error("entry {0} can't be read: {1}")]
    Unreadable(u64, String),
}

/// A log on its way through the check.
#[derive(Debug)]
pub struct Chain {
    node: NodeId,
    /// The first entry's number, and what it says stood before it.
    first: Option<(u64, Digest)>,
    head: Head,
    /// The last removal that the log tells of.
    cut: Option<Head>,
    expected: BTreeMap<u64, Digest>,
    seen: u64,
    entries: u64,
    /// How many entries a log keeps at least.
    entries_max: u64,
}

impl Chain {
    /// The log of this node, of which nothing was read yet.
    pub fn new(node: NodeId) -> Chain {
        Chain::bounded(node, ENTRIES_MAX)
    }

    /// The same of a log with another bound.
    pub fn bounded(node: NodeId, entries_max: u64) -> Chain {
        let head = Head { seq: 0, hash: NOTHING };
        Chain { node, first: None, head, cut: None, expected: BTreeMap::new(), seen: 0, entries: 0, entries_max }
    }

    /// Another member has seen this entry. To be told before its row comes.
    ///
    /// # Errors
    /// Two members have seen different ones.
    pub fn expect(&mut self, seen: Head) -> Result<(), Fault> {
        self.seen = self.seen.max(seen.seq);
        match self.expected.insert(seen.seq, seen.hash) {
            Some(other) if other != seen.hash => Err(Fault::Rewritten(seen.seq)),
            _ => Ok(()),
        }
    }

    /// The next entry.
    ///
    /// # Errors
    /// It is not as it must be; nothing behind it means anything then.
    pub fn take(&mut self, seq: u64, row: &Row) -> Result<(), Fault> {
        if seq == 0 || seq > SEQ_MAX {
            return Err(Fault::Unlinked(seq));
        }
        match self.first {
            None => self.first = Some((seq, row.prev)),
            Some(_) if seq > self.head.seq + 1 => {
                return Err(Fault::Missing { from: self.head.seq + 1, to: seq - 1 });
            }
            Some(_) if row.prev != self.head.hash => return Err(Fault::Unlinked(seq)),
            Some(_) => {}
        }
        if row.sum(self.node, seq) != row.hash {
            return Err(Fault::Changed(seq));
        }
        if self.expected.get(&seq).is_some_and(|hash| *hash != row.hash) {
            return Err(Fault::Rewritten(seq));
        }
        if let Some(What::Cut(cut)) = row.what() {
            // The log cuts itself when it has as many behind the last one that goes. Who could say so sooner could put one
            // entry in the place of all of them.
            if seq.saturating_sub(cut.seq) < self.entries_max {
                return Err(Fault::Cut(seq));
            }
            self.cut = Some(cut);
        }
        self.head = Head { seq, hash: row.hash };
        self.entries += 1;
        Ok(())
    }

    /// There are no more.
    ///
    /// # Errors
    /// Something is missing at its beginning or at its end.
    pub fn end(&self) -> Result<Head, Fault> {
        if let Some((first, prev)) = self.first {
            let before = Head { seq: first - 1, hash: prev };
            let begins = if first == 1 { prev == NOTHING } else { self.cut == Some(before) };
            if !begins {
                return Err(Fault::Beheaded(first));
            }
        }
        match self.seen > self.head.seq {
            true => Err(Fault::Short { ends: self.head.seq, seen: self.seen }),
            false => Ok(self.head),
        }
    }

    /// The last entry that is as it must be.
    pub fn head(&self) -> Head {
        self.head
    }

    /// How many entries were read.
    pub fn entries(&self) -> u64 {
        self.entries
    }
}
