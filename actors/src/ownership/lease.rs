//! The right to do what must not be done twice: an owner's lease from half of the swarm, and the votes of more than half
//! that another needs to take its place.
//!
//! An owner asks everyone, again and again, whether it still counts ([`Leases::touch`]). It may act while at least half of
//! the roster, itself counted, has said so within the last [`LEASE`]. Another takes a record over with the votes of more
//! than half, and nobody votes who has heard of the owner within that time and a margin: so the two sets of nodes have one
//! in common, and what that one said to the owner has run out when it votes for another. Once it has voted it says no more to
//! the owner, in that epoch. An owner may also say itself that it gives a record up. This is the lease of Gray and Cheriton (1989) with a majority in the server's place, and the
//! promise of Lamport's synod (1998) in the vote's.
//!
//! What that costs: of two nodes, one that is alone goes on with what it owns, and never gets what the other owns.
//!
//! No clock, disk or link: `now` is whatever clock goes on while a machine sleeps. [`super::actor`] writes what was promised
//! before it answers. That no two nodes may ever act at once is checked over every course of a small swarm
//! ([`super::model`]). The roster is taken to be the same everywhere: one that changes while a swarm is cut in two is not
//! provided for.

use super::Term;
use crate::ledger::Key;
use serde::{Deserialize, Serialize};
use skep_runtime::NodeId;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// How long an owner may act on what another node said of it, counted from when it asked.
pub const LEASE: Duration = Duration::from_secs(5);
/// How much longer a node waits before it votes for another: two clocks that run differently by a tenth are provided for,
/// a hundred times what crystals do.
pub const MARGIN: Duration = Duration::from_secs(1);
/// Votes that one node keeps, at some 150 bytes each. They go when whoever was voted for has written what it took; beyond that
/// many nobody gets any.
pub const PROMISES_MAX: usize = 20_000;

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
    /// Whose it is, as far as the asker knows; `None`: nobody's.
    pub held: Option<Holding>,
    /// Whose it is to be.
    pub wanted: Holding,
    /// Whoever has this gives it up, and has said so to the asker by voting for it.
    pub given_up: Option<Holding>,
}

/// What a node says to that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Verdict {
    /// It votes for the asker.
    Granted,
    /// It doesn't, since this owner was heard of not long ago.
    Held(Holding),
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
    /// Records that this node was voted, and has perhaps begun to act on.
    won: BTreeSet<Key>,
}

