//! The roster: a set of records, and who is a member by it. No I/O, no clock; one thought, hence its length.
//!
//! Rules, each a function of the set alone, so that merging is commutative, associative and idempotent:
//! - An admission counts if its signer was admitted, back to the founder.
//! - Evicted wins for ever: no later admission brings a key back.
//! - An evicted member's statements count only as far as its evictor knew them, so that a stolen key can't
//!   go on admitting and evicting at members that were away. The one exception is an eviction of its evictor:
//!   two members that evict each other are both out, whichever news came first.
//! - Where evictions contradict each other, those of members nearer to the founder are heard first.

use super::record::{Record, RecordId, Statement, SwarmId, tidy_name};
use crate::identity::Identity;
use aws_lc_rs::digest::{Context, SHA256};
use skep_runtime::NodeId;
use std::collections::{BTreeMap, VecDeque};

/// Records of one roster: two per member for a thousand members. One is about 200 bytes, so all of them fit
/// into one frame of the exchange.
pub(super) const RECORDS_MAX: usize = 2048;

/// One member's place on the roster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The name at its admission.
    pub name: String,
    /// When it was admitted, in milliseconds since 1970.
    pub joined_ms: u64,
    term: u32,
}

/// What a merge did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Merged {
    /// Records that were new and are part of the roster now.
    pub added: Vec<Record>,
    /// Records that were refused: a bad signature, another swarm, no chain to the founder, or no room.
    pub refused: usize,
}

/// Why records are not a roster, or a statement can't be made. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// There is not exactly one valid founding record among them.
    #[error("the roster has no founder: it is damaged or forged")]
    NoFounder,
    /// The key was evicted and never comes back.
    #[error("this key was taken off the roster for good: give the machine a new one by deleting its key file")]
    Evicted,
    /// The one to admit is a member already.
    #[error("it is a member already")]
    AlreadyMember,
    /// The one to evict is not a member.
    #[error("it is no member")]
    NoMember,
    /// [`RECORDS_MAX`] records are there.
    #[error("the roster is full: form a new swarm")]
    Full,
}

/// A swarm's roster as one node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    swarm: SwarmId,
    founded_ms: u64,
    records: BTreeMap<RecordId, Record>,
    members: BTreeMap<NodeId, Membership>,
    /// With the record that did it, the first of those that count.
    evicted: BTreeMap<NodeId, RecordId>,
}

impl Roster {
    /// A new swarm of one.
    pub fn found(identity: &Identity, name: &str, at_ms: u64, nonce: [u8; 8]) -> Roster {
        let statement = Statement::Founding { name: tidy_name(name), at_ms, nonce };
        Roster::from_records([Record::sign(identity, SwarmId::NONE, statement)]).expect("it was just founded")
    }

    /// The roster that these records make; those that don't belong to it are left out.
    pub fn from_records(records: impl IntoIterator<Item = Record>) -> Result<Roster, Invalid> {
        let (foundings, rest): (Vec<_>, Vec<_>) =
            records.into_iter().take(RECORDS_MAX).partition(|r| matches!(r.statement, Statement::Founding { .. }));
        let Ok([founding]) = <[Record; 1]>::try_from(foundings) else { return Err(Invalid::NoFounder) };
        let Statement::Founding { at_ms, .. } = founding.statement else { return Err(Invalid::NoFounder) };
        if founding.swarm != SwarmId::NONE || !founding.sound() {
            return Err(Invalid::NoFounder);
        }
        let id = founding.id();
        let mut roster = Roster {
            swarm: SwarmId(id.0),
            founded_ms: at_ms,
            records: BTreeMap::from([(id, founding)]),
            members: BTreeMap::new(),
            evicted: BTreeMap::new(),
        };
        roster.merge(rest);
        roster.derive();
        Ok(roster)
    }

