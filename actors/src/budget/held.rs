//! What a node holds of a thread that another node owns: one open lease, and those that wait to be given back.
//!
//! A lease's id is written down before the owner is asked for it, so that after a crash the owner can be told that
//! it is closed. The holder believes the largest total that the owner ever granted, and spends no more; of that, a crash
//! charges what lies below the line (`tally`), and the rest goes back.

use super::{
    amount::{Amount, COST_MAX},
    messages::{Budget, BudgetError, Lease, LeaseReport},
    past::Past,
    tally::{Hold, Tally},
};
use serde::{Deserialize, Serialize};
use skep_runtime::NodeId;
use uuid::Uuid;

/// Closed leases of one thread that may wait for their owner: with so many it hasn't answered for long, and
/// wouldn't grant another.
const RETURNING_MAX: usize = 64;
/// How many times as much as one stays ahead of the disk is asked for: the owner is further away than the disk.
const WISH_TIMES: u64 = 8;
/// Money that a lease is to hold beyond need, in calls like the one that needs it.
const WISH_CALLS: u64 = 2;

/// A thread, as seen by a node that works for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    owner: NodeId,
    lease: Option<Part>,
    returning: Vec<Part>,
    /// Runs on this node that work for it. They end with the process.
    #[serde(skip)]
    users: u32,
    /// Calls that were under way when it was kept by another node, or by this one.
    #[serde(skip)]
    past: Past,
}

/// One lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    id: Uuid,
    granted: Amount,
    tally: Tally,
    /// Whether its id is on disk.
    #[serde(skip)]
    noted: Noted,
    /// The owner was asked for more than was needed, and had nothing to give.
    #[serde(skip)]
    dry: bool,
}

/// How far the writing of a new lease's id is: a write that began before it was made says nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Noted {
    #[default]
    Not,
    UnderWay,
    OnDisk,
}

impl Part {
    fn new(id: Uuid) -> Part {
        Part { id, granted: Amount::NONE, tally: Tally::default(), noted: Noted::Not, dry: false }
    }

    fn report(&self, thread: Uuid, closed: bool) -> LeaseReport {
        let (prompt, completion, cost) = self.tally.counts();
        LeaseReport { thread, id: self.id, prompt, completion, cost, closed }
    }
}

/// Whether a reservation fits a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// It does: the call may be made.
    Now,
    /// It does: the call may be made once the next write is on disk.
    Written,
    /// It does not: the owner is to be asked.
    Short,
}

impl Held {
    /// A thread of `owner`, of which nothing is held yet.
    pub(super) fn new(owner: NodeId) -> Held {
        Held { owner, lease: None, returning: Vec::new(), users: 0, past: Past::default() }
    }

    /// The same of a thread that was kept otherwise until now.
    pub(super) fn after(owner: NodeId, (users, past): (u32, Past)) -> Held {
        Held { users, past, ..Held::new(owner) }
    }

    /// It is kept by another node from now on, or here. Who keeps it takes all that was granted before for spent, and knows no
    /// lease of it.
    pub(super) fn into_past(mut self) -> (u32, Past) {
        if let Some(part) = self.lease.take() {
            self.past.keep(part.tally);
        }
        (self.users, self.past)
    }

    /// Who keeps the truth.
    pub(super) fn owner(&self) -> NodeId {
        self.owner
    }

    /// One more run works for it here.
    pub(super) fn join(&mut self) {
        self.users = self.users.saturating_add(1);
    }

    /// Whether no run here works for it: what still asks comes too late, and nobody would give its lease back.
    pub(super) fn left(&self) -> bool {
        self.users == 0
    }

    /// The part that this node sees: its lease.
    pub(super) fn budget(&self, thread: Uuid) -> Budget {
        let empty = Part::new(Uuid::nil());
        let part = self.lease.as_ref().unwrap_or(&empty);
        let ((prompt, completion, cost), held) = (part.tally.counts(), part.tally.held());
        Budget {
            thread,
            owner: self.owner,
            max: part.granted.tokens,
            prompt,
            completion,
            reserved: held.tokens,
            leased: 0,
            max_cost: (part.granted.cost < COST_MAX).then_some(part.granted.cost),
            cost,
            reserved_cost: held.cost,
            leased_cost: 0,
            warned: None,
        }
    }

    /// Sets a call's tokens aside as `id` if the lease has them.
    pub(super) fn reserve(&mut self, id: Uuid, hold: Hold) -> Fit {
        let Some(part) = &mut self.lease else { return Fit::Short };
        if !part.tally.drawn().plus(hold.amount).within(part.granted) {
            return Fit::Short;
        }
        if part.tally.reserve(id, hold) { Fit::Now } else { Fit::Written }
    }

