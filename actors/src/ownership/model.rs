//! The courses that a small swarm can take: nodes that ask, vote, write, take over, pause and are started again, messages that
//! are late, lost or out of order, clocks that run differently. In none of them may two nodes act on one record at once.
//!
//! All of them, breadth first, as far as that can be waited for, and a great many longer ones at random; with the nodes' own
//! [`Leases`]. Times are a few ticks and are kept relative to now, so that there are finitely many states. That the search
//! would find a mistake is shown by making some.

use super::{
    Term,
    lease::{Ballot, Holding, Kept, Leases, Timing, Verdict, is_half, wins},
};
use crate::ledger::{Key, Stamp, Version};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use skep_runtime::NodeId;
use std::{
    collections::{BTreeSet, HashSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    mem::discriminant,
    time::Duration,
};

/// Messages that are under way at once.
const FLIGHT_MAX: usize = 2;

/// What is explored.
#[derive(Debug, Clone, Copy)]
struct Rules {
    nodes: u8,
    lease: u64,
    margin: u64,
    /// Whether somebody has the record at first. If not, two nodes may be given it at once.
    owned: bool,
    /// Takeovers of one course, counted by their terms: the second takes what was taken.
    takeovers: u64,
    /// How often each clock may gain a tick on the true time.
    drift: u8,
    /// How often a node may be started again.
    restarts: u8,
    /// Courses are followed so far.
    depth: usize,
    /// What is done wrong, if anything.
    mistake: Option<Mistake>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    /// Half of the votes are enough.
    HalfTakesOver,
    /// A node that is started again takes it that it told nobody anything.
    ForgetsWhatItSaid,
    /// Whoever was voted for acts before half has its record.
    ActsAtOnce,
    /// What is written in an earlier term than a node has voted for counts there all the same.
    CountsTheEarlier,
    /// The same, only where it is written.
    CountsItsOwnEarlier,
    /// A node votes for whoever knows less of the record than it does.
    VotesForTheIgnorant,
    /// A node that is started again takes what it wrote for what half has.
    TrustsItsDisk,
}

/// An owner's question whether it counts, or the answer. Polls and writes need no messages here. Whenever one arrives, with
/// what its sender knew when it stood, it might as well have been sent then; and what comes of an answer that is late, comes
/// of one that is not: that its asker acts, only later.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Message {
    Ask { from: u8, to: u8, epoch: u64, asked: u64 },
    Say { from: u8, to: u8, epoch: u64, asked: u64, counts: Result<(), u64> },
}

#[derive(Debug, Clone)]
struct Node {
    core: Leases,
    /// How far its clock is ahead of the true time.
    ahead: u64,
    restarts: u8,
    /// What its ledger says whose the record is.
    written: Option<Holding>,
    /// What it took, and who has that on its disk and counts.
    owns: Option<(Holding, BTreeSet<u8>)>,
    /// What it asks for, and who voted for that.
    wants: Option<(Ballot, BTreeSet<u8>)>,
}

#[derive(Debug, Clone)]
struct World {
    now: u64,
    nodes: Vec<Node>,
    flight: BTreeSet<Message>,
}

fn id(n: u8) -> NodeId {
    NodeId::from_bytes([n; 32])
}

fn key() -> Key {
    Key { collection: 1, id: vec![1] }
}

fn at(ticks: u64) -> Duration {
    Duration::from_secs(ticks)
}

fn version(written: Option<Holding>) -> Option<Version> {
    written.map(|held| Version { term: held.term.0, stamp: Stamp { ms: 0, count: 0, node: held.owner } })
}

/// Terms of two that want the same differ, as they do by a part of their keys.
fn term(count: u64, n: u8) -> Term {
    Term(count * 8 + u64::from(n))
}

impl Rules {
    fn is(self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }
}