    /// Adds what is new, sound and chained to the founder.
    pub fn merge(&mut self, records: impl IntoIterator<Item = Record>) -> Merged {
        let mut merged = Merged::default();
        let mut fresh = BTreeMap::new();
        for record in records {
            let id = record.id();
            if self.records.contains_key(&id) || fresh.contains_key(&id) {
                continue;
            }
            let room = self.records.len() + fresh.len() < RECORDS_MAX;
            if room && record.swarm == self.swarm && record.sound() {
                fresh.insert(id, record);
            } else {
                merged.refused += 1;
            }
        }
        if fresh.is_empty() {
            return merged;
        }
        let new: Vec<RecordId> = fresh.keys().copied().collect();
        self.records.append(&mut fresh);
        // A record whose signer nobody ever admitted is no part of the roster, so that every roster is closed:
        // without this the result would depend on what was merged when.
        let ranks = self.ranks();
        self.records.retain(|_, r| ranks.contains_key(&r.by));
        for id in new {
            match self.records.get(&id) {
                Some(record) => merged.added.push(record.clone()),
                None => merged.refused += 1,
            }
        }
        self.derive();
        merged
    }

    /// The swarm.
    pub fn swarm(&self) -> SwarmId {
        self.swarm
    }

    /// When it was founded, in milliseconds since 1970, by the founder's clock.
    pub fn founded_ms(&self) -> u64 {
        self.founded_ms
    }

    /// Everyone who is a member.
    pub fn members(&self) -> &BTreeMap<NodeId, Membership> {
        &self.members
    }

    /// Whether this key is a member's.
    pub fn contains(&self, id: &NodeId) -> bool {
        self.members.contains_key(id) || (cfg!(feature = "mutant-evicted-return") && self.is_evicted(id))
    }

    /// Whether this key was taken off for good.
    pub fn is_evicted(&self, id: &NodeId) -> bool {
        self.evicted.contains_key(id)
    }

    /// What shows `id` itself, whose roster may be older, that it was evicted: the record, and the admissions that
    /// lead from the founder to who signed it. Empty if it wasn't.
    pub fn why_evicted(&self, id: &NodeId) -> Vec<Record> {
        let Some(eviction) = self.evicted.get(id).and_then(|record| self.records.get(record)) else {
            return Vec::new();
        };
        let ranks = self.ranks();
        let admits = |record: &Record, whom: NodeId| matches!(record.statement, Statement::Admission { member, .. } if member == whom);
        let mut why = vec![eviction.clone()];
        let mut by = eviction.by;
        // Each step is one nearer to the founder, who has rank 0 and whom nobody admitted.
        while let Some(admission) = self.records.values().find(|r| admits(r, by) && ranks[&r.by] < ranks[&by]) {
            why.push(admission.clone());
            by = admission.by;
        }
        why
    }

    /// All records, in order of their ids.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// The ids of all records, hashed: equal digests are equal rosters.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Context::new(&SHA256);
        self.records.keys().for_each(|id| hash.update(&id.0));
        hash.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    /// A signed admission of `member`, not merged yet.
    pub fn admit(&self, identity: &Identity, member: NodeId, name: &str, at_ms: u64) -> Result<Record, Invalid> {
        if self.is_evicted(&member) {
            return Err(Invalid::Evicted);
        }
        if self.contains(&member) {
            return Err(Invalid::AlreadyMember);
        }
        self.has_room()?;
        let term = self.departed(&member).map_or(0, |term| term.saturating_add(1));
        Ok(self.sign(identity, Statement::Admission { member, name: tidy_name(name), term, at_ms }))
    }

    /// A signed eviction of `member`, not merged yet.
    pub fn evict(&self, identity: &Identity, member: NodeId, at_ms: u64) -> Result<Record, Invalid> {
        if !self.contains(&member) {
            return Err(Invalid::NoMember);
        }
        self.has_room()?;
        let stands = self.records.iter().filter(|(_, r)| r.by == member).map(|(id, _)| *id).collect();
        Ok(self.sign(identity, Statement::Eviction { member, at_ms, stands }))
    }

    /// A signed departure of this node itself, not merged yet.
    pub fn depart(&self, identity: &Identity, at_ms: u64) -> Result<Record, Invalid> {
        let Membership { term, .. } = self.members.get(&identity.id()).ok_or(Invalid::NoMember)?;
        self.has_room()?;
        Ok(self.sign(identity, Statement::Departure { term: *term, at_ms }))
    }

    fn sign(&self, identity: &Identity, statement: Statement) -> Record {
        Record::sign(identity, self.swarm, statement)
    }

    fn has_room(&self) -> Result<(), Invalid> {
        if self.records.len() < RECORDS_MAX { Ok(()) } else { Err(Invalid::Full) }
    }

