//! The ledger's core as several nodes have it: whatever is lost on the way and whoever forgets what, they come to the
//! same, and what was deleted stays deleted.

use super::{
    core::{Core, Difference, Line, Write},
    entry::{Entry, Key},
    forest::{Forest, differing},
};
use proptest::prelude::*;
use skep_runtime::NodeId;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

const NODES: usize = 3;
const KEYS: u8 = 6;

fn node(n: usize) -> NodeId {
    NodeId::from_bytes([n as u8 + 1; 32])
}

fn key(n: u8) -> Key {
    Key { collection: 1, id: vec![n] }
}

/// Nodes with their disks, and what the last write of each record was.
struct World {
    cores: Vec<Core>,
    disks: Vec<BTreeMap<Key, Entry>>,
    latest: BTreeMap<Key, Entry>,
    /// The latest term of a record that a node has heard of.
    terms: BTreeMap<(usize, Key), u64>,
    now: u64,
}

impl World {
    fn new() -> World {
        let cores = (0..NODES).map(|n| Core::new(node(n))).collect();
        World { cores, disks: vec![BTreeMap::new(); NODES], latest: BTreeMap::new(), terms: BTreeMap::new(), now: 0 }
    }

    fn at(&self) -> Duration {
        Duration::from_secs(self.now)
    }

    /// A disk that takes it, or doesn't.
    fn flush(&mut self, n: usize, entries: Vec<Entry>, works: bool) {
        if !works {
            return self.cores[n].failed();
        }
        let at = self.at();
        self.cores[n].flushed(&entries, at);
        for entry in entries {
            let term = self.terms.entry((n, entry.key.clone())).or_default();
            *term = entry.version.term.max(*term);
            if self.disks[n].get(&entry.key).is_none_or(|old| old.version < entry.version) {
                self.disks[n].insert(entry.key.clone(), entry);
            }
        }
    }

    fn write(&mut self, n: usize, write: Write, works: bool) -> Vec<Entry> {
        // Who has heard that another took a record over and then deleted it, lets go of it.
        let heard = self.terms.get(&(n, write.key.clone())).copied().unwrap_or_default();
        if heard > write.term && self.cores[n].get(&write.key).is_none() {
            return Vec::new();
        }
        let written = self.cores[n].write(vec![write], self.now).unwrap();
        self.flush(n, written.entries.clone(), works);
        if works {
            for entry in &written.entries {
                if self.latest.get(&entry.key).is_none_or(|old| old.version < entry.version) {
                    self.latest.insert(entry.key.clone(), entry.clone());
                }
            }
        }
        if works { written.entries } else { Vec::new() }
    }

    fn merge(&mut self, n: usize, entries: Vec<Entry>) {
        let (news, _) = self.cores[n].merge(entries, self.now);
        self.flush(n, news, true);
    }

    fn entries(&self, n: usize, keys: Vec<Key>) -> Vec<Entry> {
        keys.iter().filter_map(|key| self.disks[n].get(key).cloned()).collect()
    }

    fn compare(&mut self, a: usize, b: usize) {
        let since = self.at();
        let mut all = Difference::default();
        let leaves: BTreeSet<u16> =
            [a, b].iter().flat_map(|n| self.disks[*n].keys()).map(|key| Forest::leaf(key.place())).collect();
        for leaf in leaves {
            let theirs: Vec<Line> = self.cores[b].list(leaf, None).collect();
            let Difference { want, give, settled } = self.cores[a].compare(leaf, &theirs);
            all.want.extend(want);
            all.give.extend(give);
            all.settled.extend(settled);
        }
        self.forget(b, all.settled);
        let want = self.entries(b, all.want);
        self.merge(a, want);
        let give = self.entries(a, all.give);
        self.merge(b, give);
        self.cores[a].equal(node(b), since);
    }

    fn forget(&mut self, n: usize, lines: Vec<Line>) {
        let lines: Vec<Line> = lines.into_iter().filter(|line| self.cores[n].holds(line)).collect();
        lines.iter().for_each(|line| drop(self.disks[n].remove(&line.key)));
        self.cores[n].forgotten(&lines);
    }