impl Node {
    /// Who votes for what this one asks for, or would, if it may ask.
    fn vote(&mut self, ballot: &Ballot, now: Duration, rules: Rules, dry: bool) -> Verdict {
        let known = version(self.written).filter(|_| !rules.is(Mistake::VotesForTheIgnorant));
        match dry {
            true => self.core.would_vote(ballot, known, now),
            false => self.core.vote(ballot, known, now),
        }
    }

    /// Takes what an owner wrote, or another node has. Whether this one counts among those who have it.
    fn merge(&mut self, held: Holding) -> bool {
        if self.written.is_none_or(|written| written.term < held.term) {
            self.written = Some(held);
        }
        let promised = self.core.promised(&key());
        let written = self.written.map(|held| held.term);
        self.core.settle(|_| written);
        written == Some(held.term) && promised.is_none_or(|promised| promised <= held.term)
    }
}

impl World {
    fn new(rules: Rules) -> World {
        let timing = Timing { lease: at(rules.lease), margin: at(rules.margin) };
        let first = rules.owned.then_some(Holding { term: term(0, 0), owner: id(0), epoch: 0 });
        let node = |n| Node {
            core: Leases::new(id(n), Kept::default(), timing, at(0)),
            ahead: 0,
            restarts: 0,
            written: first,
            owns: first.filter(|_| n == 0).map(|held| (held, (0..rules.nodes).collect())),
            wants: None,
        };
        World { now: 0, nodes: (0..rules.nodes).map(node).collect(), flight: BTreeSet::new() }
    }

    fn clock(&self, n: u8) -> Duration {
        at(self.now + self.nodes[usize::from(n)].ahead)
    }

    fn node(&mut self, n: u8) -> &mut Node {
        &mut self.nodes[usize::from(n)]
    }

    /// Who may act now.
    fn acting(&self, rules: Rules) -> Vec<u8> {
        let all = self.nodes.len();
        let members: Vec<NodeId> = (0..all as u8).map(id).collect();
        let acts = |n: &u8| {
            let node = &self.nodes[usize::from(*n)];
            node.owns.as_ref().is_some_and(|(held, have)| {
                let known = is_half(have.len(), all) || rules.is(Mistake::ActsAtOnce);
                known && node.core.holds(held.epoch, &members, self.clock(*n))
            })
        };
        (0..all as u8).filter(acts).collect()
    }

    /// Everything that may happen next. A message that is lost is one that stays under way for ever, or whose place is taken:
    /// so it needs no step of its own but that.
    fn steps(&self, rules: Rules) -> Vec<Step> {
        let mut all = vec![Step::Tick];
        for (n, node) in (0u8..).zip(&self.nodes) {
            if node.ahead < u64::from(rules.drift) {
                all.push(Step::Gain(n));
            }
            if node.restarts < rules.restarts {
                all.push(Step::Restart(n));
            }
            let owns = node.owns.as_ref().is_some_and(|(held, _)| held.epoch == node.core.epoch());
            for to in (0..rules.nodes).filter(|to| *to != n) {
                if owns && self.flight.len() < FLIGHT_MAX {
                    all.push(Step::Ask(n, to));
                }
                if let Some((ballot, votes)) = &node.wants {
                    if !votes.contains(&to) {
                        all.push(Step::Poll(n, to));
                    }
                    if !ballot.given_up && ballot.held.is_some_and(|held| held.owner == id(to)) {
                        all.push(Step::Hear(n, to));
                    }
                }
                if node.written.is_some_and(|held| self.nodes[usize::from(to)].written < Some(held)) {
                    all.push(Step::Gossip(n, to));
                }
            }
            if let Some((held, have)) = &node.owns
                && node.written.is_none_or(|written| written.term <= held.term)
            {
                let first = |to: u8| to == n || node.written == Some(*held);
                let lacks = |to: &u8| !have.contains(to) && first(*to);
                all.extend((0..rules.nodes).filter(lacks).map(|to| Step::Push(n, to)));
            }
            if node.wants.is_none() {
                let least = node.written.map_or(0, |held| held.term.0 / 8);
                all.extend((least + 1..=rules.takeovers).map(|count| Step::Stand(n, count)));
            }
        }
        for message in &self.flight {
            all.extend([Step::Deliver(message.clone()), Step::Lose(message.clone())]);
        }
        all
    }

