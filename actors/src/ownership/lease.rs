//! The right to do what must not be done twice: an owner's lease from half of the swarm, and the votes of more than half
//! that another needs to take its place.
//!
//! An owner asks everyone, again and again, whether it still counts ([`Leases::touch`]). It may act while at least half of
//! the roster, itself counted, has said so within the last [`LEASE`], and half of it has on its disk that the record is
//! this owner's. Another takes a record over with the votes of more than half: nobody votes who knows more of the record
//! than the asker does, or who has heard of the owner whom the asker names within that time and a margin; and whoever has
//! voted says no more to that owner, in its epoch, and counts no more among those who have what an earlier candidate writes
//! ([`Leases::promised`]).
//!
//! So any two that might act have a node in common, and either that one had the earlier one's record when it voted for the
//! later: then the later knew it, and all who voted for it had waited for its lease to run out. Or it had not: then the
//! earlier has never acted, and never will. An owner may also say itself that its epoch is over. This is the lease of Gray
//! and Cheriton (1989) with a majority in the server's place, and of Lamport's synod (1998) the promise and the acceptance
//! of one record.
//!
//! What that costs: of two nodes, one that is alone goes on with what it owns, and never gets what the other owns.
//!
//! No clock, disk or link: `now` is whatever clock goes on while a machine sleeps. [`super::actor`] writes what was promised
//! before it answers. That no two nodes may ever act at once is checked over the courses of a small swarm
//! ([`super::model`]). The roster is taken to be the same everywhere: one that changes while a swarm is cut in two is not
//! provided for.

use super::Term;
use crate::ledger::{Key, Version};
use serde::{Deserialize, Serialize};
use skep_runtime::NodeId;
use std::{collections::BTreeMap, time::Duration};

/// How long an owner may act on what another node said of it, counted from when it asked.
pub const LEASE: Duration = Duration::from_secs(5);
/// How much longer a node waits before it votes for another: see [`margin`].
pub const MARGIN: Duration = margin(LEASE);
/// Votes that one node keeps, at some 150 bytes each. They go when whoever was voted for has written what it took; beyond that
/// many nobody gets any.
pub const PROMISES_MAX: usize = 20_000;

/// How much longer one node waits for another, so that both may measure that time with clocks that are off by a tenth, one
/// too fast and one too slow (1.1 / 0.9 is less than 5 / 4). It is a thousand times what crystals do.
pub const fn margin(time: Duration) -> Duration {
    Duration::from_millis(time.as_millis() as u64 / 4)
}

/// Who owns a record, since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Holding {
    /// The place of this owner in the order of owners.
    pub term: Term,
    /// The owner.
    pub owner: NodeId,
    /// Its epoch: the right of an earlier one is no right of this.
    pub epoch: u64,
}

/// A node's question whether it may take a record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ballot {
    /// Which record.
    pub key: Key,
    /// Which version of it the asker has; `None`: it has never heard of it.
    pub version: Option<Version>,
    /// Whose it is in that version; `None`: nobody's.
    pub held: Option<Holding>,
    /// Whose it is to be.
    pub wanted: Holding,
    /// Whoever has it has told the asker that its epoch is over.
    pub given_up: bool,
}

/// What a node says to that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Verdict {
    /// It votes for the asker.
    Granted,
    /// It doesn't, since it has heard of whoever has the record not long ago.
    Held,
    /// It has voted for another in this term, which is not before the one that was asked for.
    Later(Term),
    /// It knows more of the record than the asker does, who has to hear of that first.
    Behind,
    /// It keeps as many votes as it can.
    Full,
}

/// What is kept on the disk: whatever is forgotten of this, two may act at once.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Kept {
    /// This node's epoch as an owner.
    pub epoch: u64,
    /// The last epoch of a node in which this one no longer says that it counts.
    pub closed: BTreeMap<NodeId, u64>,
    /// Votes.
    pub promised: BTreeMap<Key, Holding>,
}

/// The two times, so that a model may take others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// See [`LEASE`].
    pub lease: Duration,
    /// See [`MARGIN`].
    pub margin: Duration,
}

/// One node's part in it, as an owner and as a voter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leases {
    me: NodeId,
    timing: Timing,
    kept: Kept,
    start: Duration,
    /// By whom this node was told that it counts, and when it asked.
    touched: BTreeMap<NodeId, Duration>,
    /// Whom this node told so, and when.
    heard: BTreeMap<NodeId, Duration>,
}

impl Leases {
    /// The part of `me`, with what was kept. What it told others before it was started again it doesn't know: it takes it
    /// that it told everyone, just now.
    pub fn new(me: NodeId, kept: Kept, timing: Timing, now: Duration) -> Leases {
        Leases { me, timing, kept, start: now, touched: BTreeMap::new(), heard: BTreeMap::new() }
    }

