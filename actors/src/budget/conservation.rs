//! The invariant, against a swarm of ledgers whose messages are lost, doubled and reordered and whose nodes crash:
//! what all nodes together spent never exceeds the budget, and once all is returned the owner knows the sum.

use super::{
    held::Held,
    messages::{Lease, LeaseReport},
    thread::Thread,
};
use proptest::prelude::*;
use skep_runtime::NodeId;
use uuid::Uuid;

const THREAD: Uuid = Uuid::from_u128(1);

#[derive(Debug, Clone)]
enum Step {
    Reserve { node: usize, tokens: u64 },
    Settle { node: usize, which: usize, part: u64 },
    Release { node: usize, which: usize },
    Done { node: usize },
    Crash { node: usize },
    Deliver { which: usize, keep: bool },
    Drop { which: usize },
}

#[derive(Debug, Clone)]
enum Packet {
    Lease(usize, Lease),
    Granted(usize, Uuid, u64),
    Report(usize, LeaseReport),
    Returned(usize, Uuid),
}

/// Node 0 owns the thread; the others hold leases. What a node has in memory it has written down: both ledgers are
/// committed before anything is sent or answered, so a crash takes packets and calls, never a ledger.
struct World {
    max: u64,
    owner: Thread,
    holders: Vec<Held>,
    calls: Vec<Vec<(Uuid, u64)>>,
    packets: Vec<Packet>,
    /// What calls really cost, by whoever made them; of a call that a crash cut off, the most it can have.
    real: u64,
    ids: u128,
}

impl World {
    fn new(nodes: usize, max: u64) -> World {
        let mut holders: Vec<Held> = (0..nodes).map(|_| Held::new(node(0))).collect();
        holders.iter_mut().for_each(Held::join);
        let calls = vec![Vec::new(); nodes];
        World { max, owner: Thread::open(max, 0), holders, calls, packets: Vec::new(), real: 0, ids: 1 }
    }

    fn id(&mut self) -> Uuid {
        self.ids += 1;
        Uuid::from_u128(self.ids)
    }

    fn step(&mut self, step: Step) {
        let n = self.holders.len();
        match step {
            Step::Reserve { node: i, tokens } => self.reserve(i % n, tokens),
            Step::Settle { node: i, which, part } => {
                let i = i % n;
                let Some((id, tokens)) = self.take_call(i, which) else { return };
                let cost = tokens * part.min(100) / 100;
                self.real += cost;
                if i == 0 {
                    self.owner.settle(id, cost, 0).unwrap();
                } else {
                    let report = self.holders[i].settle(THREAD, id, cost, 0).unwrap();
                    self.packets.push(Packet::Report(i, report));
                }
            }
            Step::Release { node: i, which } => {
                let i = i % n;
                let Some((id, _)) = self.take_call(i, which) else { return };
                if i == 0 {
                    self.owner.release(id).unwrap()
                } else {
                    self.holders[i].release(id).unwrap()
                };
            }
            Step::Done { node: i } if i % n != 0 && self.calls[i % n].is_empty() => {
                self.holders[i % n].done();
                self.holders[i % n].join();
                self.offer(i % n);
            }
            Step::Done { .. } => {}
            Step::Crash { node: i } => self.crash(i % n),
            Step::Deliver { which, keep } if !self.packets.is_empty() => {
                let which = which % self.packets.len();
                let packet = if keep { self.packets[which].clone() } else { self.packets.swap_remove(which) };
                self.deliver(packet);
            }
            Step::Drop { which } if !self.packets.is_empty() => {
                let which = which % self.packets.len();
                self.packets.swap_remove(which);
            }
            Step::Deliver { .. } | Step::Drop { .. } => {}
        }
    }

