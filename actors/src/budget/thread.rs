//! One thread's budget on the node that owns it: the truth.
//!
//! ```text
//! reserve -> settle | release        calls made on this node: `tally`
//! lease   -> report ... report closed        calls made on others, by totals that may come twice or late
//! ```
//!
//! Invariant: spent + reserved + leased + lost <= charged <= limit, in tokens and in money, unless a call made here cost
//! more than was reserved for it, which is charged all the same. On disk: line + leased + lost <= charged (`tally` says what
//! the line is). A holder is never believed to have spent more than it was granted. No clock, no randomness: ids are passed
//! in.
//!
//! A thread that outlives its node (decision 0012) is used up to what is *charged*: so much is on record with others, and
//! whoever keeps the budget next takes it for spent, as far as nobody knows better: that part is *lost*. Of other threads all
//! is charged from the beginning.

use super::{
    amount::{Amount, COST_MAX},
    messages::{Budget, BudgetError, Estate, Lease, LeaseReport, Limit},
    past::Past,
    tally::{Hold, Tally},
    warning::{Severity, Warning},
};
use serde::{Deserialize, Serialize};
use skep_runtime::NodeId;
use std::collections::{BTreeMap, VecDeque};
use uuid::Uuid;

/// A lease grows by this many tokens at least, so that a call in three or so asks the owner, not each.
pub(super) const LEASE_STEP_TOKENS: u64 = 512;
/// Whoever wishes for more than it needs gets a part of what remains: others have to live too.
const WISH_PART: u64 = 4;
/// The line goes ahead by a part of what remains: that much a crash may charge and nobody have spent.
const AHEAD_PART: u64 = 8;
/// What is put on record goes so far beyond need: a thread's limit in so many parts. That much is lost when its node dies.
const CHARGE_PARTS: u64 = 8;
/// The least that is put on record beyond need: a short call.
const CHARGE_TOKENS_MIN: u64 = 256;
/// Leases of one thread that may be open: a swarm has fewer nodes.
const LEASES_MAX: usize = 1024;
/// Closed leases that are remembered, so that a late repetition of their first request opens nothing. One that
/// is forgotten and opened again wrongly holds tokens back; it never spends them twice.
const CLOSED_MAX: usize = 256;

/// A thread's ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Thread {
    /// What may be spent in all.
    limit: Amount,
    /// What of that may be spent now.
    charged: Amount,
    /// What nodes that kept it before may have spent, and is not known to be spent.
    lost: Amount,
    /// Calls made here, and what leases came to that are closed.
    tally: Tally,
    leases: BTreeMap<Uuid, Out>,
    closed: VecDeque<Uuid>,
    ended: bool,
    /// The last threshold that it was told of.
    warned: Option<Severity>,
    opened_ms: u64,
    /// Runs on this node that work for it.
    #[serde(skip)]
    users: u32,
    /// Calls that were under way here when this node began to keep it.
    #[serde(skip)]
    past: Past,
}

/// A lease that is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Out {
    holder: NodeId,
    granted: Amount,
    /// Reported as spent, in all; never more than was granted.
    prompt: u64,
    completion: u64,
    cost: u64,
    /// What this node's own pipelines served of it: it was spent, reported or not.
    served: Amount,
}

impl Out {
    fn new(holder: NodeId) -> Out {
        Out { holder, granted: Amount::NONE, prompt: 0, completion: 0, cost: 0, served: Amount::NONE }
    }

    fn spent(&self) -> Amount {
        Amount::new(self.prompt + self.completion, self.cost).most(self.served.least(self.granted))
    }

    /// Tokens of prompts and of completions, and what they cost; what was not reported counts as completion.
    fn counts(&self) -> (u64, u64, u64) {
        let spent = self.spent();
        (self.prompt, spent.tokens - self.prompt, spent.cost)
    }

    /// What of the lease is not known to be spent.
    fn open(&self) -> Amount {
        self.granted.minus(self.spent())
    }

    /// Totals only grow, so repetition and reordering do no harm; and whoever lies is bound by what it was given.
    fn note(&mut self, report: &LeaseReport) {
        self.prompt = self.prompt.max(report.prompt).min(self.granted.tokens);
        self.completion = self.completion.max(report.completion).min(self.granted.tokens - self.prompt);
        self.cost = self.cost.max(report.cost).min(self.granted.cost);
    }
}