    fn step(&mut self, step: &Step, rules: Rules) {
        match *step {
            Step::Tick => self.tick(rules),
            Step::Gain(n) => self.node(n).ahead += 1,
            Step::Restart(n) => self.restart(n, rules),
            Step::Ask(from, to) => {
                let (epoch, asked) = (self.node(from).core.epoch(), self.clock(from).as_secs());
                self.flight.insert(Message::Ask { from, to, epoch, asked });
            }
            Step::Stand(n, count) => self.stand(n, count, rules),
            Step::Poll(n, to) => self.poll(n, to, rules),
            Step::Hear(n, to) => {
                let Some((ballot, _)) = self.node(n).wants.clone() else { return };
                let now = self.clock(to);
                let over = self.node(to).vote(&ballot, now, rules, true) == Verdict::Granted;
                self.node(n).wants.iter_mut().for_each(|(ballot, _)| ballot.given_up = over);
            }
            Step::Gossip(n, to) => {
                if let Some(held) = self.node(n).written {
                    self.node(to).merge(held);
                }
            }
            Step::Push(n, to) => {
                let Some((held, _)) = self.node(n).owns else { return };
                let mistakes = [(Mistake::CountsTheEarlier, to != n), (Mistake::CountsItsOwnEarlier, to == n)];
                let wrong = mistakes.into_iter().any(|(mistake, here)| here && rules.is(mistake));
                if self.node(to).merge(held) || wrong {
                    self.node(n).owns.iter_mut().for_each(|(_, have)| have.extend([to]));
                }
            }
            Step::Deliver(ref message) => self.deliver(message),
            Step::Lose(ref message) => drop(self.flight.remove(message)),
        }
    }

    /// Time passes. What is under way longer than a lease says nothing any more when it arrives.
    fn tick(&mut self, rules: Rules) {
        self.now += 1;
        for message in std::mem::take(&mut self.flight) {
            let (Message::Ask { from: asker, asked, .. } | Message::Say { to: asker, asked, .. }) = message;
            if self.clock(asker) < at(asked + rules.lease) {
                self.flight.insert(message);
            }
        }
    }

    /// What it promised and wrote is on its disk; who else has that it asks once more.
    fn restart(&mut self, n: u8, rules: Rules) {
        let timing = Timing { lease: at(rules.lease), margin: at(rules.margin) };
        let now = if rules.is(Mistake::ForgetsWhatItSaid) { Duration::ZERO } else { self.clock(n) };
        let all = (0..rules.nodes).collect();
        let node = self.node(n);
        node.core = Leases::new(id(n), node.core.kept().clone(), timing, now);
        let have = if rules.is(Mistake::TrustsItsDisk) { all } else { BTreeSet::new() };
        let own = node.written.filter(|held| held.owner == id(n));
        (node.restarts, node.wants, node.owns) = (node.restarts + 1, None, own.map(|held| (held, have)));
    }

    /// A node wants the record: with its own vote.
    fn stand(&mut self, n: u8, count: u64, rules: Rules) {
        let now = self.clock(n);
        let node = self.node(n);
        let held = node.written;
        let wanted = Holding { term: term(count, n), owner: id(n), epoch: node.core.epoch() };
        let ballot = Ballot { key: key(), version: version(held), held, wanted, given_up: false };
        if held.is_some_and(|held| held.owner == id(n)) || node.vote(&ballot, now, rules, true) != Verdict::Held {
            node.wants = Some((ballot, BTreeSet::new()));
            self.poll(n, n, rules);
        }
    }