impl Leases {
    /// The part of `me`, with what was kept. What it told others before it was started again it doesn't know: it takes it
    /// that it told everyone, just now. Votes for itself that came to something have to be [settled](Leases::settle) before:
    /// it takes it that the others came to nothing, and gives them up to whoever asks.
    pub fn new(me: NodeId, kept: Kept, timing: Timing, now: Duration) -> Leases {
        Leases { me, timing, kept, start: now, touched: BTreeMap::new(), heard: BTreeMap::new(), won: BTreeSet::new() }
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

    /// A node answered what this one asked at `asked`, in `epoch`. Whether there is something new to keep: this node begins a
    /// later epoch, and owns nothing in it yet.
    pub fn touched(&mut self, of: NodeId, epoch: u64, asked: Duration, answer: Result<(), u64>) -> bool {
        match answer {
            Ok(()) if epoch == self.kept.epoch => {
                let last = self.touched.entry(of).or_default();
                *last = asked.max(*last);
                false
            }
            Ok(()) => false,
            Err(closed) if closed >= self.kept.epoch => {
                self.kept.epoch = closed.saturating_add(1);
                self.touched.clear();
                true
            }
            Err(_) => false,
        }
    }

    /// A node asks whether it may take a record. What changes thereby has to be kept before it is answered.
    pub fn vote(&mut self, ballot: &Ballot, now: Duration) -> Verdict {
        let verdict = self.would_vote(ballot, now);
        if verdict == Verdict::Granted {
            if let Some(Holding { owner, epoch, .. }) = self.holder(ballot).filter(|held| self.silent(*held, now)) {
                let closed = self.kept.closed.entry(owner).or_insert(epoch);
                *closed = epoch.max(*closed);
            }
            self.kept.promised.insert(ballot.key.clone(), ballot.wanted);
        }
        verdict
    }

    /// What this node would say to that, as things are.
    pub fn would_vote(&self, ballot: &Ballot, now: Duration) -> Verdict {
        let promised = self.kept.promised.get(&ballot.key).copied();
        if promised == Some(ballot.wanted) {
            return Verdict::Granted;
        }
        if let Some(held) = self.holder(ballot) {
            let given_up = ballot.given_up == Some(held) || self.gives_up(&ballot.key, held);
            let closed = self.kept.closed.get(&held.owner).is_some_and(|closed| *closed >= held.epoch);
            if held.term >= ballot.wanted.term || !(given_up || closed || self.silent(held, now)) {
                return Verdict::Held(held);
            }
        }
        if promised.is_none() && self.kept.promised.len() >= PROMISES_MAX {
            return Verdict::Full;
        }
        Verdict::Granted
    }

    /// So many voted for this node, itself among them. Whether the record is its own now: it may have given it up meanwhile.
    pub fn win(&mut self, key: &Key, wanted: Holding) -> bool {
        let won = self.kept.promised.get(key) == Some(&wanted) && wanted.epoch == self.kept.epoch;
        if won {
            self.won.insert(key.clone());
        }
        won
    }

    /// Who has the record, as far as this node or the asker knows.
    fn holder(&self, ballot: &Ballot) -> Option<Holding> {
        self.kept.promised.get(&ballot.key).copied().max(ballot.held)
    }

    /// Whether this node gives up what it has: it owned it in an earlier epoch, or wanted it and got too few votes.
    fn gives_up(&self, key: &Key, held: Holding) -> bool {
        let wanted = self.kept.promised.get(key) == Some(&held) && !self.won.contains(key);
        held.owner == self.me && (held.epoch < self.kept.epoch || wanted)
    }

    /// Whether an owner can't act any more on what this node told it.
    fn silent(&self, held: Holding, now: Duration) -> bool {
        let told = self.heard.get(&held.owner).copied().unwrap_or(self.start);
        held.owner != self.me && now >= told + self.timing.lease + self.timing.margin
    }

    /// Forgets votes of which nothing is left to say: whoever got them, or a later one, has written what it took. Which.
    pub fn settle(&mut self, written: impl Fn(&Key) -> Option<Term>) -> Vec<Key> {
        let over = |key: &Key, holding: &mut Holding| written(key).is_some_and(|term| term >= holding.term);
        let gone: Vec<Key> = self.kept.promised.extract_if(.., over).map(|(key, _)| key).collect();
        self.won.retain(|key| !gone.contains(key));
        gone
    }

    /// This state as a model counts it: how long ago things were, at most `most`.
    #[cfg(test)]
    pub(super) fn hash_aged(&self, now: Duration, most: Duration, hasher: &mut impl std::hash::Hasher) {
        use std::hash::Hash;
        let age = |at: &Duration| now.saturating_sub(*at).min(most);
        (&self.kept, &self.won, age(&self.start)).hash(hasher);
        for times in [&self.touched, &self.heard] {
            times.iter().for_each(|(id, at)| (id, age(at)).hash(hasher));
            0u8.hash(hasher);
        }
    }
}

/// Whether so many of all are at least half.
fn is_half(some: usize, all: usize) -> bool {
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
                if voter.vote(&Ballot { key: key.clone(), held: None, wanted, given_up: None }, now) == Verdict::Granted {
                    prop_assert!(last.is_none_or(|last: Holding| last == wanted || last.term < wanted.term));
                    last = Some(wanted);
                }
            }
        }
    }
}