    fn reserve(&mut self, i: usize, tokens: u64) {
        let (id, fresh) = (self.id(), self.id());
        if i == 0 {
            if self.owner.reserve(THREAD, id, tokens).is_ok() {
                self.calls[0].push((id, tokens));
            }
        } else if self.holders[i].reserve(id, tokens) {
            self.calls[i].push((id, tokens));
        } else if let Ok(lease) = self.holders[i].want(THREAD, node(i), tokens, fresh) {
            self.packets.push(Packet::Lease(i, lease));
        }
    }

    fn take_call(&mut self, i: usize, which: usize) -> Option<(Uuid, u64)> {
        let calls = &mut self.calls[i];
        (!calls.is_empty()).then(|| calls.swap_remove(which % calls.len()))
    }

    fn offer(&mut self, i: usize) {
        let reports = self.holders[i].returning(THREAD);
        self.packets.extend(reports.into_iter().map(|report| Packet::Report(i, report)));
    }

    fn crash(&mut self, i: usize) {
        // The calls under way may have cost all that was set aside for them.
        self.real += self.calls[i].drain(..).map(|(_, tokens)| tokens).sum::<u64>();
        if i == 0 {
            self.owner.restart();
        } else {
            self.holders[i].restart();
            self.holders[i].join();
            self.offer(i);
        }
    }

    fn deliver(&mut self, packet: Packet) {
        match packet {
            Packet::Lease(i, lease) => {
                if let Ok(total) = self.owner.lease(lease) {
                    self.packets.push(Packet::Granted(i, lease.id, total));
                }
            }
            Packet::Granted(i, lease, total) => self.holders[i].granted(lease, total),
            Packet::Report(i, report) => {
                if self.owner.report(report).is_ok() && report.closed {
                    self.packets.push(Packet::Returned(i, report.id));
                }
            }
            Packet::Returned(i, lease) => self.holders[i].returned(lease),
        }
    }

    fn check(&self) {
        let b = self.owner.budget(THREAD, node(0));
        assert!(b.spent() + b.reserved + b.leased <= b.max, "{b:?}");
        let under_way: u64 = self.calls.iter().flatten().map(|(_, tokens)| tokens).sum();
        assert!(self.real + under_way <= self.max, "{} were spent and {under_way} may be, of {}", self.real, self.max);
    }

    /// The faults are over: everyone ends its work, and what is offered is offered until it arrives.
    fn settle_down(&mut self) {
        self.packets.clear();
        for i in 0..self.holders.len() {
            self.crash(i);
        }
        while let Some(packet) = self.packets.pop() {
            self.deliver(packet);
        }
    }
}

fn node(i: usize) -> NodeId {
    NodeId::from_bytes([i as u8 + 1; 32])
}

fn step() -> impl Strategy<Value = Step> {
    let (node, which) = (0..3usize, any::<usize>());
    prop_oneof![
        4 => (node.clone(), 1..900u64).prop_map(|(node, tokens)| Step::Reserve { node, tokens }),
        3 => (node.clone(), which, 0..=100u64).prop_map(|(node, which, part)| Step::Settle { node, which, part }),
        1 => (node.clone(), which).prop_map(|(node, which)| Step::Release { node, which }),
        1 => node.clone().prop_map(|node| Step::Done { node }),
        1 => node.prop_map(|node| Step::Crash { node }),
        8 => (which, any::<bool>()).prop_map(|(which, keep)| Step::Deliver { which, keep }),
        1 => which.prop_map(|which| Step::Drop { which }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_budget_is_conserved_whatever_happens_between_the_nodes(
        nodes in 2..4usize,
        max in 0..6000u64,
        steps in proptest::collection::vec(step(), 1..160),
    ) {
        let mut world = World::new(nodes, max);
        for step in steps {
            world.step(step);
            world.check();
        }
        world.settle_down();
        world.check();
        let budget = world.owner.budget(THREAD, node(0));
        prop_assert_eq!(budget.reserved, 0);
        prop_assert!(budget.spent() >= world.real, "the owner knows of all that was spent");
    }
}