    fn tidy(&mut self, n: usize) {
        let others: BTreeSet<NodeId> = (0..NODES).filter(|other| *other != n).map(node).collect();
        let lines = self.cores[n].forgettable(&others);
        self.forget(n, lines);
    }

    /// The process ends and starts again with what is on its disk.
    fn restart(&mut self, n: usize) {
        let mut core = Core::new(node(n));
        for entry in self.disks[n].values() {
            core.load(entry.key.clone(), entry.version, entry.value.is_none());
        }
        self.cores[n] = core;
    }

    fn values(&self, n: usize) -> BTreeMap<Key, Entry> {
        self.disks[n].iter().filter(|(_, entry)| entry.value.is_some()).map(|(k, e)| (k.clone(), e.clone())).collect()
    }
}

#[derive(Debug, Clone)]
enum Event {
    Write { node: usize, key: u8, term: u64, value: Option<u8>, reaches: Vec<bool>, works: bool },
    Compare(usize, usize),
    Tidy(usize),
    Restart(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let write = (
        0..NODES,
        0..KEYS,
        0u64..3,
        prop::option::of(any::<u8>()),
        prop::collection::vec(any::<bool>(), NODES),
        prop::bool::weighted(0.9),
    );
    prop_oneof![
        4 => write.prop_map(|(node, key, term, value, reaches, works)| Event::Write { node, key, term, value, reaches, works }),
        3 => (0..NODES, 1..NODES).prop_map(|(a, by)| Event::Compare(a, (a + by) % NODES)),
        2 => (0..NODES).prop_map(Event::Tidy),
        1 => (0..NODES).prop_map(Event::Restart),
    ]
}

proptest! {
    /// Every node comes to what was written last, in the order of terms and stamps; none holds anything that was
    /// deleted, also when some have forgotten the deletion; and in the end nobody remembers any.
    #[test]
    fn all_come_to_what_was_written_last_and_nothing_deleted_returns(events in prop::collection::vec(event(), 1..60)) {
        let mut world = World::new();
        for event in events {
            world.now += 1;
            match event {
                Event::Write { node, key: n, term, value, reaches, works } => {
                    let write = Write { key: key(n), term, value: value.map(|value| vec![value]) };
                    let entries = world.write(node, write, works);
                    for to in (0..NODES).filter(|to| *to != node && reaches[*to]) {
                        world.merge(to, entries.clone());
                    }
                }
                Event::Compare(a, b) => world.compare(a, b),
                Event::Tidy(n) => world.tidy(n),
                Event::Restart(n) => world.restart(n),
            }
        }
        for _ in 0..3 {
            for (a, b) in (0..NODES).flat_map(|a| (0..NODES).filter(move |b| *b != a).map(move |b| (a, b))) {
                world.now += 1;
                world.compare(a, b);
            }
            (0..NODES).for_each(|n| world.tidy(n));
        }
        let expected: BTreeMap<Key, Entry> =
            world.latest.iter().filter(|(_, entry)| entry.value.is_some()).map(|(k, e)| (k.clone(), e.clone())).collect();
        for n in 0..NODES {
            prop_assert_eq!(&world.values(n), &expected, "node {}", n);
            prop_assert_eq!(world.cores[n].count(), (expected.len(), 0), "node {} remembers deletions", n);
            prop_assert_eq!(world.cores[n].forest(), world.cores[0].forest());
        }
    }
}

#[test]
fn a_write_of_a_term_that_has_passed_is_fenced_and_of_one_that_is_on_its_way_to_the_disk_too() {
    let mut core = Core::new(node(0));
    let write = |term| vec![Write { key: key(1), term, value: Some(vec![1]) }];
    let first = core.write(write(2), 10).unwrap();
    assert_eq!(core.write(write(1), 10).unwrap().fenced, [key(1)], "the later one is not on the disk yet");
    core.flushed(&first.entries, Duration::ZERO);
    assert_eq!(core.write(write(1), 10).unwrap().fenced, [key(1)]);
    assert!(core.write(write(2), 10).unwrap().fenced.is_empty());
    assert_eq!(core.get(&key(1)).unwrap().0, first.entries[0].version, "what isn't flushed is not known");
}

#[test]
fn what_is_out_of_bounds_is_written_by_nobody_and_taken_from_nobody() {
    let mut core = Core::new(node(0));
    let large = || Some(vec![0; super::VALUE_BYTES_MAX + 1]);
    assert!(core.write(vec![Write { key: key(1), term: 0, value: large() }], 10).is_err());
    let sound = core.write(vec![Write { key: key(1), term: 0, value: None }], 10).unwrap().entries.remove(0);
    let mut other = Core::new(node(1));
    let entry = Entry { value: large(), ..sound.clone() };
    let nameless = Entry { key: Key { collection: 1, id: Vec::new() }, ..sound.clone() };
    assert_eq!(other.merge(vec![entry, nameless], 10), (vec![], vec![]));
    assert_eq!(other.merge(vec![sound.clone()], 10).0, [sound]);
}

#[test]
fn a_month_of_churn_leaves_what_lives_and_nothing_else() {
    const LIVE: u64 = 20;
    let mut world = World::new();
    let key = |n: u64| Key { collection: 1, id: n.to_le_bytes().to_vec() };
    let mut most = 0;
    let mut last = [None; NODES];
    // Each hour every node writes some records and deletes those that it wrote before; one of them sleeps at night.
    for hour in 0..30 * 24 {
        world.now += 1;
        let sleeps = hour % 24 < 8;
        for n in (0..NODES).filter(|n| !(sleeps && *n == 2)) {
            for i in 0..LIVE / NODES as u64 {
                let at = |hour: u64| key((hour * NODES as u64 + n as u64) * LIVE + i);
                let mut entries = world.write(n, Write { key: at(hour), term: 0, value: Some(vec![1]) }, true);
                if let Some(before) = last[n] {
                    entries.extend(world.write(n, Write { key: at(before), term: 0, value: None }, true));
                }
                for to in (0..NODES).filter(|to| *to != n && !(sleeps && *to == 2)) {
                    world.merge(to, entries.clone());
                }
            }
            last[n] = Some(hour);
        }
        for (a, b) in [(0, 1), (1, 0), (0, 2), (1, 2), (2, 0), (2, 1)] {
            if !(sleeps && (a == 2 || b == 2)) {
                world.now += 1;
                world.compare(a, b);
            }
        }
        (0..NODES).for_each(|n| world.tidy(n));
        most = most.max(world.cores[0].count().0);
    }
    // A night's deletions wait for the one who sleeps.
    assert!(most < 10 * 2 * LIVE as usize, "{most} records at the most");
    let (all, dead) = world.cores[0].count();
    assert!(all - dead <= 2 * LIVE as usize && dead <= LIVE as usize, "{all} records, {dead} of them deleted");
}

#[test]
fn who_was_away_takes_what_changed_and_nothing_else() {
    let mut world = World::new();
    let key = |n: u64| Key { collection: 1, id: n.to_le_bytes().to_vec() };
    for n in 0..500 {
        let entries = world.write(0, Write { key: key(n), term: 0, value: Some(vec![1]) }, true);
        world.merge(1, entries);
    }
    world.now += 1;
    for (n, value) in [(7, Some(vec![2])), (8, None), (600, Some(vec![3]))] {
        world.write(0, Write { key: key(n), term: 0, value }, true);
    }
    let (here, there) = (world.cores[1].forest().clone(), world.cores[0].forest().clone());
    let mut want = Vec::new();
    for branch in differing(here.branches(), there.branches()) {
        for leaf in differing(here.leaves(branch), there.leaves(branch)) {
            let leaf = Forest::leaf_of(branch, leaf);
            let theirs: Vec<Line> = world.cores[0].list(leaf, None).collect();
            let difference = world.cores[1].compare(leaf, &theirs);
            assert_eq!((difference.give, difference.settled), (vec![], vec![]));
            want.extend(difference.want);
        }
    }
    want.sort();
    let mut changed = vec![key(7), key(8), key(600)];
    changed.sort();
    assert_eq!(want, changed);
}
