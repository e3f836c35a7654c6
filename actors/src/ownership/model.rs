//! Every course that a small swarm can take: nodes that ask, vote, take over, pause and are started again, messages that are
//! late, lost or out of order, clocks that run differently. In none of them may two nodes act on one record at once.
//!
//! A breadth-first search over states, with the nodes' own [`Leases`]. Times are a few ticks and are kept relative to now, so
//! that there are finitely many states. That the search would find a mistake is shown by making some.

use super::{
    Term,
    lease::{Ballot, Holding, Kept, Leases, Timing, Verdict, wins},
};
use crate::ledger::Key;
use skep_runtime::NodeId;
use std::{
    collections::{BTreeSet, HashSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

/// Takeovers of one course. In the first a node takes what another had; in the second what was taken.
const TAKEOVERS_MAX: u64 = 1;
/// Messages that are under way at once.
const FLIGHT_MAX: usize = 2;

/// What is explored.
#[derive(Debug, Clone, Copy)]
struct Rules {
    nodes: u8,
    lease: u64,
    margin: u64,
    /// How often each clock may gain a tick on the true time.
    drift: u8,
    /// How often a node may be started again.
    restarts: u8,
    /// A mistake: so many votes are enough.
    enough: fn(usize, usize) -> bool,
    /// A mistake: a node that is started again takes it that it told nobody anything.
    forgets: bool,
    /// Courses are followed so far.
    depth: usize,
}

/// An owner's question whether it counts, or the answer. Polls of candidates need no messages here: whenever one arrives, it
/// might as well have been sent then, and a vote that is late only makes its winner late.
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
    /// What it took, if it did.
    owns: Option<Holding>,
    /// What it knows of others: as the ledger would tell it.
    known: Holding,
    /// What it wants, and who voted for that.
    wanted: Option<(Holding, BTreeSet<u8>)>,
    /// Whoever had it has given it up.
    given_up: Option<Holding>,
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

impl World {
    fn new(rules: Rules) -> World {
        let timing = Timing { lease: at(rules.lease), margin: at(rules.margin) };
        let first = Holding { term: Term(1), owner: id(0), epoch: 0 };
        let node = |n| Node {
            core: Leases::new(id(n), Kept::default(), timing, at(0)),
            ahead: 0,
            restarts: 0,
            owns: (n == 0).then_some(first),
            known: first,
            wanted: None,
            given_up: None,
        };
        World { now: 0, nodes: (0..rules.nodes).map(node).collect(), flight: BTreeSet::new() }
    }

    fn clock(&self, n: u8) -> Duration {
        at(self.now + self.nodes[usize::from(n)].ahead)
    }

    /// Who may act now.
    fn acting(&self) -> Vec<u8> {
        let members: Vec<NodeId> = (0..self.nodes.len() as u8).map(id).collect();
        let acts = |n: &u8| {
            let node = &self.nodes[usize::from(*n)];
            node.owns.is_some_and(|held| node.core.holds(held.epoch, &members, self.clock(*n)))
        };
        (0..self.nodes.len() as u8).filter(acts).collect()
    }

    /// Everything that may happen next. A message that is lost is one that stays under way for ever, or whose place is taken:
    /// so it needs no step of its own but that.
    fn next(&self, rules: Rules) -> Vec<World> {
        let mut all = Vec::new();
        let all_nodes = 0..self.nodes.len() as u8;
        let mut step = |change: &dyn Fn(&mut World)| {
            let mut world = self.clone();
            change(&mut world);
            all.push(world);
        };
        step(&|world| world.tick(rules));
        for n in all_nodes.clone() {
            let node = &self.nodes[usize::from(n)];
            if node.ahead < u64::from(rules.drift) {
                step(&|world| world.nodes[usize::from(n)].ahead += 1);
            }
            if node.restarts < rules.restarts {
                step(&|world| {
                    let timing = Timing { lease: at(rules.lease), margin: at(rules.margin) };
                    let now = if rules.forgets { Duration::ZERO } else { world.clock(n) };
                    let node = &mut world.nodes[usize::from(n)];
                    // What it won it has written, or it never acted on it.
                    let written = node.owns.map(|held| held.term);
                    node.core = Leases::new(id(n), node.core.kept().clone(), timing, now);
                    node.core.settle(|_| written);
                    (node.restarts, node.wanted, node.given_up) = (node.restarts + 1, None, None);
                });
            }
            for to in all_nodes.clone().filter(|to| *to != n) {
                // Only owners ask.
                if self.flight.len() < FLIGHT_MAX && node.owns.is_some() {
                    step(&|world| {
                        let (epoch, asked) = (world.nodes[usize::from(n)].core.epoch(), world.clock(n).as_secs());
                        world.flight.insert(Message::Ask { from: n, to, epoch, asked });
                    });
                }
                if node.wanted.as_ref().is_some_and(|(_, votes)| !votes.contains(&to)) {
                    step(&|world| world.poll(n, to, rules));
                }
            }
            let free = node.owns.is_none_or(|held| held.epoch != node.core.epoch());
            if node.wanted.is_none() && free && node.known.term.0 <= TAKEOVERS_MAX {
                step(&|world| world.stand(n, rules));
            }
        }
        for message in &self.flight {
            step(&|world| world.deliver(message));
            step(&|world| {
                world.flight.remove(message);
            });
        }
        all
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

    /// A node wants the record.
    fn stand(&mut self, n: u8, rules: Rules) {
        let now = self.clock(n);
        let node = &mut self.nodes[usize::from(n)];
        // Terms of two that want the same differ, as they do by a part of their keys.
        let term = Term(node.known.term.0 + 1);
        let wanted = Holding { term, owner: id(n), epoch: node.core.epoch() };
        let ballot = Ballot { key: key(), held: Some(node.known), wanted, given_up: None };
        match node.core.vote(&ballot, now) {
            Verdict::Granted => {
                node.wanted = Some((wanted, BTreeSet::from([n])));
                self.count(n, rules);
            }
            Verdict::Held(held) if held.term > node.known.term => node.known = held,
            _ => {}
        }
    }

    /// Another node is asked for its vote.
    fn poll(&mut self, n: u8, to: u8, rules: Rules) {
        let now = self.clock(to);
        let Node { known, given_up, ref wanted, .. } = self.nodes[usize::from(n)];
        let Some((wanted, _)) = *wanted else { return };
        let ballot = Ballot { key: key(), held: Some(known), wanted, given_up };
        let verdict = self.nodes[usize::from(to)].core.vote(&ballot, now);
        let node = &mut self.nodes[usize::from(n)];
        match verdict {
            Verdict::Granted => {
                if known.owner == id(to) {
                    node.given_up = Some(known);
                }
                node.wanted.iter_mut().for_each(|(_, votes)| {
                    votes.insert(to);
                });
                self.count(n, rules);
            }
            Verdict::Held(held) if held.term > known.term => {
                (node.known, node.wanted, node.given_up) = (held, None, None);
            }
            _ => {}
        }
    }

    fn deliver(&mut self, message: &Message) {
        self.flight.remove(message);
        match message.clone() {
            Message::Ask { from, to, epoch, asked } => {
                let now = self.clock(to);
                let counts = self.nodes[usize::from(to)].core.touch(id(from), epoch, now);
                self.flight.insert(Message::Say { from: to, to: from, epoch, asked, counts });
            }
            Message::Say { from, to, epoch, asked, counts } => {
                self.nodes[usize::from(to)].core.touched(id(from), epoch, at(asked), counts);
            }
        }
    }

    fn count(&mut self, n: u8, rules: Rules) {
        let all = self.nodes.len();
        let node = &mut self.nodes[usize::from(n)];
        if let Some((wanted, _)) = node.wanted.take_if(|(_, votes)| (rules.enough)(votes.len(), all))
            && node.core.win(&key(), wanted)
        {
            (node.owns, node.known) = (Some(wanted), wanted);
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
                (node.ahead, node.restarts, node.owns, node.known, &node.wanted, node.given_up).hash(half);
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

/// Explores all courses. How many states there are; or two nodes that may act at once, and when.
fn explore(rules: Rules) -> Result<usize, String> {
    let mut seen = HashSet::new();
    let mut todo = VecDeque::from([(World::new(rules), 0)]);
    while let Some((world, depth)) = todo.pop_front() {
        let acting = world.acting();
        if acting.len() > 1 {
            return Err(format!("{acting:?} act at once after {depth} steps: {world:#?}"));
        }
        if depth < rules.depth {
            for next in world.next(rules) {
                if seen.insert(next.essence(rules)) {
                    todo.push_back((next, depth + 1));
                }
            }
        }
    }
    Ok(seen.len())
}

const RULES: Rules =
    Rules { nodes: 3, lease: 1, margin: 1, drift: 0, restarts: 0, enough: wins, forgets: false, depth: usize::MAX };
/// Steps of three nodes that are explored: as many as the longest of the mistakes below takes to show.
const STEPS: usize = 11;

#[test]
fn of_two_nodes_never_two_act_whatever_happens() {
    let states = explore(Rules { nodes: 2, lease: 2, ..RULES }).unwrap();
    assert!(states > 10_000, "only {states} were seen");
}

#[test]
fn of_three_nodes_whose_clocks_drift_never_two_act() {
    let states = explore(Rules { drift: 1, depth: STEPS, ..RULES }).unwrap();
    assert!(states > 50_000, "only {states} were seen");
}

#[test]
fn of_three_nodes_that_may_be_started_again_never_two_act() {
    let states = explore(Rules { restarts: 1, depth: STEPS, ..RULES }).unwrap();
    assert!(states > 50_000, "only {states} were seen");
}

#[test]
fn the_search_finds_what_would_be_wrong() {
    let half = |votes: usize, all: usize| 2 * votes >= all;
    let mistakes = [
        ("half is enough to take over", Rules { nodes: 2, enough: half, ..RULES }),
        ("nobody waits longer than the owner", Rules { drift: 1, margin: 0, ..RULES }),
        ("a voter forgets what it said", Rules { restarts: 1, forgets: true, ..RULES }),
    ];
    for (mistake, rules) in mistakes {
        assert!(explore(Rules { depth: STEPS, ..rules }).is_err(), "{mistake}: no two acted");
    }
}