impl Thread {
    /// A thread of which nothing is spent, and that ends with its node.
    pub(super) fn open(limit: Limit, opened_ms: u64) -> Thread {
        let limit = limit.amount();
        Thread {
            limit,
            charged: limit,
            lost: Amount::NONE,
            tally: Tally::default(),
            leases: BTreeMap::new(),
            closed: VecDeque::new(),
            ended: false,
            warned: None,
            opened_ms,
            users: 0,
            past: Past::default(),
        }
    }

    /// A thread that outlives its node: as it begins, or as those left it that kept it before. Here it may have been worked
    /// for already.
    pub(super) fn kept(estate: &Estate, before: Option<(u32, Past)>, opened_ms: u64) -> Thread {
        let mut thread = Thread::open(estate.max, opened_ms);
        let known = |tokens: u64| Amount::new(tokens, 0).bounded().tokens;
        // No more is known to be spent than may have been.
        let prompt = known(estate.prompt).min(estate.spent.tokens);
        thread.tally.charge(
            prompt,
            known(estate.completion).min(estate.spent.tokens - prompt),
            estate.cost.min(COST_MAX),
        );
        thread.lost = estate.spent.bounded().minus(thread.tally.spent());
        thread.charged = estate.charged.least(thread.limit);
        if thread.limit.cost == COST_MAX {
            // Without a limit nobody has to know how much it was.
            (thread.lost.cost, thread.charged.cost) = (0, COST_MAX);
        }
        thread.warned = estate.warned;
        if let Some(before) = before {
            (thread.users, thread.past) = before;
        }
        thread
    }

    /// Whether others can't have kept it meanwhile, by what is on record now.
    pub(super) fn has_kept(&self, estate: &Estate) -> bool {
        estate.spent.tokens <= self.charged.tokens
    }

    /// Another node keeps it from now on: what is under way here goes on as one of its holders.
    pub(super) fn into_past(mut self) -> (u32, Past) {
        self.past.keep(self.tally);
        (self.users, self.past)
    }

    /// One more run works for it here.
    pub(super) fn join(&mut self) {
        self.users = self.users.saturating_add(1);
    }

    /// One run's work is over.
    pub(super) fn done(&mut self) {
        self.users = self.users.saturating_sub(1);
    }

    /// What has to be on record so that this much more can be spent, and a little beyond.
    pub(super) fn to_charge(&self, wanted: Amount) -> Amount {
        next_charge(self.limit, self.out().plus(wanted))
    }

    /// So much is on record.
    pub(super) fn charge(&mut self, charged: Amount) {
        self.charged = self.charged.most(charged).least(self.limit);
    }

    /// Whether more had better be on record before it is needed.
    pub(super) fn scant(&self) -> bool {
        !self.ended && self.charged != self.limit && !charge_step(self.limit).part(2).within(self.ready())
    }

    /// Where it stands. Of an ended thread, what is still out on leases counts as spent: nobody knows better.
    pub(super) fn budget(&self, thread: Uuid, owner: NodeId) -> Budget {
        let (mut prompt, mut completion, mut cost) = self.tally.counts();
        for lease in self.leases.values() {
            let counts = lease.counts();
            prompt = prompt.saturating_add(counts.0);
            completion = completion.saturating_add(counts.1);
            cost = cost.saturating_add(counts.2);
        }
        let mut leased = self.leased().plus(self.lost);
        if self.ended {
            completion = completion.saturating_add(leased.tokens);
            cost = cost.saturating_add(leased.cost);
            leased = Amount::NONE;
        }
        let held = self.tally.held();
        Budget {
            thread,
            owner,
            max: self.limit.tokens,
            prompt,
            completion,
            reserved: held.tokens,
            leased: leased.tokens,
            max_cost: (self.limit.cost < COST_MAX).then_some(self.limit.cost),
            cost,
            reserved_cost: held.cost,
            leased_cost: leased.cost,
            warned: self.warned,
        }
    }

    /// When it was made, in milliseconds since 1970.
    pub(super) fn opened_ms(&self) -> u64 {
        self.opened_ms
    }