    /// The last term that `member` ended by leaving.
    fn departed(&self, member: &NodeId) -> Option<u32> {
        let terms = self.records.values().filter(|r| r.by == *member).filter_map(|r| match r.statement {
            Statement::Departure { term, .. } => Some(term),
            _ => None,
        });
        terms.max()
    }

    fn founding(&self) -> &Record {
        self.records.get(&RecordId(self.swarm.0)).expect("a roster has its founding record")
    }

    /// How many admissions each key that anyone ever admitted is away from the founder.
    fn ranks(&self) -> BTreeMap<NodeId, u32> {
        self.reach(|_| true)
    }

    /// The same over those admissions only that `counts`.
    fn reach(&self, counts: impl Fn(&Record) -> bool) -> BTreeMap<NodeId, u32> {
        let mut admitted: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        for record in self.records.values() {
            if let Statement::Admission { member, .. } = record.statement
                && counts(record)
            {
                admitted.entry(record.by).or_default().push(member);
            }
        }
        let mut ranks = BTreeMap::from([(self.founding().by, 0)]);
        let mut queue = VecDeque::from([self.founding().by]);
        while let Some(by) = queue.pop_front() {
            let rank = ranks[&by] + 1;
            for member in admitted.remove(&by).unwrap_or_default() {
                ranks.entry(member).or_insert_with(|| {
                    queue.push_back(member);
                    rank
                });
            }
        }
        ranks
    }

    /// Works out from the records who is a member and who was evicted.
    fn derive(&mut self) {
        let out = self.evictions();
        let admitted = self.reach(|record| stands(record, &out));
        let mut members: BTreeMap<NodeId, Membership> = BTreeMap::new();
        for record in self.records.values() {
            let (member, name, term, at_ms) = match &record.statement {
                Statement::Founding { name, at_ms, .. } => (record.by, name, 0, *at_ms),
                Statement::Admission { member, name, term, at_ms } => (*member, name, *term, *at_ms),
                Statement::Eviction { .. } | Statement::Departure { .. } => continue,
            };
            let counts = admitted.contains_key(&record.by) && stands(record, &out) && !out.contains_key(&member);
            // Of several admissions the latest term counts, then the first in the order of ids: no clock decides.
            let newer = members.get(&member).is_none_or(|known| term > known.term);
            if counts && newer && self.departed(&member).is_none_or(|ended| term > ended) {
                members.insert(member, Membership { name: name.clone(), joined_ms: at_ms, term });
            }
        }
        let first = |evictions: &Vec<&Record>| evictions.first().map(|record| record.id());
        let evicted = out.iter().filter_map(|(member, evictions)| Some((*member, first(evictions)?))).collect();
        self.evicted = evicted;
        self.members = members;
    }

    /// The evictions that count, by whom they are aimed at.
    fn evictions(&self) -> BTreeMap<NodeId, Vec<&Record>> {
        let ranks = self.ranks();
        let mut heard: Vec<(u32, &RecordId, &Record)> = self
            .records
            .iter()
            .filter(|(_, r)| matches!(r.statement, Statement::Eviction { .. }))
            .map(|(id, r)| (ranks[&r.by], id, r))
            .collect();
        heard.sort_by_key(|(rank, id, _)| (*rank, **id));
        let mut out: BTreeMap<NodeId, Vec<&Record>> = BTreeMap::new();
        for (_, _, record) in heard {
            let Statement::Eviction { member, .. } = &record.statement else { continue };
            let admitted = self.reach(|r| stands(r, &out)).contains_key(&record.by);
            if admitted && stands(record, &out) && ranks.contains_key(member) {
                out.entry(*member).or_default().push(record);
            }
        }
        out
    }
}

