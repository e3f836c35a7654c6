//! One thread's budget on the node that owns it: the truth.
//!
//! ```text
//! reserve -> settle | release        calls made on this node
//! lease   -> report ... report closed        calls made on others, by totals that may come twice or late
//! ```
//!
//! Invariant: spent + reserved + leased <= max, unless a call cost more than was reserved for it, which is charged
//! all the same. No clock, no randomness: ids are passed in.

use super::messages::{Budget, BudgetError, Estate, Lease, LeaseReport};
use serde::{Deserialize, Serialize};
use skep_runtime::NodeId;
use std::collections::{BTreeMap, VecDeque};
use uuid::Uuid;

/// A lease grows by this many tokens at least, so that a call in three or so asks the owner, not each.
pub(super) const LEASE_STEP_TOKENS: u64 = 512;
/// Leases of one thread that may be open: a swarm has fewer nodes.
const LEASES_MAX: usize = 1024;
/// Closed leases that are remembered, so that a late repetition of their first request opens nothing. One that
/// is forgotten and opened again wrongly holds tokens back; it never spends them twice.
const CLOSED_MAX: usize = 256;

/// A thread's ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Thread {
    max: u64,
    /// Spent here, or on leases that are closed.
    prompt: u64,
    completion: u64,
    reserved: BTreeMap<Uuid, u64>,
    leases: BTreeMap<Uuid, Out>,
    closed: VecDeque<Uuid>,
    ended: bool,
    opened_ms: u64,
}

/// A lease that is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Out {
    holder: NodeId,
    granted: u64,
    /// Reported as spent, in all.
    prompt: u64,
    completion: u64,
}

impl Out {
    /// Tokens of the lease that are not known to be spent.
    fn open(&self) -> u64 {
        self.granted.saturating_sub(self.prompt + self.completion)
    }
}

impl Thread {
    /// A thread of which nothing is spent.
    pub(super) fn open(max: u64, opened_ms: u64) -> Thread {
        Thread {
            max,
            prompt: 0,
            completion: 0,
            reserved: BTreeMap::new(),
            leases: BTreeMap::new(),
            closed: VecDeque::new(),
            ended: false,
            opened_ms,
        }
    }

    /// A thread that another node kept: what its work under way may spend is out, under that work's id.
    pub(super) fn inherited(estate: &Estate, opened_ms: u64) -> Thread {
        let out = |(id, holder, tokens): &(Uuid, NodeId, u64)| {
            (*id, Out { holder: *holder, granted: *tokens, prompt: 0, completion: 0 })
        };
        Thread {
            prompt: estate.prompt,
            completion: estate.completion,
            leases: estate.out.iter().take(LEASES_MAX).map(out).collect(),
            ..Thread::open(estate.max, opened_ms)
        }
    }

    /// Where it stands. Of an ended thread, what is still out on leases counts as spent: nobody knows better.
    pub(super) fn budget(&self, thread: Uuid, owner: NodeId) -> Budget {
        let leased: u64 = self.leases.values().map(Out::open).sum();
        let prompt = self.prompt + self.leases.values().map(|l| l.prompt).sum::<u64>();
        let completion = self.completion + self.leases.values().map(|l| l.completion).sum::<u64>();
        let (completion, leased) = if self.ended { (completion + leased, 0) } else { (completion, leased) };
        let reserved = self.reserved.values().sum();
        Budget { thread, owner, max: self.max, prompt, completion, reserved, leased }
    }

    /// When it was made, in milliseconds since 1970.
    pub(super) fn opened_ms(&self) -> u64 {
        self.opened_ms
    }

    /// Whether nothing is set aside or out: it can be forgotten without harm.
    pub(super) fn idle(&self) -> bool {
        self.reserved.is_empty() && self.leases.is_empty()
    }

    /// Tokens that can still be reserved or leased.
    pub(super) fn remaining(&self) -> u64 {
        self.budget(Uuid::nil(), NodeId::from_bytes([0; 32])).remaining()
    }

    /// Sets `tokens` aside as `id`.
    pub(super) fn reserve(&mut self, thread: Uuid, id: Uuid, tokens: u64) -> Result<(), BudgetError> {
        self.afford(thread, tokens)?;
        self.reserved.insert(id, tokens);
        Ok(())
    }

    /// Replaces a reservation by what was spent.
    pub(super) fn settle(&mut self, id: Uuid, prompt: u64, completion: u64) -> Result<(), BudgetError> {
        self.release(id)?;
        self.prompt = self.prompt.saturating_add(prompt);
        self.completion = self.completion.saturating_add(completion);
        Ok(())
    }

    /// Takes a reservation back.
    pub(super) fn release(&mut self, id: Uuid) -> Result<u64, BudgetError> {
        self.reserved.remove(&id).ok_or(BudgetError::Unknown)
    }