    /// What is to be kept.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// This node's epoch: what it takes is its own in this one.
    pub fn epoch(&self) -> u64 {
        self.kept.epoch
    }

    /// Whether this node may act now on what it took in an epoch. To be asked before each act.
    pub fn holds(&self, epoch: u64, members: &[NodeId], now: Duration) -> bool {
        let fresh = |member: &&NodeId| {
            **member == self.me || self.touched.get(member).is_some_and(|asked| now < *asked + self.timing.lease)
        };
        // Before anything is known of the swarm, nobody is in it.
        epoch == self.kept.epoch
            && members.contains(&self.me)
            && is_half(members.iter().filter(fresh).count(), members.len())
    }

    /// A node asks whether it counts in its epoch.
    ///
    /// # Errors
    /// The last of its epochs in which it doesn't.
    pub fn touch(&mut self, by: NodeId, epoch: u64, now: Duration) -> Result<(), u64> {
        match self.kept.closed.get(&by) {
            Some(closed) if *closed >= epoch => Err(*closed),
            _ => {
                self.heard.insert(by, now);
                Ok(())
            }
        }
    }

    /// A node said that this one counts, when asked at `asked`, in `epoch`.
    pub fn touched(&mut self, by: NodeId, epoch: u64, asked: Duration) {
        if epoch == self.kept.epoch {
            let last = self.touched.entry(by).or_default();
            *last = asked.max(*last);
        }
    }

    /// The epoch that this node has to begin when it is told that it doesn't count in this one any more.
    pub fn after(&self, closed: u64) -> Option<u64> {
        closed.checked_add(1).filter(|next| *next > self.kept.epoch)
    }

    /// Begins a later epoch, in which this node owns nothing yet. That has to be kept before.
    pub fn begin(&mut self, epoch: u64) {
        if epoch > self.kept.epoch {
            self.kept.epoch = epoch;
            self.touched.clear();
        }
    }

    /// A node asks whether it may take a record, of which this one has the `known` version. What changes thereby has to be
    /// kept before it is answered.
    pub fn vote(&mut self, ballot: &Ballot, known: Option<Version>, now: Duration) -> Verdict {
        let verdict = self.would_vote(ballot, known, now);
        if verdict == Verdict::Granted {
            if let Some(Holding { owner, epoch, .. }) = ballot.held.filter(|held| self.silent(*held, now)) {
                let closed = self.kept.closed.entry(owner).or_insert(epoch);
                *closed = epoch.max(*closed);
            }
            self.kept.promised.insert(ballot.key.clone(), ballot.wanted);
        }
        verdict
    }

    /// What this node would say to that, as things are.
    pub fn would_vote(&self, ballot: &Ballot, known: Option<Version>, now: Duration) -> Verdict {
        if known > ballot.version {
            return Verdict::Behind;
        }
        let promised = self.kept.promised.get(&ballot.key);
        // Asked once more it says the same, unless there is more to it by now.
        let other = promised.filter(|promised| **promised != ballot.wanted).map(|promised| promised.term);
        let written = ballot.version.map(|version| Term(version.term));
        if let Some(term) = other.max(written).filter(|term| *term >= ballot.wanted.term) {
            return Verdict::Later(term);
        }
        // Whoever has it may take it anew: what it writes in the term it has doesn't count with those who voted for another.
        let others = ballot.held.filter(|held| held.owner != ballot.wanted.owner && !ballot.given_up);
        if others.is_some_and(|held| !(self.is_over(held) || self.silent(held, now))) {
            return Verdict::Held;
        }
        if promised.is_none() && self.kept.promised.len() >= PROMISES_MAX {
            return Verdict::Full;
        }
        Verdict::Granted
    }

    /// A vote that could not be kept: nobody was told of it. `before` is the one before it.
    pub fn unvote(&mut self, key: &Key, before: Option<Holding>) {
        match before {
            Some(before) => self.kept.promised.insert(key.clone(), before),
            None => self.kept.promised.remove(key),
        };
    }

    /// So many voted for this node, itself among them. Whether the record is its own now: it may have voted for another
    /// meanwhile.
    pub fn wins(&self, key: &Key, wanted: Holding) -> bool {
        self.kept.promised.get(key) == Some(&wanted) && wanted.epoch == self.kept.epoch
    }

    /// The term for which this node has voted. What is written in an earlier one it may have on its disk, but it doesn't
    /// count among those who do.
    pub fn promised(&self, key: &Key) -> Option<Term> {
        self.kept.promised.get(key).map(|promised| promised.term)
    }

    /// Whether an owner's epoch is over, as far as this node can say: its own, or one in which it has said so.
    fn is_over(&self, held: Holding) -> bool {
        let closed = self.kept.closed.get(&held.owner).is_some_and(|closed| *closed >= held.epoch);
        closed || held.owner == self.me && held.epoch < self.kept.epoch
    }

