//! Token budgets: what was burnt, against what was allowed.

use anyhow::{Result, ensure};
use skep_actors::budget::Budget;

/// The truth about one thread, kept by whoever spends its tokens.
#[derive(Debug, Clone, Copy)]
pub struct Ledger {
    max: u64,
    burnt: u64,
    acknowledged: u64,
}

impl Ledger {
    /// A thread that may burn `max` tokens.
    pub fn new(max: u64) -> Ledger {
        Ledger { max, burnt: 0, acknowledged: 0 }
    }

    /// A call was made under a reservation.
    pub fn burn(&mut self, tokens: u64) {
        self.burnt += tokens;
    }

    /// A node said that it has noted what the call cost.
    pub fn acknowledge(&mut self, tokens: u64) {
        self.acknowledged += tokens;
    }

    /// No more tokens are burnt than the budget allows; its owner never has more spent, set aside and leased than
    /// there is, and what a holder acknowledged as spent is never free again.
    pub fn is_kept(&self, owner: Option<&Budget>) -> Result<()> {
        ensure!(self.burnt <= self.max, "{} tokens were burnt of {}", self.burnt, self.max);
        if let Some(owner) = owner {
            let out = owner.spent() + owner.reserved + owner.leased;
            ensure!(out <= self.max, "the owner has {out} tokens out of {}: {owner:?}", self.max);
            ensure!(self.acknowledged <= out, "{} tokens were acknowledged as spent: {owner:?}", self.acknowledged);
        }
        Ok(())
    }
}
