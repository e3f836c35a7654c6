//! The invariant, against a swarm of ledgers whose messages are lost, doubled and reordered, whose disks refuse writes and
//! whose nodes crash while a write is under way, and of which another one keeps the thread when the one dies that did: what
//! all nodes together spent never exceeds the budget, in tokens and in money, and once all is returned the owner knows the
//! sum.

use super::{
    actor::Account,
    amount::Amount,
    held::{Fit, Held},
    messages::{BudgetError, Estate, Lease, LeaseReport, Limit},
    prices::Rate,
    tally::Hold,
    thread::Thread,
};
use proptest::prelude::*;
use skep_runtime::{NodeId, wire};
use uuid::Uuid;

const THREAD: Uuid = Uuid::from_u128(1);
/// A token costs a millionth: sums of money are those of tokens.
const RATE: Rate = Rate { prompt: 1_000_000, completion: 1_000_000 };

#[derive(Debug, Clone)]
enum Step {
    Reserve {
        node: usize,
        tokens: u64,
    },
    Settle {
        node: usize,
        which: usize,
        part: u64,
    },
    Release {
        node: usize,
        which: usize,
    },
    Done {
        node: usize,
    },
    Begin {
        node: usize,
    },
    End {
        node: usize,
        how: How,
    },
    Rest {
        node: usize,
    },
    Crash {
        node: usize,
        landed: bool,
    },
    /// The node dies that keeps the thread: another one does from now on.
    Move {
        to: usize,
    },
    Deliver {
        which: usize,
        keep: bool,
    },
    Drop {
        which: usize,
    },
}

/// What becomes of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Written,
    Refused,
    /// It is on disk, and the node was told that it isn't.
    Unsure,
}

#[derive(Debug, Clone)]
enum Packet {
    Lease(usize, Lease),
    Granted(usize, Uuid, Amount),
    Report(usize, LeaseReport),
    Returned(usize, Uuid),
}

/// What happens once a write is on disk.
#[derive(Debug, Clone)]
enum After {
    /// Who waits for this reservation makes its call.
    Call(Uuid, u64),
    Send(Packet),
}

/// One node: its ledger in memory, and what its disk says.
struct Node {
    memory: Account,
    disk: Vec<u8>,
    under_way: Option<(Vec<u8>, Vec<After>)>,
    next: Vec<After>,
    calls: Vec<(Uuid, u64)>,
}

impl Node {
    fn new(memory: Account) -> Node {
        let disk = wire::encode(&memory);
        Node { memory, disk, under_way: None, next: Vec::new(), calls: Vec::new() }
    }

    fn begin(&mut self) {
        if self.under_way.is_none() {
            self.memory.write();
            self.under_way = Some((wire::encode(&self.memory), std::mem::take(&mut self.next)));
        }
    }

    /// Its ledger as it would be after a crash.
    fn crashed(disk: &[u8]) -> Account {
        let mut account: Account = wire::decode(disk, 1 << 20).unwrap();
        match &mut account {
            Account::Owned(thread) => thread.restart(),
            Account::Held(held) => held.restart(),
        }
        account
    }
}

/// One node owns the thread, the first one at first; the others hold leases.
struct World {
    limit: Limit,
    max: Amount,
    owner: usize,
    /// What the thread's record says: it outlives every node.
    charged: Amount,
    /// It has changed hands: what was out then is lost.
    moved: bool,
    nodes: Vec<Node>,
    packets: Vec<Packet>,
    /// What calls really cost, by whoever made them; of a call that a crash cut off, the most it can have.
    real: u64,
    ids: u128,
}

impl World {
    fn new(nodes: usize, limit: Limit) -> World {
        let holder = |_| {
            let mut held = Held::new(node(0));
            held.join();
            Node::new(Account::Held(held))
        };
        let charged = limit.charge(Amount::NONE);
        let owner = Node::new(Account::Owned(Thread::kept(&estate(limit, Amount::NONE, charged), None, 0)));
        let nodes = std::iter::once(owner).chain((1..nodes).map(holder)).collect();
        let max = Amount::new(limit.tokens, limit.cost.unwrap_or(u64::MAX));
        World { limit, max, owner: 0, charged, moved: false, nodes, packets: Vec::new(), real: 0, ids: 1 }
    }