    /// Whether nothing is set aside or out: it can be forgotten without harm.
    pub(super) fn idle(&self) -> bool {
        self.tally.held().is_none() && self.leases.is_empty() && self.past.is_empty()
    }

    /// Whether its work is over.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Whether no call can be paid for any more.
    pub(super) fn is_exhausted(&self) -> bool {
        let remaining = self.remaining();
        remaining.tokens == 0 || remaining.cost == 0
    }

    /// Whether the line had better be written further ahead before it is reached.
    pub(super) fn near(&self) -> bool {
        self.tally.near()
    }

    /// Whether nothing was ever spent or set aside of it.
    pub(super) fn untouched(&self) -> bool {
        self.idle() && self.tally.drawn().is_none()
    }

    /// What can still be reserved or leased.
    pub(super) fn remaining(&self) -> Amount {
        self.limit.minus(self.out())
    }

    /// What of that may be reserved or leased without more being put on record.
    fn ready(&self) -> Amount {
        self.charged.minus(self.out())
    }

    /// Spent, reserved, leased or lost.
    fn out(&self) -> Amount {
        // What of a lease is spent and what is not are together what was granted.
        let leased = self.leases.values().fold(Amount::NONE, |sum, lease| sum.plus(lease.granted));
        self.tally.drawn().plus(leased).plus(self.lost)
    }

    /// Sets a call's tokens aside as `id`. Whether it may be made now; if not, once the next write is on disk.
    pub(super) fn reserve(&mut self, thread: Uuid, id: Uuid, hold: Hold) -> Result<bool, BudgetError> {
        self.afford(thread, hold.amount)?;
        Ok(self.tally.reserve(id, hold))
    }

    /// Replaces a reservation by what was spent; says what that cost.
    pub(super) fn settle(&mut self, id: Uuid, prompt: u64, completion: u64) -> Result<u64, BudgetError> {
        match self.tally.settle(id, prompt, completion) {
            Err(BudgetError::Unknown) => {}
            settled => return settled,
        }
        let cost = self.past.settle(id, prompt, completion)?;
        // Now it is known: it was among what may have been spent.
        self.lost = self.lost.minus(Amount::new(prompt.saturating_add(completion), cost));
        self.tally.charge(prompt, completion, cost);
        Ok(cost)
    }

    /// Takes a reservation back.
    pub(super) fn release(&mut self, id: Uuid) -> Result<(), BudgetError> {
        self.tally.release(id).map(drop).or_else(|_| self.past.release(id))
    }

    /// The thresholds that it has reached and was not told of. They are told once: whoever takes them tells.
    pub(super) fn warnings(&mut self, thread: Uuid, owner: NodeId) -> Vec<Warning> {
        let told = self.warned;
        let per_mille = self.budget(thread, owner).per_mille();
        let reached = Severity::ALL.into_iter().rfind(|severity| per_mille >= severity.percent() * 10);
        self.warned = told.max(reached);
        if self.warned == told {
            return Vec::new();
        }
        Warning::since(told, &self.budget(thread, owner))
    }

    /// Makes a lease, or enlarges it to `wanted.need` in all or a little more; answers what it holds in all.
    /// A repeated or late request changes nothing.
    pub(super) fn lease(&mut self, wanted: Lease) -> Result<Amount, BudgetError> {
        if self.closed.contains(&wanted.id) {
            return Err(BudgetError::Unknown);
        }
        let granted = self.leases.get(&wanted.id).map_or(Amount::NONE, |l| l.granted);
        let need = wanted.need.minus(granted);
        let mut wish = wanted.wish;
        if !need.is_none() {
            self.afford(wanted.thread, need)?;
            wish = wish.most(wanted.need.plus(Amount::new(LEASE_STEP_TOKENS, 0)));
        } else if self.ended {
            return Ok(granted);
        }
        // Never more than a part beyond need.
        let growth = need.most(wish.minus(granted).least(self.ready().part(WISH_PART)));
        if growth.is_none() {
            return Ok(granted);
        }
        if !self.leases.contains_key(&wanted.id) && self.leases.len() >= LEASES_MAX {
            return Err(BudgetError::TooMany(LEASES_MAX));
        }
        let lease = self.leases.entry(wanted.id).or_insert_with(|| Out::new(wanted.holder));
        let granted = lease.granted.plus(growth);
        if !cfg!(feature = "mutant-lease-twice") {
            lease.granted = granted;
        }
        Ok(granted)
    }

