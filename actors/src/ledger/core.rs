//! What one node's ledger decides: which of two versions counts, what two nodes lack of each other, and when the news of
//! a deletion may be forgotten.
//!
//! No disk, clock, task or link: values pass through to the disk, only keys and versions stay here, at about 200 bytes a
//! record. The keeper writes what [`Core::write`] and [`Core::merge`] give it and then says [`Core::flushed`] or
//! [`Core::failed`]; nothing is known here, to nobody, that is not on the disk.

use super::{
    entry::{Entry, ID_BYTES_MAX, Key, VALUE_BYTES_MAX, Version},
    forest::{Forest, LEAVES},
    stamp::Clock,
};
use serde::{Deserialize, Serialize};
use skep_runtime::NodeId;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

/// Deletions that are remembered while some member may not have heard of them, at 200 bytes each. Beyond that the oldest
/// are forgotten, and a member that was away for all of them brings back what they deleted: evict a machine that is gone
/// for good.
pub const TOMBSTONES_MAX: usize = 100_000;
/// Deletions that were forgotten here, and are known again if a member that hasn't forgotten them yet tells of them.
pub const SETTLED_MAX: usize = 100_000;

/// A change of one record, as its writer wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Which record.
    pub key: Key,
    /// The term of its owner, who writes; 0 if nobody owns it.
    pub term: u64,
    /// Its value; `None` deletes it.
    pub value: Option<Vec<u8>>,
}

/// A line of a list of records: which there are, without what they say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Which record.
    pub key: Key,
    /// Which version of it.
    pub version: Version,
    /// It was deleted.
    pub dead: bool,
}

/// What two nodes lack of each other in one leaf.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// The other one has these, or later versions of them.
    pub want: Vec<Key>,
    /// It lacks these, or has earlier versions of them.
    pub give: Vec<Key>,
    /// Deletions that every member has heard of: both may forget them.
    pub settled: Vec<Line>,
}

/// What became of writes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// As they are on the disk, to be sent to others.
    pub entries: Vec<Entry>,
    /// Not written: another node has taken these over, in a later term.
    pub fenced: Vec<Key>,
}

/// A key or a value is over its bound; nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("a record of the ledger may have a key of {ID_BYTES_MAX} bytes and a value of {VALUE_BYTES_MAX}")]
pub struct TooLarge;

type Place = (u16, Key);

struct Held {
    version: Version,
    print: u64,
    /// When this node heard of its deletion, since it started.
    dead: Option<Duration>,
}

/// One node's index of the ledger.
pub struct Core {
    clock: Clock,
    /// By leaf, so that a leaf's records lie together.
    index: BTreeMap<Place, Held>,
    forest: Forest,
    /// On their way to the disk.
    pending: BTreeMap<Key, Version>,
    tombstones: usize,
    /// When the last comparison with a member began after which both had the same.
    equal: BTreeMap<NodeId, Duration>,
    settled: Settled,
}

/// The prints of deletions that everyone had heard of: told again, they are no news.
#[derive(Default)]
struct Settled {
    prints: BTreeSet<u64>,
    order: VecDeque<u64>,
}

impl Settled {
    fn add(&mut self, print: u64) {
        if self.prints.insert(print) {
            self.order.push_back(print);
        }
        if self.order.len() > SETTLED_MAX {
            self.order.pop_front().map(|oldest| self.prints.remove(&oldest));
        }
    }
}

impl Core {
    /// An empty ledger of `me`.
    pub fn new(me: NodeId) -> Core {
        Core {
            clock: Clock::new(me),
            index: BTreeMap::new(),
            forest: Forest::default(),
            pending: BTreeMap::new(),
            tombstones: 0,
            equal: BTreeMap::new(),
            settled: Settled::default(),
        }
    }

    /// A record that is on the disk already.
    pub fn load(&mut self, key: Key, version: Version, dead: bool) {
        // What is here was believed once.
        self.clock.saw(version.stamp, version.stamp.ms);
        self.set(key, version, dead, Duration::ZERO);
    }