    /// Whether an owner can't act any more on what this node told it.
    fn silent(&self, held: Holding, now: Duration) -> bool {
        let told = self.heard.get(&held.owner).copied().unwrap_or(self.start);
        held.owner != self.me && now >= told + self.timing.lease + self.timing.margin
    }

    /// Forgets votes of which nothing is left to say: whoever got them, or a later one, has written what it took, and the
    /// ledger knows of that. Which.
    pub fn settle(&mut self, written: impl Fn(&Key) -> Option<Term>) -> Vec<Key> {
        let over = |key: &Key, holding: &mut Holding| written(key).is_some_and(|term| term >= holding.term);
        self.kept.promised.extract_if(.., over).map(|(key, _)| key).collect()
    }

    /// This state as a model counts it: how long ago things were, at most `most`.
    #[cfg(test)]
    pub(super) fn hash_aged(&self, now: Duration, most: Duration, hasher: &mut impl std::hash::Hasher) {
        use std::hash::Hash;
        let age = |at: &Duration| now.saturating_sub(*at).min(most);
        (&self.kept, age(&self.start)).hash(hasher);
        for times in [&self.touched, &self.heard] {
            times.iter().for_each(|(id, at)| (id, age(at)).hash(hasher));
            0u8.hash(hasher);
        }
    }
}

/// Whether so many of all are at least half.
pub(super) fn is_half(some: usize, all: usize) -> bool {
    2 * some >= all
}

/// Whether so many votes of all are enough: more than half.
pub fn wins(votes: usize, all: usize) -> bool {
    2 * votes > all
}

/// How many others must have a record on their disks, so that more than half can't vote without one who has it.
pub fn others_enough(all: usize) -> usize {
    all.div_ceil(2).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Stamp;
    use proptest::prelude::*;

    #[test]
    fn half_may_act_and_only_more_than_half_may_take_over() {
        for all in 1..20 {
            for some in 0..=all {
                assert!(!(is_half(some, all) && wins(all - some, all)), "two sets of {all} that don't meet");
            }
            assert!(is_half(others_enough(all) + 1, all) && !is_half(others_enough(all), all) || all == 1);
        }
    }

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    #[test]
    fn who_asks_again_for_the_same_is_asked_about_what_is_known_by_then() {
        let timing = Timing { lease: LEASE, margin: MARGIN };
        let mut voter = Leases::new(node(9), Kept::default(), timing, Duration::ZERO);
        let wanted = Holding { term: Term(7), owner: node(1), epoch: 0 };
        let new =
            Ballot { key: Key { collection: 1, id: vec![1] }, version: None, held: None, wanted, given_up: false };
        assert_eq!(voter.vote(&new, None, Duration::ZERO), Verdict::Granted);
        assert_eq!(voter.vote(&new, None, Duration::ZERO), Verdict::Granted);
        // Another one was given it meanwhile, in an earlier term, and is there.
        let version = Some(Version { term: 5, stamp: Stamp { ms: 1, count: 0, node: node(2) } });
        assert_eq!(voter.vote(&new, version, Duration::ZERO), Verdict::Behind);
        let held = Some(Holding { term: Term(5), owner: node(2), epoch: 0 });
        let known = Ballot { version, held, ..new };
        assert_eq!(voter.vote(&known, version, LEASE), Verdict::Held);
        assert_eq!(voter.vote(&known, version, LEASE + MARGIN), Verdict::Granted);
        assert_eq!(voter.touch(node(2), 0, LEASE + MARGIN), Err(0));
    }

    proptest! {
        /// Whatever is said to it, a node never votes twice in one term, nor for an earlier one than before.
        #[test]
        fn votes_of_one_record_only_grow(asked in prop::collection::vec((0u8..3, 0u64..6, 0u64..3, 0u64..20), 1..40)) {
            let timing = Timing { lease: LEASE, margin: MARGIN };
            let mut voter = Leases::new(node(9), Kept::default(), timing, Duration::ZERO);
            let key = Key { collection: 1, id: vec![1] };
            let (mut last, mut now) = (None, Duration::ZERO);
            for (by, term, epoch, pause) in asked {
                now += Duration::from_secs(pause);
                let _ = voter.touch(node(by), epoch, now);
                let wanted = Holding { term: Term(term), owner: node(by), epoch };
                let ballot = Ballot { key: key.clone(), version: None, held: None, wanted, given_up: false };
                if voter.vote(&ballot, None, now) == Verdict::Granted {
                    prop_assert!(last.is_none_or(|last: Holding| last == wanted || last.term < wanted.term));
                    last = Some(wanted);
                }
            }
        }
    }
}