    /// Notes what a lease's holder spent.
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
        lease.note(&report);
        if report.closed {
            let (prompt, completion, cost) = lease.counts();
            self.tally.charge(prompt, completion, cost);
            self.leases.remove(&report.id);
            self.close(report.id);
        }
        Ok(())
    }

    /// A pipeline of this node served so much to this node: of its lease with most left, if it has one.
    pub(super) fn served(&mut self, holder: NodeId, amount: Amount) {
        let leases = self.leases.values_mut().filter(|lease| lease.holder == holder);
        if let Some(lease) = leases.max_by_key(|lease| lease.open().tokens) {
            lease.served = lease.served.plus(amount).bounded();
        }
    }

    /// The thread's work is over: nothing more is granted. Late reports still correct what is counted.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// It is written now.
    pub(super) fn write(&mut self) {
        let room = if self.ended { Amount::NONE } else { self.ready().part(AHEAD_PART) };
        self.tally.write(room);
    }

    /// That write is on disk.
    pub(super) fn written(&mut self) {
        self.tally.written();
    }

    /// Called now and then. Whether it is to be written, because it is quiet.
    pub(super) fn rest(&mut self) -> bool {
        self.tally.rest()
    }

    /// Whether [`Thread::rest`] has to look again.
    pub(super) fn restless(&self) -> bool {
        self.tally.restless()
    }

    /// The process that reserved is gone: what a call cost that was never settled can't be known, so each is
    /// charged in full.
    pub(super) fn restart(&mut self) {
        self.tally.restart();
    }

    /// Out on leases, and not known to be spent.
    fn leased(&self) -> Amount {
        self.leases.values().fold(Amount::NONE, |sum, lease| sum.plus(lease.open()))
    }

    fn afford(&self, thread: Uuid, wanted: Amount) -> Result<(), BudgetError> {
        let remaining = self.remaining();
        if self.ended {
            return Err(BudgetError::Ended(thread));
        }
        if wanted.tokens > remaining.tokens {
            let (wanted, remaining, max) = (wanted.tokens, remaining.tokens, self.limit.tokens);
            return Err(BudgetError::Exhausted { wanted, remaining, max });
        }
        if wanted.cost > remaining.cost {
            let (wanted, remaining, max) = (wanted.cost, remaining.cost, self.limit.cost);
            return Err(BudgetError::ExhaustedCost { wanted, remaining, max });
        }
        if wanted.within(self.ready()) { Ok(()) } else { Err(BudgetError::Charging(thread)) }
    }

    fn close(&mut self, id: Uuid) {
        self.closed.push_back(id);
        if self.closed.len() > CLOSED_MAX {
            self.closed.pop_front();
        }
    }
}

/// How far beyond need a thread of this limit is put on record.
fn charge_step(limit: Amount) -> Amount {
    limit.part(CHARGE_PARTS).most(Amount::new(CHARGE_TOKENS_MIN, 0)).least(limit)
}

