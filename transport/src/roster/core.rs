//! The roster: a set of records, and who is a member by it. No I/O, no clock; one thought, hence its length.
//!
//! Rules, each a function of the set alone, so that merging is commutative, associative and idempotent:
//! - An admission counts if its signer was admitted, back to the founder.
//! - Evicted wins for ever: no later admission brings a key back.
//! - An evicted member's statements count only as far as its evictor knew them, so that a stolen key can't
//!   go on admitting and evicting at members that were away. The one exception is an eviction of its evictor:
//!   two members that evict each other are both out, whichever news came first.
//! - A departed member's statements count only as far as its departure names them, until another admits it again.
//! - Of more statements by one key than it may sign, those with the lowest ids count: it pushes out nobody's but its own.
//! - Where evictions contradict each other, those of members nearer to the founder are heard first.

use super::record::{ADMISSIONS_BY_ONE_MAX, Mark, OTHERS_BY_ONE_MAX, Record, RecordId, Statement, SwarmId, tidy_name};
use crate::identity::Identity;
use aws_lc_rs::digest::{Context, SHA256};
use skep_runtime::NodeId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Records of one roster: two per member for a thousand members.
pub(super) const RECORDS_MAX: usize = 2048;
/// Admissions among them. The rest is for evictions and departures, which must not fail because somebody has filled the
/// roster.
const ADMISSIONS_MAX: usize = RECORDS_MAX / 4 * 3;
/// Bytes of all records. All of them fit into one frame of the exchange, and into a welcome.
const ROSTER_BYTES_MAX: usize = 960 << 10;
/// Bytes that admissions may take of these, at about 200 each.
const ADMISSION_BYTES_MAX: usize = 480 << 10;

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
    /// [`RECORDS_MAX`] records are there, or as many bytes as may be.
    #[error("the roster is full: form a new swarm")]
    Full,
    /// This key has signed [`ADMISSIONS_BY_ONE_MAX`] admissions or [`OTHERS_BY_ONE_MAX`] other statements.
    #[error("this machine has signed as many statements as one may: let another member do it")]
    Enough,
}