    /// A node is asked for its vote: the candidate itself first. One that is refused a term stands for a later one.
    fn poll(&mut self, n: u8, to: u8, rules: Rules) {
        let now = self.clock(to);
        let Some((ballot, _)) = self.node(n).wants.clone() else { return };
        let verdict = self.node(to).vote(&ballot, now, rules, false);
        let enough: fn(usize, usize) -> bool = if rules.is(Mistake::HalfTakesOver) { is_half } else { wins };
        let node = self.node(n);
        match verdict {
            Verdict::Granted => {
                let all = usize::from(rules.nodes);
                node.wants.iter_mut().for_each(|(_, votes)| votes.extend([to]));
                if let Some((Ballot { wanted, .. }, _)) = node.wants.take_if(|(_, votes)| enough(votes.len(), all))
                    && node.core.wins(&key(), wanted)
                {
                    node.owns = Some((wanted, BTreeSet::new()));
                }
            }
            Verdict::Held => {}
            Verdict::Later(_) | Verdict::Behind | Verdict::Full => node.wants = None,
        }
    }

    fn deliver(&mut self, message: &Message) {
        self.flight.remove(message);
        match message.clone() {
            Message::Ask { from, to, epoch, asked } => {
                let now = self.clock(to);
                let counts = self.node(to).core.touch(id(from), epoch, now);
                self.flight.insert(Message::Say { from: to, to: from, epoch, asked, counts });
            }
            Message::Say { from, to, epoch, asked, counts } => {
                let core = &mut self.node(to).core;
                match counts {
                    Ok(()) => core.touched(id(from), epoch, at(asked)),
                    Err(closed) => core.after(closed).into_iter().for_each(|epoch| core.begin(epoch)),
                }
            }
        }
    }

    /// A number that stands for this state as it counts: times relative to now, and no more than matters of them.
    fn essence(&self, rules: Rules) -> u128 {
        let most = at(rules.lease + rules.margin + u64::from(rules.drift) + 1);
        let mut halves = [DefaultHasher::new(), DefaultHasher::new()];
        halves[1].write_u8(1);
        for half in &mut halves {
            for (n, node) in (0u8..).zip(&self.nodes) {
                node.core.hash_aged(self.clock(n), most, half);
                (node.ahead, node.restarts, node.written, &node.owns, &node.wants).hash(half);
            }
            for message in &self.flight {
                let (Message::Ask { from: asker, asked, .. } | Message::Say { to: asker, asked, .. }) = message;
                let age = self.clock(*asker).saturating_sub(at(*asked)).min(most);
                let mut ageless = message.clone();
                let (Message::Ask { asked, .. } | Message::Say { asked, .. }) = &mut ageless;
                *asked = 0;
                (ageless, age).hash(half);
            }
        }
        (u128::from(halves[0].finish()) << 64) | u128::from(halves[1].finish())
    }
}

/// What may happen: to whom, and with whom.
#[derive(Debug, Clone)]
enum Step {
    Tick,
    /// Its clock gains a tick.
    Gain(u8),
    Restart(u8),
    /// An owner asks whether it counts.
    Ask(u8, u8),
    /// A node wants the record, in a term with this count.
    Stand(u8, u64),
    Poll(u8, u8),
    /// An owner is asked whether its epoch is over.
    Hear(u8, u8),
    /// One ledger tells another.
    Gossip(u8, u8),
    /// An owner writes what it took, here or there, and asks whether that counts.
    Push(u8, u8),
    Deliver(Message),
    Lose(Message),
}

/// Explores all courses. How many states there are; or two nodes that may act at once, and when.
fn explore(rules: Rules) -> Result<usize, String> {
    let mut seen = HashSet::new();
    let mut todo = VecDeque::from([(World::new(rules), 0)]);
    while let Some((world, depth)) = todo.pop_front() {
        let acting = world.acting(rules);
        if acting.len() > 1 {
            return Err(format!("{acting:?} act at once after {depth} steps: {world:#?}"));
        }
        if depth < rules.depth {
            for step in world.steps(rules) {
                let mut next = world.clone();
                next.step(&step, rules);
                if seen.insert(next.essence(rules)) {
                    todo.push_back((next, depth + 1));
                }
            }
        }
    }
    Ok(seen.len())
}