    fn id(&mut self) -> Uuid {
        self.ids += 1;
        Uuid::from_u128(self.ids)
    }

    fn held(&mut self, i: usize) -> &mut Held {
        match &mut self.nodes[i].memory {
            Account::Held(held) => held,
            Account::Owned(_) => panic!("the owner holds no lease"),
        }
    }

    fn owner(&mut self) -> &mut Thread {
        match &mut self.nodes[self.owner].memory {
            Account::Owned(thread) => thread,
            Account::Held(_) => panic!("it is the owner"),
        }
    }

    fn step(&mut self, step: Step) {
        let n = self.nodes.len();
        match step {
            Step::Reserve { node, tokens } => self.reserve(node % n, tokens),
            Step::Settle { node, which, part } => self.settle(node % n, which, part),
            Step::Release { node, which } => {
                let Some((id, _)) = self.take_call(node % n, which) else { return };
                self.release(node % n, id);
            }
            Step::Done { node } => {
                let i = node % n;
                let busy = !self.nodes[i].calls.is_empty() || self.waits(i);
                if i != self.owner && !busy {
                    self.held(i).done();
                    self.held(i).join();
                    self.offer(i);
                }
            }
            Step::Begin { node } => self.nodes[node % n].begin(),
            Step::End { node, how } => self.end(node % n, how),
            Step::Rest { node } => drop(self.nodes[node % n].memory.rest()),
            Step::Crash { node, landed } => self.crash(node % n, landed),
            Step::Move { to } => self.change(to % n),
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

    /// Whether a reservation of the node's waits for its disk.
    fn waits(&self, i: usize) -> bool {
        let under_way = self.nodes[i].under_way.iter().flat_map(|(_, after)| after);
        under_way.chain(&self.nodes[i].next).any(|after| matches!(after, After::Call(..)))
    }

    fn reserve(&mut self, i: usize, tokens: u64) {
        let (id, fresh) = (self.id(), self.id());
        let hold = Hold { amount: Amount::new(tokens, RATE.cost(0, tokens)), rate: Some(RATE) };
        let charged = &mut self.charged;
        let fit = match &mut self.nodes[i].memory {
            Account::Owned(thread) => {
                let mut reserved = thread.reserve(THREAD, id, hold);
                if reserved == Err(BudgetError::Charging(THREAD)) {
                    *charged = charged.most(thread.to_charge(hold.amount));
                    thread.charge(*charged);
                    reserved = thread.reserve(THREAD, id, hold);
                }
                reserved.map(|now| if now { Fit::Now } else { Fit::Written })
            }
            Account::Held(held) => Ok(held.reserve(id, hold)),
        };
        match fit {
            Ok(Fit::Now) => self.nodes[i].calls.push((id, tokens)),
            Ok(Fit::Written) => self.nodes[i].next.push(After::Call(id, tokens)),
            Ok(Fit::Short) => {
                let Ok(lease) = self.held(i).want(THREAD, node(i), hold.amount, fresh) else { return };
                let ask = Packet::Lease(i, lease);
                if self.held(i).noted() { self.packets.push(ask) } else { self.nodes[i].next.push(After::Send(ask)) }
            }
            Err(BudgetError::Exhausted { .. } | BudgetError::ExhaustedCost { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn settle(&mut self, i: usize, which: usize, part: u64) {
        let Some((id, tokens)) = self.take_call(i, which) else { return };
        let cost = tokens * part.min(100) / 100;
        self.real += cost;
        match &mut self.nodes[i].memory {
            Account::Owned(thread) => assert_eq!(thread.settle(id, cost, 0), Ok(cost)),
            Account::Held(held) => {
                assert_eq!(held.settle(id, cost, 0), Ok(cost));
                let report = held.report(THREAD).map(|report| After::Send(Packet::Report(i, report)));
                self.nodes[i].next.extend(report);
            }
        }
    }

    fn release(&mut self, i: usize, id: Uuid) {
        match &mut self.nodes[i].memory {
            Account::Owned(thread) => thread.release(id).unwrap(),
            Account::Held(held) => held.release(id).unwrap(),
        }
    }

    fn take_call(&mut self, i: usize, which: usize) -> Option<(Uuid, u64)> {
        let calls = &mut self.nodes[i].calls;
        (!calls.is_empty()).then(|| calls.swap_remove(which % calls.len()))
    }

    fn offer(&mut self, i: usize) {
        let reports = self.held(i).returning(THREAD);
        self.nodes[i].next.extend(reports.into_iter().map(|report| After::Send(Packet::Report(i, report))));
    }

    fn end(&mut self, i: usize, how: How) {
        let Some((record, after)) = self.nodes[i].under_way.take() else { return };
        if how != How::Refused {
            self.nodes[i].disk = record;
        }
        if how == How::Written {
            self.nodes[i].memory.written();
        }
        for after in after {
            match after {
                After::Call(id, tokens) if how == How::Written => self.nodes[i].calls.push((id, tokens)),
                After::Call(id, _) => self.release(i, id),
                After::Send(packet) if how == How::Written => self.packets.push(packet),
                After::Send(_) => {}
            }
        }
    }

    fn crash(&mut self, i: usize, landed: bool) {
        // The calls under way may have cost all that was set aside for them; those that wait were not made.
        self.real += self.nodes[i].calls.drain(..).map(|(_, tokens)| tokens).sum::<u64>();
        self.nodes[i].next.clear();
        if let Some((record, _)) = self.nodes[i].under_way.take()
            && landed
        {
            self.nodes[i].disk = record;
        }
        self.nodes[i].memory = Node::crashed(&self.nodes[i].disk);
        if i != self.owner {
            self.held(i).join();
            // Closed leases are offered from memory: they follow from the disk again after the next crash.
            let reports = self.held(i).returning(THREAD);
            self.packets.extend(reports.into_iter().map(|report| Packet::Report(i, report)));
        }
    }

    fn deliver(&mut self, packet: Packet) {
        match packet {
            Packet::Lease(i, lease) => {
                let mut granted = self.owner().lease(lease);
                if granted == Err(BudgetError::Charging(THREAD)) {
                    self.charged = self.charged.most(self.owner().to_charge(lease.need));
                    let charged = self.charged;
                    self.owner().charge(charged);
                    granted = self.owner().lease(lease);
                }
                if let Ok(total) = granted {
                    let owner = self.owner;
                    self.nodes[owner].next.push(After::Send(Packet::Granted(i, lease.id, total)));
                }
            }
            Packet::Granted(i, lease, total) => self.held(i).granted(lease, total),
            Packet::Report(i, report) => {
                if self.owner().report(report).is_ok() && report.closed {
                    let owner = self.owner;
                    self.nodes[owner].next.push(After::Send(Packet::Returned(i, report.id)));
                }
            }
            Packet::Returned(i, lease) => self.held(i).returned(lease),
        }
    }

    /// The owner dies, and `to` keeps the thread by its record. What was said to the one that died is lost.
    fn change(&mut self, to: usize) {
        if to == self.owner {
            return;
        }
        let from = self.owner;
        self.crash(from, false);
        for i in 0..self.nodes.len() {
            // What was under way is written before what follows, and that before anything is spent of it.
            self.end(i, How::Written);
            self.nodes[i].next.retain(|after| matches!(after, After::Call(..)));
        }
        self.packets.clear();
        let spent = self.charged;
        self.charged = self.limit.charge(spent);
        let estate = estate(self.limit, spent, self.charged);
        for i in 0..self.nodes.len() {
            let placeholder = Account::Held(Held::new(node(to)));
            let was_owner = i == from;
            let past = std::mem::replace(&mut self.nodes[i].memory, placeholder).into_past();
            let account = if i == to {
                Account::Owned(Thread::kept(&estate, Some(past), 0))
            } else {
                let mut held = Held::after(node(to), past);
                if was_owner {
                    held.join();
                }
                Account::Held(held)
            };
            self.nodes[i].disk = wire::encode(&account);
            self.nodes[i].memory = account;
        }
        (self.owner, self.moved) = (to, true);
    }

    fn check(&self) {
        let kept = |account: &Account, what: &str| {
            let Account::Owned(thread) = account else { return };
            let b = thread.budget(THREAD, node(0));
            assert!(b.spent() + b.reserved + b.leased <= self.max.tokens, "{what}: {b:?}");
            assert!(b.cost + b.reserved_cost + b.leased_cost <= self.max.cost, "{what}: {b:?}");
        };
        kept(&self.nodes[self.owner].memory, "in memory");
        kept(&Node::crashed(&self.nodes[self.owner].disk), "after a crash");
        let under_way: u64 = self.nodes.iter().flat_map(|node| &node.calls).map(|(_, tokens)| tokens).sum();
        let most = self.max.tokens.min(self.max.cost);
        assert!(self.real + under_way <= most, "{} were spent and {under_way} may be, of {most}", self.real);
    }

    /// The faults are over: everyone ends its work, and what is offered is offered until it arrives.
    fn settle_down(&mut self) {
        self.packets.clear();
        for i in 0..self.nodes.len() {
            self.crash(i, false);
        }
        loop {
            for i in 0..self.nodes.len() {
                self.nodes[i].begin();
                self.end(i, How::Written);
            }
            let Some(packet) = self.packets.pop() else { return };
            self.deliver(packet);
        }
    }
}

fn estate(max: Limit, spent: Amount, charged: Amount) -> Estate {
    Estate { thread: THREAD, max, prompt: 0, completion: 0, cost: 0, spent, charged, warned: None }
}

fn node(i: usize) -> NodeId {
    NodeId::from_bytes([i as u8 + 1; 32])
}

fn step() -> impl Strategy<Value = Step> {
    let (node, which) = (0..3usize, any::<usize>());
    let how = prop_oneof![8 => Just(How::Written), 1 => Just(How::Refused), 1 => Just(How::Unsure)];
    prop_oneof![
        6 => (node.clone(), 1..400u64).prop_map(|(node, tokens)| Step::Reserve { node, tokens }),
        4 => (node.clone(), which, 0..=100u64).prop_map(|(node, which, part)| Step::Settle { node, which, part }),
        1 => (node.clone(), which).prop_map(|(node, which)| Step::Release { node, which }),
        1 => node.clone().prop_map(|node| Step::Done { node }),
        6 => node.clone().prop_map(|node| Step::Begin { node }),
        6 => (node.clone(), how).prop_map(|(node, how)| Step::End { node, how }),
        1 => node.clone().prop_map(|node| Step::Rest { node }),
        1 => (node.clone(), any::<bool>()).prop_map(|(node, landed)| Step::Crash { node, landed }),
        1 => node.prop_map(|to| Step::Move { to }),
        8 => (which, any::<bool>()).prop_map(|(which, keep)| Step::Deliver { which, keep }),
        1 => which.prop_map(|which| Step::Drop { which }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_budget_is_conserved_whatever_happens_between_the_nodes(
        nodes in 1..4usize,
        tokens in 0..20_000u64,
        cost in proptest::option::of(0..20_000u64),
        steps in proptest::collection::vec(step(), 1..240),
    ) {
        let mut world = World::new(nodes, Limit { tokens, cost });
        for step in steps {
            world.step(step);
            world.check();
        }
        world.settle_down();
        world.check();
        let real = world.real;
        let budget = world.owner().budget(THREAD, node(0));
        prop_assert_eq!(budget.reserved, 0);
        prop_assert!(world.moved || budget.leased == 0, "all has come back: {budget:?}");
        // What nobody knows of those who kept it before counts as out.
        let (tokens, cost) = (budget.spent() + budget.leased, budget.cost + budget.leased_cost);
        prop_assert!(tokens >= real && (cost >= real || budget.max_cost.is_none()), "all is accounted for: {real}, {budget:?}");
    }
}
