//! What a node holds of a thread that another node owns: one open lease, and those that wait to be given back.
//!
//! A lease's id is written down before the owner is asked for it, so that after a crash the owner can be told that
//! it is closed. The holder believes the largest total that the owner ever granted, and spends no more.

use super::messages::{Budget, BudgetError, Lease, LeaseReport};
use serde::{Deserialize, Serialize};
use skep_runtime::NodeId;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Closed leases of one thread that may wait for their owner: with so many it hasn't answered for long, and
/// wouldn't grant another.
const RETURNING_MAX: usize = 64;

/// A thread, as seen by a node that works for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    owner: NodeId,
    /// Runs on this node that work for it.
    users: u32,
    lease: Option<Part>,
    returning: Vec<Part>,
}

/// One lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    id: Uuid,
    granted: u64,
    prompt: u64,
    completion: u64,
    reserved: BTreeMap<Uuid, u64>,
}

impl Part {
    fn used(&self) -> u64 {
        self.prompt + self.completion + self.reserved.values().sum::<u64>()
    }

    fn report(&self, thread: Uuid, closed: bool) -> LeaseReport {
        LeaseReport { thread, id: self.id, prompt: self.prompt, completion: self.completion, closed }
    }
}

impl Held {
    /// A thread of `owner`, of which nothing is held yet.
    pub(super) fn new(owner: NodeId) -> Held {
        Held { owner, users: 0, lease: None, returning: Vec::new() }
    }

    /// Who keeps the truth.
    pub(super) fn owner(&self) -> NodeId {
        self.owner
    }

    /// One more run works for it here.
    pub(super) fn join(&mut self) {
        self.users += 1;
    }

    /// Whether no run here works for it: what still asks comes too late, and nobody would give its lease back.
    pub(super) fn left(&self) -> bool {
        self.users == 0
    }

    /// The part that this node sees: its lease.
    pub(super) fn budget(&self, thread: Uuid) -> Budget {
        let empty = Part { id: Uuid::nil(), granted: 0, prompt: 0, completion: 0, reserved: BTreeMap::new() };
        let part = self.lease.as_ref().unwrap_or(&empty);
        let reserved = part.reserved.values().sum();
        let (prompt, completion) = (part.prompt, part.completion);
        Budget { thread, owner: self.owner, max: part.granted, prompt, completion, reserved, leased: 0 }
    }

    /// Sets `tokens` aside as `id` if the lease has them.
    pub(super) fn reserve(&mut self, id: Uuid, tokens: u64) -> bool {
        let Some(part) = &mut self.lease else { return false };
        let fits = part.used().saturating_add(tokens) <= part.granted;
        if fits {
            part.reserved.insert(id, tokens);
        }
        fits
    }

    /// What to ask the owner for, so that `tokens` more fit. `fresh` becomes the lease's id if there is none; it
    /// is to be written down before it is sent.
    pub(super) fn want(&mut self, thread: Uuid, me: NodeId, tokens: u64, fresh: Uuid) -> Result<Lease, BudgetError> {
        if self.lease.is_none() && self.returning.len() >= RETURNING_MAX {
            return Err(BudgetError::OwnerUnreachable(skep_runtime::Error::LinkDown(self.owner)));
        }
        let new = Part { id: fresh, granted: 0, prompt: 0, completion: 0, reserved: BTreeMap::new() };
        let part = self.lease.get_or_insert(new);
        Ok(Lease { thread, id: part.id, holder: me, tokens: part.used().saturating_add(tokens) })
    }

    /// The owner says that the lease holds this much in all. Says nothing about one that was closed meanwhile.
    pub(super) fn granted(&mut self, lease: Uuid, total: u64) {
        if let Some(part) = self.lease.as_mut().filter(|p| p.id == lease) {
            part.granted = part.granted.max(total);
        }
    }

    /// Replaces a reservation by what was spent; answers what to tell the owner, at leisure.
    pub(super) fn settle(
        &mut self,
        thread: Uuid,
        id: Uuid,
        prompt: u64,
        completion: u64,
    ) -> Result<LeaseReport, BudgetError> {
        self.release(id)?;
        let part = self.lease.as_mut().ok_or(BudgetError::Unknown)?;
        part.prompt = part.prompt.saturating_add(prompt);
        part.completion = part.completion.saturating_add(completion);
        Ok(part.report(thread, false))
    }

    /// Takes a reservation back.
    pub(super) fn release(&mut self, id: Uuid) -> Result<u64, BudgetError> {
        self.lease.as_mut().and_then(|p| p.reserved.remove(&id)).ok_or(BudgetError::Unknown)
    }

    /// One run's work is over; with the last one the lease is closed. What was reserved and not settled by then
    /// is charged in full.
    pub(super) fn done(&mut self) {
        self.users = self.users.saturating_sub(1);
        if self.users == 0 {
            self.close();
        }
    }

    /// The process is gone that reserved and worked: all is closed, what wasn't settled is charged in full.
    pub(super) fn restart(&mut self) {
        self.users = 0;
        self.close();
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

    fn close(&mut self) {
        if let Some(mut part) = self.lease.take() {
            part.completion += part.reserved.values().sum::<u64>();
            part.reserved.clear();
            self.returning.push(part);
        }
    }
}