    /// How many records there are, and how many of them are deletions.
    pub fn count(&self) -> (usize, usize) {
        (self.index.len(), self.tombstones)
    }

    /// Who wrote what there is.
    pub fn writers(&self) -> BTreeSet<NodeId> {
        self.index.values().map(|held| held.version.stamp.node).collect()
    }

    /// The latest version that is known of a record, and whether it is a deletion.
    pub fn get(&self, key: &Key) -> Option<(Version, bool)> {
        self.index.get(&place(key)).map(|held| (held.version, held.dead.is_some()))
    }

    /// Stamps changes of this node: entries for the disk and for the others. Those of a term that has passed are left
    /// out and named.
    ///
    /// # Errors
    /// [`TooLarge`], for any that is out of bounds; then none is written.
    pub fn write(&mut self, writes: Vec<Write>, now_ms: u64) -> Result<Written, TooLarge> {
        let mut written = Written::default();
        for Write { key, term, value } in writes {
            let entry = Entry { key, version: Version { term, stamp: self.clock.tick(now_ms) }, value };
            if !entry.is_sound() {
                return Err(TooLarge);
            }
            match self.latest(&entry.key).is_some_and(|latest| latest.term > term) {
                true => written.fenced.push(entry.key),
                false => written.entries.push(entry),
            }
        }
        self.pending.extend(written.entries.iter().map(|entry| (entry.key.clone(), entry.version)));
        Ok(written)
    }

    /// Of what another node sent: the entries that are news, for the disk; and the keys of those that are known here in
    /// later versions. What is out of bounds or from beyond the believable future is left out.
    pub fn merge(&mut self, entries: Vec<Entry>, now_ms: u64) -> (Vec<Entry>, Vec<Key>) {
        let (mut news, mut stale) = (Vec::new(), Vec::new());
        for entry in entries {
            if !entry.is_sound() || !self.clock.saw(entry.version.stamp, now_ms) {
                continue;
            }
            match self.latest(&entry.key) {
                Some(latest) if latest > entry.version => stale.push(entry.key),
                Some(latest) if latest == entry.version => {}
                // Everyone has heard of this deletion: it would only travel in circles.
                None if entry.value.is_none() && self.settled.prints.contains(&entry.key.print(&entry.version)) => {}
                Some(_) | None => {
                    self.pending.insert(entry.key.clone(), entry.version);
                    news.push(entry);
                }
            }
        }
        (news, stale)
    }

    /// What was given out for the disk is on it, at this time since the start.
    pub fn flushed(&mut self, entries: &[Entry], at: Duration) {
        for entry in entries {
            if self.get(&entry.key).is_none_or(|(known, _)| known < entry.version) {
                self.set(entry.key.clone(), entry.version, entry.value.is_none(), at);
            }
        }
        self.pending.clear();
    }

    /// The disk did not take it: it was never written.
    pub fn failed(&mut self) {
        self.pending.clear();
    }

    /// The digests, to be compared.
    pub fn forest(&self) -> &Forest {
        &self.forest
    }

