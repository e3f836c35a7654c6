//! An amount: tokens, and money in millionths of its unit. Integers alone: what is compared with a limit is never rounded.

use serde::{Deserialize, Serialize};

/// The most tokens that any one number may say: sums of these can't overflow.
pub const TOKENS_MAX: u64 = 1 << 48;
/// The most money that any one number may say, in millionths: nine thousand million. A limit of so much is none.
pub const COST_MAX: u64 = 1 << 53;

/// Tokens, and what they cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Amount {
    /// Tokens.
    pub tokens: u64,
    /// Money, in millionths.
    pub cost: u64,
}

impl Amount {
    /// Nothing.
    pub const NONE: Amount = Amount { tokens: 0, cost: 0 };

    /// So many tokens that cost so much.
    #[must_use]
    pub const fn new(tokens: u64, cost: u64) -> Amount {
        Amount { tokens, cost }
    }

    /// Whether it is nothing.
    #[must_use]
    pub fn is_none(self) -> bool {
        self == Amount::NONE
    }

    /// Whether neither part is more than `other`'s.
    #[must_use]
    pub fn within(self, other: Amount) -> bool {
        self.tokens <= other.tokens && self.cost <= other.cost
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Amount) -> Amount {
        self.each(other, u64::saturating_add)
    }

    /// What of it is beyond `other`.
    #[must_use]
    pub fn minus(self, other: Amount) -> Amount {
        self.each(other, u64::saturating_sub)
    }

    /// The smaller of each part.
    #[must_use]
    pub fn least(self, other: Amount) -> Amount {
        self.each(other, u64::min)
    }

    /// The larger of each part.
    #[must_use]
    pub fn most(self, other: Amount) -> Amount {
        self.each(other, u64::max)
    }

    /// So many times as much.
    #[must_use]
    pub fn times(self, n: u64) -> Amount {
        self.each(Amount::new(n, n), u64::saturating_mul)
    }

    /// One part of so many.
    #[must_use]
    pub fn part(self, of: u64) -> Amount {
        self.each(Amount::new(of, of), |all, of| all / of.max(1))
    }

    /// The same, but no number larger than may be said: others' numbers pass here.
    #[must_use]
    pub fn bounded(self) -> Amount {
        self.least(Amount::new(TOKENS_MAX, COST_MAX))
    }

    fn each(self, other: Amount, work: impl Fn(u64, u64) -> u64) -> Amount {
        Amount { tokens: work(self.tokens, other.tokens), cost: work(self.cost, other.cost) }
    }
}

/// Money as people read it: millionths as six places.
#[must_use]
pub fn money(cost: u64) -> String {
    format!("{}.{:06}", cost / 1_000_000, cost % 1_000_000)
}
