//! What a thread is told before its budget is exhausted: at 75, 90 and 95 hundredths, once each.

use super::messages::Budget;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How urgent it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// 75 hundredths are spent.
    Warning,
    /// 90 hundredths.
    Critical,
    /// 95 hundredths: the last word before it is refused.
    Final,
}

impl Severity {
    /// All of them, in the order in which they come.
    pub const ALL: [Severity; 3] = [Severity::Warning, Severity::Critical, Severity::Final];

    /// From how many hundredths on.
    #[must_use]
    pub fn percent(self) -> u32 {
        match self {
            Severity::Warning => 75,
            Severity::Critical => 90,
            Severity::Final => 95,
        }
    }

    /// As one word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Severity::Warning => "warning",
            Severity::Critical => "critical",
            Severity::Final => "final",
        }
    }
}

/// A thread has used so much of its budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// The thread.
    pub thread: Uuid,
    /// How urgent it is.
    pub severity: Severity,
    /// Thousandths of the budget that are spent, of tokens or of money, whichever is more.
    pub per_mille: u32,
    /// Tokens spent.
    pub tokens_used: u64,
    /// Tokens that can still be spent.
    pub tokens_remaining: u64,
    /// The budget of tokens.
    pub max_tokens: u64,
    /// For people and models.
    pub message: String,
}

impl Warning {
    /// What is to be said at this threshold.
    #[must_use]
    pub fn new(severity: Severity, budget: &Budget) -> Warning {
        let (used, remaining, max) = (budget.spent(), budget.remaining(), budget.max);
        let per_mille = budget.per_mille();
        let advice = match severity {
            Severity::Warning => "be brief",
            Severity::Critical => "bring the work to an end",
            Severity::Final => "give the answer now: the next call may be refused",
        };
        let message = format!(
            "{}.{} % of this thread's budget is used ({used} of {max} tokens, {remaining} remain): {advice}",
            per_mille / 10,
            per_mille % 10
        );
        Warning {
            thread: budget.thread,
            severity,
            per_mille,
            tokens_used: used,
            tokens_remaining: remaining,
            max_tokens: max,
            message,
        }
    }

    /// What there is to say of a budget to somebody who was told up to `told` (none at first).
    #[must_use]
    pub fn since(told: Option<Severity>, budget: &Budget) -> Vec<Warning> {
        let reached = |severity: &Severity| Some(*severity) > told && Some(*severity) <= budget.warned;
        Severity::ALL.into_iter().filter(reached).map(|severity| Warning::new(severity, budget)).collect()
    }
}