/// Goes so many courses at random. How many nodes acted after another one had; or two that may act at once, and how it came.
fn wander(rules: Rules, courses: u64) -> Result<usize, String> {
    let mut successions = 0;
    for seed in 0..courses {
        let mut random = StdRng::seed_from_u64(seed);
        let (mut world, mut steps, mut last) = (World::new(rules), Vec::new(), None);
        for _ in 0..rules.depth {
            let mut all = world.steps(rules);
            // Of each kind as often, however many of it there are.
            let mut kinds: Vec<_> = all.iter().map(discriminant).collect();
            kinds.dedup();
            let kind = kinds[random.random_range(0..kinds.len())];
            all.retain(|step| discriminant(step) == kind);
            let step = all.swap_remove(random.random_range(0..all.len()));
            world.step(&step, rules);
            steps.push(step);
            match world.acting(rules).as_slice() {
                [] => {}
                [one] => {
                    successions += usize::from(last.is_some_and(|last| last != *one));
                    last = Some(*one);
                }
                more => return Err(format!("{more:?} act at once, course {seed}: {steps:#?}")),
            }
        }
    }
    Ok(successions)
}

const RULES: Rules = Rules {
    nodes: 3,
    lease: 1,
    margin: 1,
    owned: true,
    takeovers: 2,
    drift: 0,
    restarts: 0,
    depth: usize::MAX,
    mistake: None,
};
/// Everything that may go wrong, for courses at random.
const ROUGH: Rules = Rules { takeovers: 3, drift: 1, restarts: 1, depth: 80, ..RULES };

#[test]
fn of_two_nodes_never_two_act_whatever_happens() {
    for owned in [false, true] {
        let states = explore(Rules { nodes: 2, owned, takeovers: 1, ..RULES }).unwrap();
        assert!(states > 3_000, "only {states} were seen");
    }
}

#[test]
fn of_three_nodes_never_two_act_in_any_short_course() {
    let states = explore(Rules { depth: 7, drift: 1, restarts: 1, ..RULES }).unwrap();
    assert!(states > 50_000, "only {states} were seen");
}

#[test]
fn never_two_act_in_long_courses_of_some_nodes() {
    for (nodes, owned) in [(2, false), (2, true), (3, false), (3, true), (4, true)] {
        let successions = wander(Rules { nodes, owned, ..ROUGH }, 3_000).unwrap();
        assert!(successions > 0, "of {nodes} nodes nobody acted after another");
    }
}

#[test]
fn the_search_finds_what_would_be_wrong() {
    let two = Rules { nodes: 2, owned: false, drift: 0, ..ROUGH };
    let three = Rules { nodes: 3, owned: true, lease: 2, margin: 2, takeovers: 1, restarts: 2, depth: 50, ..two };
    let mistakes = [
        (Mistake::HalfTakesOver, two),
        (Mistake::ActsAtOnce, two),
        (Mistake::CountsTheEarlier, two),
        (Mistake::CountsItsOwnEarlier, two),
        (Mistake::VotesForTheIgnorant, two),
        (Mistake::TrustsItsDisk, two),
        (Mistake::ForgetsWhatItSaid, three),
    ];
    for (mistake, rules) in mistakes {
        let found = wander(Rules { mistake: Some(mistake), ..rules }, 20_000);
        assert!(found.is_err(), "{mistake:?}: no two acted");
    }
    let hasty = Rules { margin: 0, drift: 1, restarts: 0, takeovers: 2, depth: 40, ..ROUGH };
    assert!(wander(hasty, 20_000).is_err(), "nobody waits longer than the owner: no two acted");
}