/// A swarm's roster as one node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    swarm: SwarmId,
    founded_ms: u64,
    records: BTreeMap<RecordId, Record>,
    /// Of the ids of all records. Every greeting tells it.
    digest: [u8; 32],
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
            digest: [0; 32],
            members: BTreeMap::new(),
            evicted: BTreeMap::new(),
        };
        // Whatever is added derives who is a member.
        if roster.merge(rest).added.is_empty() {
            roster.derive();
        }
        Ok(roster)
    }

    /// Adds what is new, sound and chained to the founder.
    pub fn merge(&mut self, records: impl IntoIterator<Item = Record>) -> Merged {
        let mut merged = Merged::default();
        let mut fresh = BTreeMap::new();
        let mut room = self.room();
        for record in records {
            let id = record.id();
            if self.records.contains_key(&id) || fresh.contains_key(&id) {
                continue;
            }
            if record.swarm == self.swarm && room.has(&record) && record.sound() {
                room.take(&record);
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
        self.cut();
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
        [eviction].into_iter().chain(self.admissions_above(eviction.by)).cloned().collect()
    }

    /// What shows another member, whose roster may be older, that `id` is a member: its admission, and those that lead
    /// from it towards the founder, as many as fit `bytes_max`. Empty for the founder and for who is no member.
    pub fn why_member(&self, id: &NodeId, bytes_max: usize) -> Vec<Record> {
        let Some(Membership { term, .. }) = self.members.get(id) else { return Vec::new() };
        let this_one = |record: &&Record| matches!(record.statement, Statement::Admission { member, term: t, .. } if member == *id && t == *term && record.by != *id);
        let Some(admission) = self.records.values().find(this_one) else { return Vec::new() };
        let mut room = bytes_max;
        let chain = [admission].into_iter().chain(self.admissions_above(admission.by));
        let fitting = chain.take_while(|record| {
            let fits = record.bytes() <= room;
            room = room.saturating_sub(record.bytes());
            fits
        });
        fitting.cloned().collect()
    }

    /// The admissions that lead from `id` to the founder, whom nobody admitted. Each step is one nearer to it.
    fn admissions_above(&self, mut id: NodeId) -> impl Iterator<Item = &Record> {
        let ranks = self.ranks();
        std::iter::from_fn(move || {
            let admits = |r: &&Record| matches!(r.statement, Statement::Admission { member, .. } if member == id);
            let admission = self.records.values().filter(admits).find(|r| ranks[&r.by] < ranks[&id])?;
            id = admission.by;
            Some(admission)
        })
    }

    /// All records, in order of their ids.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// The ids of all records, hashed: equal digests are equal rosters.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// What stands for each record where another roster is compared with this one.
    pub fn marks(&self) -> impl Iterator<Item = Mark> {
        self.records.keys().map(RecordId::mark)
    }

    /// The records that a roster with these marks lacks, and the marks of what this one lacks.
    pub fn against(&self, theirs: &[Mark]) -> (Vec<Record>, Vec<Mark>) {
        let (theirs, mine): (BTreeSet<Mark>, BTreeSet<Mark>) =
            (theirs.iter().copied().collect(), self.marks().collect());
        let lacked = self.records.iter().filter(|(id, _)| !theirs.contains(&id.mark()));
        (lacked.map(|(_, record)| record.clone()).collect(), theirs.difference(&mine).copied().collect())
    }

    /// The records that have one of these marks.
    pub fn marked(&self, marks: &[Mark]) -> Vec<Record> {
        let marks: BTreeSet<&Mark> = marks.iter().collect();
        let marked = self.records.iter().filter(|(id, _)| marks.contains(&id.mark()));
        marked.map(|(_, record)| record.clone()).collect()
    }

    /// A signed admission of `member`, not merged yet.
    pub fn admit(&self, identity: &Identity, member: NodeId, name: &str, at_ms: u64) -> Result<Record, Invalid> {
        if self.is_evicted(&member) {
            return Err(Invalid::Evicted);
        }
        if self.contains(&member) {
            return Err(Invalid::AlreadyMember);
        }
        let term = self.departed(&member).map_or(0, |term| term.saturating_add(1));
        self.fitting(self.sign(identity, Statement::Admission { member, name: tidy_name(name), term, at_ms }))
    }

    /// A signed eviction of `member`, not merged yet.
    pub fn evict(&self, identity: &Identity, member: NodeId, at_ms: u64) -> Result<Record, Invalid> {
        if !self.contains(&member) {
            return Err(Invalid::NoMember);
        }
        let stands = self.signed_by(member);
        self.fitting(self.sign(identity, Statement::Eviction { member, at_ms, stands }))
    }

    /// A signed departure of this node itself, not merged yet.
    pub fn depart(&self, identity: &Identity, at_ms: u64) -> Result<Record, Invalid> {
        let Membership { term, .. } = self.members.get(&identity.id()).ok_or(Invalid::NoMember)?;
        let stands = self.signed_by(identity.id());
        self.fitting(self.sign(identity, Statement::Departure { term: *term, at_ms, stands }))
    }

    fn sign(&self, identity: &Identity, statement: Statement) -> Record {
        Record::sign(identity, self.swarm, statement)
    }

    fn signed_by(&self, who: NodeId) -> Vec<RecordId> {
        self.records.iter().filter(|(_, r)| r.by == who).map(|(id, _)| *id).collect()
    }

    /// A new statement of this node's own, if the roster takes one more of it.
    fn fitting(&self, record: Record) -> Result<Record, Invalid> {
        let alike = |r: &&Record| r.by == record.by && is_admission(r) == is_admission(&record);
        match self.records.values().filter(alike).count() < by_one_max(&record) {
            true if self.room().has(&record) => Ok(record),
            true => Err(Invalid::Full),
            false => Err(Invalid::Enough),
        }
    }

    /// What room there is.
    fn room(&self) -> Room {
        let mut room = Room::default();
        self.records.values().for_each(|record| room.take(record));
        room
    }

    /// Leaves out what a key has signed beyond what it may: a function of the set, as the lowest ids stay.
    fn cut(&mut self) {
        let mut signed: BTreeMap<(NodeId, bool), usize> = BTreeMap::new();
        self.records.retain(|_, record| {
            let count = signed.entry((record.by, is_admission(record))).or_default();
            *count += 1;
            matches!(record.statement, Statement::Founding { .. }) || *count <= by_one_max(record)
        });
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
        let mut admitted: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        for record in self.records.values() {
            if let Statement::Admission { member, .. } = record.statement {
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

    /// Who may state what, given the evictions so far: the admissions that count, followed from the founder.
    fn standing(&self, out: &BTreeMap<NodeId, Vec<&Record>>) -> Standing<'_> {
        let mut departures: BTreeMap<NodeId, (u32, &[RecordId])> = BTreeMap::new();
        for record in self.records.values() {
            if let Statement::Departure { term, stands, .. } = &record.statement
                && departures.get(&record.by).is_none_or(|(last, _)| term > last)
            {
                departures.insert(record.by, (*term, stands));
            }
        }
        let founder = self.founding().by;
        let mut standing = Standing { departures, admitted: BTreeSet::new(), present: BTreeSet::new() };
        standing.admit(founder, 0);
        // Until nothing is added: an admission may count only after its signer was admitted again.
        loop {
            let before = (standing.admitted.len(), standing.present.len());
            for (id, record) in &self.records {
                if let Statement::Admission { member, term, .. } = record.statement
                    && member != record.by
                    && standing.may_state(id, record)
                    && stands(record, out)
                {
                    standing.admit(member, term);
                }
            }
            if before == (standing.admitted.len(), standing.present.len()) {
                return standing;
            }
        }
    }

    /// Works out from the records who is a member and who was evicted.
    fn derive(&mut self) {
        let out = self.evictions();
        let standing = self.standing(&out);
        let mut members: BTreeMap<NodeId, Membership> = BTreeMap::new();
        for (id, record) in &self.records {
            let (member, name, term, at_ms) = match &record.statement {
                Statement::Founding { name, at_ms, .. } => (record.by, name, 0, *at_ms),
                Statement::Admission { member, name, term, at_ms } if *member != record.by => {
                    (*member, name, *term, *at_ms)
                }
                Statement::Admission { .. } | Statement::Eviction { .. } | Statement::Departure { .. } => continue,
            };
            let counts = standing.may_state(id, record) && stands(record, &out) && !out.contains_key(&member);
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
        let mut hash = Context::new(&SHA256);
        self.records.keys().for_each(|id| hash.update(&id.0));
        self.digest = hash.finish().as_ref().try_into().expect("SHA-256 has 32 bytes");
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
        for (_, id, record) in heard {
            let Statement::Eviction { member, .. } = &record.statement else { continue };
            if self.standing(&out).may_state(id, record) && stands(record, &out) && ranks.contains_key(member) {
                out.entry(*member).or_default().push(record);
            }
        }
        out
    }
}

/// Who was admitted, and who is present still or again.
struct Standing<'a> {
    /// The last term that someone ended, and the statements that it stands by.
    departures: BTreeMap<NodeId, (u32, &'a [RecordId])>,
    admitted: BTreeSet<NodeId>,
    present: BTreeSet<NodeId>,
}

impl Standing<'_> {
    fn admit(&mut self, member: NodeId, term: u32) {
        self.admitted.insert(member);
        if self.departures.get(&member).is_none_or(|(ended, _)| term > *ended) {
            self.present.insert(member);
        }
    }

    /// Whether the signer of `record` could state it: it is present, or it had before it left.
    fn may_state(&self, id: &RecordId, record: &Record) -> bool {
        let before = || self.departures.get(&record.by).is_some_and(|(_, stands)| stands.contains(id));
        self.present.contains(&record.by) || (self.admitted.contains(&record.by) && before())
    }
}

/// The room that a roster's records take.
#[derive(Debug, Clone, Copy, Default)]
struct Room {
    records: usize,
    bytes: usize,
    admissions: usize,
    admission_bytes: usize,
}

impl Room {
    fn has(&self, record: &Record) -> bool {
        let bytes = record.bytes();
        let fits = self.admissions < ADMISSIONS_MAX && self.admission_bytes + bytes <= ADMISSION_BYTES_MAX;
        (fits || !is_admission(record)) && self.records < RECORDS_MAX && self.bytes + bytes <= ROSTER_BYTES_MAX
    }

    fn take(&mut self, record: &Record) {
        let bytes = record.bytes();
        self.records += 1;
        self.bytes += bytes;
        if is_admission(record) {
            self.admissions += 1;
            self.admission_bytes += bytes;
        }
    }
}

fn is_admission(record: &Record) -> bool {
    matches!(record.statement, Statement::Admission { .. })
}

/// How many statements of this sort one key may sign.
fn by_one_max(record: &Record) -> usize {
    if is_admission(record) { ADMISSIONS_BY_ONE_MAX } else { OTHERS_BY_ONE_MAX }
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
    fn who_was_admitted_by_one_who_told_nobody_can_show_it_and_who_was_admitted_in_vain_can_not() {
        let (all, mut part) = (swarm(3), swarm(3));
        let admission = part.admit(&node(1), node(7).id(), "seven", 5).unwrap();
        part.merge([admission.clone()]);
        part.merge([part.depart(&node(1), 6).unwrap()]);
        let proof = part.why_member(&node(7).id(), 1 << 20);
        assert_eq!(proof.len(), 2, "its own admission, and that of who signed it: {proof:?}");
        let mut shown = all.clone();
        shown.merge(proof.clone());
        assert!(shown.contains(&node(7).id()));
        assert_eq!(part.why_member(&node(7).id(), 300), [admission]);

        let mut evicted = all.clone();
        evicted.merge([all.evict(&node(0), node(1).id(), 4).unwrap()]);
        evicted.merge(proof);
        assert!(!evicted.contains(&node(7).id()));
        assert!(
            part.why_member(&node(0).id(), 1 << 20).is_empty() && part.why_member(&node(9).id(), 1 << 20).is_empty()
        );
    }

    #[test]
    fn two_rosters_that_differ_name_just_that() {
        let (mut one, mut other) = (swarm(3), swarm(3));
        let (left, right) =
            (one.admit(&node(1), node(7).id(), "seven", 5), other.admit(&node(2), node(8).id(), "eight", 5));
        let (left, right) = (left.unwrap(), right.unwrap());
        one.merge([left.clone()]);
        other.merge([right.clone()]);
        let (lacked, lacks) = one.against(&other.marks().collect::<Vec<_>>());
        assert_eq!(lacked, [left]);
        assert_eq!(other.marked(&lacks), [right]);
        other.merge(lacked);
        one.merge(other.marked(&lacks));
        assert_eq!(one, other);
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
    fn who_left_can_not_bring_itself_back_nor_state_anything_more() {
        let mut roster = swarm(4);
        let before = roster.admit(&node(1), node(5).id(), "before", 2).unwrap();
        roster.merge([before]);
        // A member that was away: it takes what the key signs for that of a member.
        let mut away = roster.clone();
        let departure = roster.depart(&node(1), 5).unwrap();
        let itself = Statement::Admission { member: node(1).id(), name: "one".into(), term: 1, at_ms: 6 };
        let later = [
            Record::sign(&node(1), roster.swarm(), itself),
            away.admit(&node(1), node(9).id(), "friend", 6).unwrap(),
            away.evict(&node(1), node(2).id(), 6).unwrap(),
        ];
        away.merge(later.clone());
        away.merge([departure.clone()]);
        roster.merge([departure]);
        roster.merge(later);
        for roster in [&roster, &away] {
            assert_eq!(ids(roster), ids(&away));
            assert!(!roster.contains(&node(1).id()) && !roster.contains(&node(9).id()));
            assert!(roster.contains(&node(2).id()), "an eviction of who left is none");
            assert!(roster.contains(&node(5).id()), "what it stated as a member stands");
        }
        // Admitted by another, its word counts again.
        let back = roster.admit(&node(3), node(1).id(), "one", 7).unwrap();
        roster.merge([back]);
        assert!(roster.contains(&node(1).id()));
        let third = roster.admit(&node(1), node(6).id(), "six", 8).unwrap();
        roster.merge([third]);
        assert!(roster.contains(&node(6).id()));
    }

    #[test]
    fn two_that_left_can_not_bring_each_other_back() {
        let mut roster = swarm(3);
        let departures = [roster.depart(&node(1), 5).unwrap(), roster.depart(&node(2), 5).unwrap()];
        roster.merge(departures);
        let again = |by: u8, member: u8| {
            let statement = Statement::Admission { member: node(member).id(), name: "x".into(), term: 1, at_ms: 6 };
            Record::sign(&node(by), roster.swarm(), statement)
        };
        let both = [again(1, 2), again(2, 1)];
        roster.merge(both);
        assert_eq!(ids(&roster), [node(0).id()]);
    }

    /// Admissions of keys that nobody has, by `by`.
    fn crowd(roster: &Roster, by: u8, size: usize) -> Vec<Record> {
        let admission = |n: usize| {
            let member = NodeId::from_bytes(std::array::from_fn(|i| [by, n as u8, (n >> 8) as u8][i % 3]));
            let statement = Statement::Admission { member, name: "x".into(), term: 0, at_ms: 1 };
            Record::sign(&node(by), roster.swarm(), statement)
        };
        (0..size).map(admission).collect()
    }

    #[test]
    fn nobody_fills_the_roster_alone_and_the_order_of_news_does_not_matter() {
        let (mut one, mut other) = (swarm(2), swarm(2));
        let crowd = crowd(&one, 1, 2 * ADMISSIONS_BY_ONE_MAX);
        for part in crowd.chunks(100) {
            one.merge(part.to_vec());
        }
        for part in crowd.chunks(77).rev() {
            other.merge(part.to_vec());
        }
        assert_eq!(one, other);
        assert_eq!(one.members().len(), 2 + ADMISSIONS_BY_ONE_MAX);
        assert_eq!(one.admit(&node(1), node(7).id(), "seven", 2), Err(Invalid::Enough));
        let by_another = one.admit(&node(0), node(7).id(), "seven", 2).unwrap();
        assert_eq!(one.merge([by_another]).added.len(), 1);
    }

    #[test]
    fn a_roster_that_is_full_of_admissions_still_takes_evictions_and_fits_into_a_frame() {
        let mut roster = swarm(9);
        for by in 1..9 {
            roster.merge(crowd(&roster, by, ADMISSIONS_BY_ONE_MAX));
        }
        assert_eq!(roster.admit(&node(0), node(20).id(), "late", 2), Err(Invalid::Full));
        for by in 1..9 {
            let eviction = roster.evict(&node(0), node(by).id(), 2).unwrap();
            assert_eq!(roster.merge([eviction]).added.len(), 1, "{by}");
            assert!(!roster.contains(&node(by).id()));
        }
        let all: Vec<Record> = roster.records().cloned().collect();
        assert!(skep_runtime::wire::encode(&all).len() < 1 << 20);
    }

    #[test]
    fn an_eviction_that_names_more_than_one_key_may_sign_is_refused() {
        let mut roster = swarm(3);
        let stands = vec![RecordId([7; 32]); 20_000];
        let eviction = Statement::Eviction { member: node(2).id(), at_ms: 1, stands };
        let huge = Record::sign(&node(1), roster.swarm(), eviction);
        assert_eq!(roster.merge([huge]).refused, 1);
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