/// What is to be on record of a thread of which so much is needed, and whoever takes it over takes for spent.
pub(super) fn next_charge(limit: Amount, needed: Amount) -> Amount {
    needed.plus(charge_step(limit)).least(limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::prices::Rate;

    const THREAD: Uuid = Uuid::nil();
    const OWNER: NodeId = NodeId::from_bytes([1; 32]);

    fn thread(tokens: u64) -> Thread {
        Thread::open(tokens.into(), 0)
    }

    fn tokens(tokens: u64) -> Hold {
        Hold { amount: Amount::new(tokens, 0), rate: None }
    }

    fn lease(id: u128, tokens: u64) -> Lease {
        let need = Amount::new(tokens, 0);
        Lease { thread: THREAD, id: Uuid::from_u128(id), holder: NodeId::from_bytes([2; 32]), need, wish: need }
    }

    fn report(id: u128, completion: u64, closed: bool) -> LeaseReport {
        LeaseReport { thread: THREAD, id: Uuid::from_u128(id), prompt: 0, completion, cost: 0, closed }
    }

    fn granted(tokens: u64) -> Result<Amount, BudgetError> {
        Ok(Amount::new(tokens, 0))
    }

    #[test]
    fn a_lease_takes_a_step_but_at_most_a_quarter_beyond_need() {
        let mut thread = thread(1000);
        assert_eq!(thread.lease(lease(1, 10)), granted(250));
        assert_eq!(thread.lease(lease(1, 10)), granted(250), "repeated, it is the same request");
        assert_eq!(thread.lease(lease(2, 700)), granted(700));
        assert_eq!(thread.lease(lease(3, 51)), Err(BudgetError::Exhausted { wanted: 51, remaining: 50, max: 1000 }));
    }

    #[test]
    fn a_lease_that_was_closed_before_its_request_came_stays_closed() {
        let mut thread = thread(1000);
        thread.report(report(1, 0, true)).unwrap();
        assert_eq!(thread.lease(lease(1, 10)), Err(BudgetError::Unknown));
        assert_eq!(thread.remaining().tokens, 1000);
    }

    #[test]
    fn an_ended_thread_counts_open_leases_as_spent_until_their_holder_says_less() {
        let mut thread = thread(1000);
        thread.lease(lease(1, 400)).unwrap();
        thread.end();
        let held = thread.leases[&Uuid::from_u128(1)].granted.tokens;
        assert_eq!(thread.budget(THREAD, OWNER).spent(), held);
        thread.report(report(1, 150, true)).unwrap();
        assert_eq!(thread.budget(THREAD, OWNER).spent(), 150);
        assert_eq!(thread.reserve(THREAD, Uuid::from_u128(9), tokens(1)), Err(BudgetError::Ended(THREAD)));
    }

    #[test]
    fn a_reservation_of_a_dead_process_is_charged_in_full() {
        let mut thread = thread(100);
        assert_eq!(thread.reserve(THREAD, Uuid::from_u128(1), tokens(60)), Ok(false));
        thread.write();
        thread.restart();
        assert_eq!(thread.remaining().tokens, 40);
        assert_eq!(thread.settle(Uuid::from_u128(1), 1, 1), Err(BudgetError::Unknown));
    }

    #[test]
    fn money_refuses_what_tokens_would_allow() {
        let mut thread = Thread::open(Limit { tokens: 1_000_000, cost: Some(1000) }, 0);
        let rate = Rate { prompt: 1_000_000, completion: 2_000_000 };
        let call = |tokens| Hold { amount: Amount::new(tokens, rate.cost(0, tokens)), rate: Some(rate) };
        thread.reserve(THREAD, Uuid::from_u128(1), call(400)).unwrap();
        let refused = thread.reserve(THREAD, Uuid::from_u128(2), call(101));
        assert_eq!(refused, Err(BudgetError::ExhaustedCost { wanted: 202, remaining: 200, max: 1000 }));
        assert_eq!(thread.settle(Uuid::from_u128(1), 100, 50), Ok(200));
        assert_eq!(thread.budget(THREAD, OWNER).cost, 200);
        thread.reserve(THREAD, Uuid::from_u128(2), call(101)).unwrap();
        let local = Hold { amount: Amount::new(500_000, 0), rate: None };
        thread.reserve(THREAD, Uuid::from_u128(3), local).unwrap();
    }

    #[test]
    fn each_threshold_is_told_once_and_all_that_were_passed_at_once() {
        let mut thread = thread(1000);
        let mut spend = |tokens: u64| {
            thread.tally.charge(0, tokens, 0);
            let told = thread.warnings(THREAD, OWNER);
            told.iter().map(|w| (w.severity, w.per_mille, w.tokens_remaining)).collect::<Vec<_>>()
        };
        assert_eq!(spend(749), []);
        assert_eq!(spend(1), [(Severity::Warning, 750, 250)]);
        assert_eq!(spend(100), []);
        assert_eq!(spend(110), [(Severity::Critical, 960, 40), (Severity::Final, 960, 40)]);
        assert_eq!(spend(40), []);
    }

    #[test]
    fn a_threshold_may_be_one_of_money() {
        let mut thread = Thread::open(Limit { tokens: 1000, cost: Some(100) }, 0);
        thread.tally.charge(1, 1, 80);
        let told = thread.warnings(THREAD, OWNER);
        assert_eq!(told.iter().map(|w| w.per_mille).collect::<Vec<_>>(), [800]);
    }
}
