//! Calls that are under way while their thread's budget changes hands: reserved in an account that is no longer kept so.
//!
//! They are settled here. Who keeps the budget now counts them as spent already, so nothing is set aside for them. They end
//! with the process.

use super::{messages::BudgetError, tally::Tally};
use uuid::Uuid;

/// Accounts of one thread whose calls have not all ended: it changed hands so often within one call. Of more the oldest are
/// dropped; their calls can't be settled then, and stay charged.
const TALLIES_MAX: usize = 8;

/// What was reserved before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Past(Vec<Tally>);

impl Past {
    /// Takes the calls of an account that ends.
    pub(super) fn keep(&mut self, tally: Tally) {
        self.0.push(tally);
        self.prune();
        if self.0.len() > TALLIES_MAX {
            self.0.remove(0);
        }
    }

    /// Replaces a reservation by what was spent; says what that cost.
    pub(super) fn settle(&mut self, id: Uuid, prompt: u64, completion: u64) -> Result<u64, BudgetError> {
        let cost = self.0.iter_mut().find_map(|tally| tally.settle(id, prompt, completion).ok());
        self.prune();
        cost.ok_or(BudgetError::Unknown)
    }

    /// Takes a reservation back.
    pub(super) fn release(&mut self, id: Uuid) -> Result<(), BudgetError> {
        let held = self.0.iter_mut().find_map(|tally| tally.release(id).ok());
        self.prune();
        held.map(drop).ok_or(BudgetError::Unknown)
    }

    /// Whether a call is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn prune(&mut self) {
        self.0.retain(|tally| !tally.held().is_none());
    }
}