    /// Makes a lease, or enlarges it to `wanted.tokens` in all or a little more; answers what it holds in all.
    /// A repeated or late request changes nothing.
    pub(super) fn lease(&mut self, wanted: Lease) -> Result<u64, BudgetError> {
        if self.closed.contains(&wanted.id) {
            return Err(BudgetError::Unknown);
        }
        let granted = self.leases.get(&wanted.id).map_or(0, |l| l.granted);
        let need = wanted.tokens.saturating_sub(granted);
        if need == 0 {
            return Ok(granted);
        }
        self.afford(wanted.thread, need)?;
        if !self.leases.contains_key(&wanted.id) && self.leases.len() >= LEASES_MAX {
            return Err(BudgetError::TooMany(LEASES_MAX));
        }
        // Never more than a quarter beyond need: others have to live too.
        let growth = need.max(LEASE_STEP_TOKENS.min(self.remaining() / 4));
        let new = Out { holder: wanted.holder, granted: 0, prompt: 0, completion: 0 };
        let lease = self.leases.entry(wanted.id).or_insert(new);
        let granted = lease.granted + growth;
        if !cfg!(feature = "mutant-lease-twice") {
            lease.granted = granted;
        }
        Ok(granted)
    }

    /// Notes what a lease's holder spent. Totals only grow, so repetition and reordering do no harm.
    pub(super) fn report(&mut self, report: LeaseReport) -> Result<(), BudgetError> {
        if self.closed.contains(&report.id) {
            return Ok(());
        }
        let Some(lease) = self.leases.get_mut(&report.id) else {
            if !report.closed {
                return Err(BudgetError::Unknown);
            }
            // Closed before it was made: its request is still under way, and must find it closed.
            self.close(report.id);
            return Ok(());
        };
        lease.prompt = lease.prompt.max(report.prompt);
        lease.completion = lease.completion.max(report.completion);
        if report.closed {
            self.prompt = self.prompt.saturating_add(lease.prompt);
            self.completion = self.completion.saturating_add(lease.completion);
            self.leases.remove(&report.id);
            self.close(report.id);
        }
        Ok(())
    }

    /// The thread's work is over: nothing more is granted. Late reports still correct what is counted.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// The process that reserved is gone: what a call cost that was never settled can't be known, so each is
    /// charged in full.
    pub(super) fn restart(&mut self) {
        self.completion += self.reserved.values().sum::<u64>();
        self.reserved.clear();
    }

    fn afford(&self, thread: Uuid, wanted: u64) -> Result<(), BudgetError> {
        let remaining = self.remaining();
        match (self.ended, wanted <= remaining) {
            (true, _) => Err(BudgetError::Ended(thread)),
            (false, true) => Ok(()),
            (false, false) => Err(BudgetError::Exhausted { wanted, remaining, max: self.max }),
        }
    }

    fn close(&mut self, id: Uuid) {
        self.closed.push_back(id);
        if self.closed.len() > CLOSED_MAX {
            self.closed.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREAD: Uuid = Uuid::nil();

    fn lease(id: u128, tokens: u64) -> Lease {
        Lease { thread: THREAD, id: Uuid::from_u128(id), holder: NodeId::from_bytes([2; 32]), tokens }
    }

    fn report(id: u128, completion: u64, closed: bool) -> LeaseReport {
        LeaseReport { thread: THREAD, id: Uuid::from_u128(id), prompt: 0, completion, closed }
    }

    #[test]
    fn a_lease_takes_a_step_but_at_most_a_quarter_beyond_need() {
        let mut thread = Thread::open(1000, 0);
        assert_eq!(thread.lease(lease(1, 10)), Ok(250));
        assert_eq!(thread.lease(lease(2, 700)), Ok(700));
        assert_eq!(thread.lease(lease(3, 51)), Err(BudgetError::Exhausted { wanted: 51, remaining: 50, max: 1000 }));
    }

    #[test]
    fn a_lease_that_was_closed_before_its_request_came_stays_closed() {
        let mut thread = Thread::open(1000, 0);
        thread.report(report(1, 0, true)).unwrap();
        assert_eq!(thread.lease(lease(1, 10)), Err(BudgetError::Unknown));
        assert_eq!(thread.remaining(), 1000);
    }

    #[test]
    fn an_ended_thread_counts_open_leases_as_spent_until_their_holder_says_less() {
        let mut thread = Thread::open(1000, 0);
        thread.lease(lease(1, 400)).unwrap();
        thread.end();
        assert_eq!(thread.budget(THREAD, NodeId::from_bytes([1; 32])).spent(), 400);
        thread.report(report(1, 150, true)).unwrap();
        assert_eq!(thread.budget(THREAD, NodeId::from_bytes([1; 32])).spent(), 150);
        assert_eq!(thread.reserve(THREAD, Uuid::from_u128(9), 1), Err(BudgetError::Ended(THREAD)));
    }

    #[test]
    fn a_reservation_of_a_dead_process_is_charged_in_full() {
        let mut thread = Thread::open(100, 0);
        thread.reserve(THREAD, Uuid::from_u128(1), 60).unwrap();
        thread.restart();
        assert_eq!(thread.remaining(), 40);
        assert_eq!(thread.settle(Uuid::from_u128(1), 1, 1), Err(BudgetError::Unknown));
    }
}