    /// What to ask the owner for, so that `amount` more fits. `fresh` becomes the lease's id if there is none; it
    /// is to be written down ([`Held::noted`]) before it is sent.
    pub(super) fn want(&mut self, thread: Uuid, me: NodeId, amount: Amount, fresh: Uuid) -> Result<Lease, BudgetError> {
        if self.lease.is_none() && self.returning.len() >= RETURNING_MAX {
            return Err(BudgetError::OwnerUnreachable(skep_runtime::Error::LinkDown(self.owner)));
        }
        let part = self.lease.get_or_insert_with(|| Part::new(fresh));
        if !amount.is_none() {
            part.tally.hurry(amount);
        }
        let need = part.tally.drawn().plus(amount);
        let ahead = part.tally.ahead().times(WISH_TIMES);
        let wish = need.plus(ahead.most(Amount::new(0, amount.cost.saturating_mul(WISH_CALLS))));
        let need = if amount.is_none() { part.granted } else { need };
        Ok(Lease { thread, id: part.id, holder: me, need: need.bounded(), wish: wish.bounded() })
    }

    /// Whether the id of the open lease is on disk.
    pub(super) fn noted(&self) -> bool {
        self.lease.as_ref().is_some_and(|part| part.noted == Noted::OnDisk)
    }

    /// Whether the owner had better be asked for more before it is needed.
    pub(super) fn low(&self) -> bool {
        self.lease.as_ref().is_some_and(|part| {
            let margin = part.tally.ahead().times(WISH_TIMES / 4);
            !part.dry && !margin.is_none() && !part.tally.drawn().plus(margin).within(part.granted)
        })
    }

    /// Whether the line had better be written further ahead before it is reached.
    pub(super) fn near(&self) -> bool {
        self.lease.as_ref().is_some_and(|part| part.tally.near())
    }

    /// The owner says that the lease holds this much in all. Says nothing about one that was closed meanwhile.
    pub(super) fn granted(&mut self, lease: Uuid, total: Amount) {
        if let Some(part) = self.lease.as_mut().filter(|p| p.id == lease) {
            part.dry = total.within(part.granted);
            part.granted = part.granted.most(total);
        }
    }

    /// Replaces a reservation by what was spent; says what that cost.
    pub(super) fn settle(&mut self, id: Uuid, prompt: u64, completion: u64) -> Result<u64, BudgetError> {
        let settled = self.lease.as_mut().and_then(|part| part.tally.settle(id, prompt, completion).ok());
        settled.map_or_else(|| self.past.settle(id, prompt, completion), Ok)
    }

    /// What to tell the owner of the open lease, at leisure.
    pub(super) fn report(&self, thread: Uuid) -> Option<LeaseReport> {
        self.lease.as_ref().map(|part| part.report(thread, false))
    }

    /// Takes a reservation back.
    pub(super) fn release(&mut self, id: Uuid) -> Result<(), BudgetError> {
        let released = self.lease.as_mut().and_then(|part| part.tally.release(id).ok());
        released.map_or_else(|| self.past.release(id), |_| Ok(()))
    }

    /// One run's work is over; with the last one the lease is closed. What was reserved and not settled by then
    /// is charged in full.
    pub(super) fn done(&mut self) {
        self.users = self.users.saturating_sub(1);
        if self.users == 0
            && let Some(mut part) = self.lease.take()
        {
            part.tally.close();
            self.returning.push(part);
        }
    }

    /// The process is gone that reserved and worked: all is closed, what wasn't settled is charged in full.
    pub(super) fn restart(&mut self) {
        self.users = 0;
        if let Some(mut part) = self.lease.take() {
            part.tally.restart();
            self.returning.push(part);
        }
    }

    /// What the owner has to be told until it answers.
    pub(super) fn returning(&self, thread: Uuid) -> Vec<LeaseReport> {
        self.returning.iter().map(|part| part.report(thread, true)).collect()
    }

    /// The owner has this lease back.
    pub(super) fn returned(&mut self, lease: Uuid) {
        self.returning.retain(|part| part.id != lease);
    }

    /// Whether nothing is held, owed or worked on.
    pub(super) fn idle(&self) -> bool {
        self.users == 0 && self.lease.is_none() && self.returning.is_empty()
    }

    /// It is written now.
    pub(super) fn write(&mut self) {
        if let Some(part) = &mut self.lease {
            part.tally.write(part.granted.minus(part.tally.drawn()));
            if part.noted == Noted::Not {
                part.noted = Noted::UnderWay;
            }
        }
    }

    /// That write is on disk.
    pub(super) fn written(&mut self) {
        if let Some(part) = &mut self.lease {
            part.tally.written();
            if part.noted == Noted::UnderWay {
                part.noted = Noted::OnDisk;
            }
        }
    }

    /// Called now and then. Whether it is to be written, because it is quiet.
    pub(super) fn rest(&mut self) -> bool {
        self.lease.as_mut().is_some_and(|part| {
            part.dry = false;
            part.tally.rest()
        })
    }

    /// Whether [`Held::rest`] has to look again.
    pub(super) fn restless(&self) -> bool {
        self.lease.as_ref().is_some_and(|part| part.dry || part.tally.restless())
    }
}