/// Whether `record` counts although its signer may have been evicted.
fn stands(record: &Record, out: &BTreeMap<NodeId, Vec<&Record>>) -> bool {
    let aim = match &record.statement {
        Statement::Eviction { member, .. } => Some(*member),
        _ => None,
    };
    out.get(&record.by).is_none_or(|evictions| {
        evictions.iter().all(|eviction| match &eviction.statement {
            Statement::Eviction { stands, .. } => stands.contains(&record.id()) || aim == Some(eviction.by),
            _ => true,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(n: u8) -> Identity {
        Identity::from_seed([n; 32])
    }

    fn swarm(size: u8) -> Roster {
        let mut roster = Roster::found(&node(0), "zero", 1, [0; 8]);
        for n in 1..size {
            let record = roster.admit(&node(0), node(n).id(), &format!("n{n}"), 1).unwrap();
            roster.merge([record]);
        }
        roster
    }

    fn ids(roster: &Roster) -> Vec<NodeId> {
        roster.members().keys().copied().collect()
    }

    #[test]
    fn a_member_admitted_by_a_member_chains_to_the_founder() {
        let mut roster = swarm(2);
        let record = roster.admit(&node(1), node(2).id(), "two", 5).unwrap();
        assert_eq!(roster.merge([record.clone()]).added, [record]);
        assert_eq!(roster.members()[&node(2).id()].name, "two");
        assert_eq!(Roster::from_records(roster.records().cloned()), Ok(roster));
    }

    #[test]
    fn a_stranger_admits_nobody_not_even_itself() {
        let mut roster = swarm(2);
        let forged = roster.admit(&node(9), node(9).id(), "nine", 5).unwrap();
        assert_eq!(roster.merge([forged]), Merged { added: vec![], refused: 1 });
        assert!(!roster.contains(&node(9).id()));
    }

    #[test]
    fn a_record_that_was_changed_or_is_another_swarms_is_refused() {
        let mut roster = swarm(1);
        let mut changed = roster.admit(&node(0), node(1).id(), "one", 5).unwrap();
        changed.statement = Statement::Admission { member: node(2).id(), name: "two".into(), term: 0, at_ms: 5 };
        let elsewhere = Roster::found(&node(0), "zero", 2, [1; 8]).admit(&node(0), node(1).id(), "one", 5).unwrap();
        assert_eq!(roster.merge([changed, elsewhere]).refused, 2);
    }

    #[test]
    fn evicted_wins_for_ever() {
        let mut roster = swarm(3);
        let again = swarm(2).admit(&node(0), node(2).id(), "two again", 9).unwrap();
        let eviction = roster.evict(&node(1), node(2).id(), 5).unwrap();
        roster.merge([eviction, again]);
        assert_eq!(roster.admit(&node(0), node(2).id(), "two", 9), Err(Invalid::Evicted));
        assert!(!roster.contains(&node(2).id()) && roster.is_evicted(&node(2).id()));
    }

    #[test]
    fn who_left_can_come_back() {
        let mut roster = swarm(2);
        let departure = roster.depart(&node(1), 5).unwrap();
        roster.merge([departure]);
        assert_eq!(ids(&roster), ids(&swarm(1)));
        let back = roster.admit(&node(0), node(1).id(), "one", 9).unwrap();
        roster.merge([back]);
        assert_eq!(roster.members()[&node(1).id()].joined_ms, 9);
    }

    #[test]
    fn what_an_evicted_member_signs_afterwards_is_void() {
        let mut roster = swarm(4);
        let before = roster.admit(&node(1), node(5).id(), "before", 2).unwrap();
        roster.merge([before]);
        let away = roster.clone();
        let eviction = roster.evict(&node(0), node(1).id(), 5).unwrap();
        // The stolen key finds a member that was away, and claims an earlier time.
        let mut fooled = away.clone();
        let friend = away.admit(&node(1), node(9).id(), "friend", 1).unwrap();
        let revenge = away.evict(&node(1), node(2).id(), 1).unwrap();
        fooled.merge([friend, revenge]);
        let echo = fooled.evict(&node(9), node(3).id(), 1).unwrap();
        fooled.merge([echo]);
        assert!(fooled.contains(&node(9).id()) && !fooled.contains(&node(3).id()));
        fooled.merge([eviction]);
        for member in [0, 2, 3, 5] {
            assert!(fooled.contains(&node(member).id()), "{member}");
        }
        assert_eq!(fooled.members().len(), 4);
    }

    #[test]
    fn the_evicted_one_that_was_away_is_convinced_by_its_own_roster() {
        let old = swarm(3);
        let mut roster = old.clone();
        // Whoever evicts it, it has never heard of.
        let stranger = roster.admit(&node(1), node(4).id(), "n4", 2).unwrap();
        roster.merge([stranger]);
        let another = roster.admit(&node(4), node(5).id(), "n5", 3).unwrap();
        roster.merge([another]);
        roster.merge([roster.evict(&node(5), node(2).id(), 4).unwrap()]);
        let why = roster.why_evicted(&node(2).id());
        let mut convinced = old.clone();
        convinced.merge(why.clone());
        assert!(old.contains(&node(2).id()) && convinced.is_evicted(&node(2).id()), "{why:?}");
        assert!(roster.why_evicted(&node(1).id()).is_empty());
        // The eviction alone is anybody's claim.
        let mut doubtful = old.clone();
        doubtful.merge(why.into_iter().take(1));
        assert_eq!(doubtful, old);
    }

    #[test]
    fn no_stranger_can_make_a_member_believe_that_it_was_evicted() {
        let old = swarm(3);
        let mut forged = old.clone();
        let record = Record::sign(
            &node(8),
            old.swarm(),
            Statement::Eviction { member: node(2).id(), at_ms: 4, stands: Vec::new() },
        );
        let friend = Record::sign(
            &node(9),
            old.swarm(),
            Statement::Admission { member: node(8).id(), name: "n8".into(), term: 0, at_ms: 3 },
        );
        forged.merge([record, friend]);
        assert_eq!(forged, old);
    }

    #[test]
    fn two_that_evict_each_other_are_both_out() {
        let roster = swarm(3);
        let (a, b) =
            (roster.evict(&node(1), node(2).id(), 5).unwrap(), roster.evict(&node(2), node(1).id(), 5).unwrap());
        for order in [[&a, &b], [&b, &a]] {
            let mut roster = roster.clone();
            order.into_iter().for_each(|r| {
                roster.merge([r.clone()]);
            });
            assert_eq!(ids(&roster), [node(0).id()]);
        }
    }

    #[test]
    fn without_exactly_one_founder_it_is_no_roster() {
        let roster = swarm(2);
        assert!(Roster::from_records([]).is_err());
        let two_founders = roster
            .records()
            .cloned()
            .chain(Roster::found(&node(7), "x", 1, [0; 8]).records().cloned().collect::<Vec<_>>());
        assert_eq!(Roster::from_records(two_founders), Err(Invalid::NoFounder));
    }

    /// A random history: members admit and evict whom they like, each from the whole roster so far or an older one.
    fn history(steps: &[(u8, u8, u8, bool)]) -> (Roster, Vec<Record>) {
        let mut states = vec![Roster::found(&node(0), "zero", 1, [0; 8])];
        let mut all = Vec::new();
        for (from, by, whom, evict) in steps {
            let mut roster = states[usize::from(*from) % states.len()].clone();
            let (by, whom) = (by % 6, whom % 6);
            let made = match (evict, by == whom) {
                (true, true) => roster.depart(&node(by), 1),
                (true, false) => roster.evict(&node(by), node(whom).id(), 1),
                (false, _) => roster.admit(&node(by), node(whom).id(), "n", 1),
            };
            if let Ok(record) = made
                && roster.contains(&node(by).id())
            {
                all.push(record.clone());
                roster.merge([record]);
                states.push(roster);
            }
        }
        (states[0].clone(), all)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn merging_is_commutative_and_idempotent(
            steps in prop::collection::vec((any::<u8>(), any::<u8>(), any::<u8>(), prop::bool::weighted(0.3)), 1..24),
            cut in any::<u32>(),
        ) {
            let (founded, all) = history(&steps);
            let (mut a, mut b) = (founded.clone(), founded.clone());
            a.merge(all.iter().enumerate().filter(|(i, _)| cut >> (i % 32) & 1 == 1).map(|(_, r)| r.clone()));
            b.merge(all.iter().rev().enumerate().filter(|(i, _)| cut >> (i % 32) & 3 != 2).map(|(_, r)| r.clone()));
            let mut ab = a.clone();
            ab.merge(b.records().cloned());
            let mut ba = b.clone();
            ba.merge(a.records().cloned());
            prop_assert_eq!(&ab, &ba);
            prop_assert_eq!(ab.digest(), ba.digest());
            let once = ab.clone();
            ab.merge(a.records().cloned());
            prop_assert_eq!(&ab, &once);
            prop_assert_eq!(Roster::from_records(once.records().cloned()), Ok(once));
        }
    }
}