    /// What there is in a leaf, from `after` on if given.
    pub fn list(&self, leaf: u16, after: Option<&Key>) -> impl Iterator<Item = Line> + '_ {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let leaf = leaf % LEAVES as u16;
        let start = match after {
            Some(key) => Excluded((leaf, key.clone())),
            None => Included((leaf, Key { collection: 0, id: Vec::new() })),
        };
        let range = self.index.range((start, Unbounded)).take_while(move |((at, _), _)| *at == leaf);
        range.map(line)
    }

    /// What this node and another one lack of each other in a leaf, by the other one's list of it.
    pub fn compare(&self, leaf: u16, theirs: &[Line]) -> Difference {
        let mut difference = Difference::default();
        let theirs: BTreeMap<&Key, &Line> = theirs.iter().map(|line| (&line.key, line)).collect();
        for line in theirs.values().filter(|line| Forest::leaf(line.key.place()) == leaf) {
            match self.get(&line.key) {
                Some((version, _)) if version < line.version => difference.want.push(line.key.clone()),
                Some((version, _)) if version > line.version => difference.give.push(line.key.clone()),
                Some(_) => {}
                None if line.dead && self.settled.prints.contains(&line.key.print(&line.version)) => {
                    difference.settled.push(Line::clone(line));
                }
                None => difference.want.push(line.key.clone()),
            }
        }
        let lacking = self.list(leaf, None).filter(|line| !theirs.contains_key(&line.key));
        difference.give.extend(lacking.map(|line| line.key));
        difference
    }

    /// Both have the same since a comparison that began then.
    pub fn equal(&mut self, with: NodeId, since: Duration) {
        self.equal.insert(with, since);
    }

    /// Whether this is precisely what is held, and nothing later is on its way to the disk: then it may be forgotten, if
    /// everyone has heard of it.
    pub fn holds(&self, line: &Line) -> bool {
        self.get(&line.key) == Some((line.version, line.dead)) && !self.pending.contains_key(&line.key)
    }

    /// What others wrote: it is not this node's to keep when it leaves their swarm.
    pub fn of_others(&self) -> Vec<Line> {
        let me = self.clock.node();
        let others = self.index.iter().filter(|(_, held)| held.version.stamp.node != me);
        others.map(line).collect()
    }

    /// These are off the disk, and who else knows what is of no interest any more: this node is in another swarm.
    pub fn moved(&mut self, left_behind: &[Line]) {
        left_behind.iter().for_each(|line| self.unset(&place(&line.key)));
        self.equal.clear();
        self.settled = Settled::default();
    }

    /// The ids of a collection's records, in no order that means anything.
    pub fn ids(&self, collection: u8) -> Vec<Vec<u8>> {
        let alive = self.index.iter().filter(|((_, key), held)| key.collection == collection && held.dead.is_none());
        alive.map(|((_, key), _)| key.id.clone()).collect()
    }

    /// Deletions that may be forgotten now: every member has heard of them, or too many are remembered.
    pub fn forgettable(&self, members: &BTreeSet<NodeId>) -> Vec<Line> {
        let all_since = members.iter().map(|id| self.equal.get(id).copied().unwrap_or_default()).min();
        let dead = self.index.iter().filter_map(|(at, held)| Some((at, held, held.dead?)));
        let (mut out, mut rest) = (Vec::new(), Vec::new());
        for (at, held, heard) in dead {
            let told = all_since.is_none_or(|since| heard < since);
            if told { &mut out } else { &mut rest }.push((held.version.stamp.ms, line((at, held))));
        }
        if rest.len() > TOMBSTONES_MAX {
            rest.sort_unstable_by_key(|(ms, _)| *ms);
            out.extend(rest.drain(..rest.len() - TOMBSTONES_MAX));
        }
        out.into_iter().map(|(_, line)| line).collect()
    }

    /// These are off the disk.
    pub fn forgotten(&mut self, lines: &[Line]) {
        for line in lines.iter().filter(|line| self.holds(line)).cloned().collect::<Vec<_>>() {
            self.unset(&place(&line.key));
            self.settled.add(line.key.print(&line.version));
        }
    }

    fn latest(&self, key: &Key) -> Option<Version> {
        self.pending.get(key).copied().max(self.get(key).map(|(version, _)| version))
    }

    fn set(&mut self, key: Key, version: Version, dead: bool, at: Duration) {
        let (place, print) = (place(&key), key.print(&version));
        self.unset(&place);
        self.forest.toggle(place.0, print);
        self.tombstones += usize::from(dead);
        self.index.insert(place, Held { version, print, dead: dead.then_some(at) });
    }

    fn unset(&mut self, place: &Place) {
        if let Some(held) = self.index.remove(place) {
            self.forest.toggle(place.0, held.print);
            self.tombstones -= usize::from(held.dead.is_some());
        }
    }
}

/// A key with its leaf before it.
fn place(key: &Key) -> Place {
    (Forest::leaf(key.place()), key.clone())
}

fn line(((_, key), held): (&Place, &Held)) -> Line {
    Line { key: key.clone(), version: held.version, dead: held.dead.is_some() }
}
