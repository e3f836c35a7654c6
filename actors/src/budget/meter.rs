//! What was metered on this node, by agent and by model: sums of all time and the mark of the last reset. By node is one
//! such meter each; by thread is the threads' own ledger (`thread`).
//!
//! The difference is what is shown. Names beyond the bound are counted together, so that a swarm that runs for
//! years doesn't fill the memory with the names of its agents.

use super::messages::{Spent, Sum, Usage};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Agents and models that are counted one by one, each.
const NAMES_MAX: usize = 1024;
/// Bytes of a name.
const NAME_BYTES_MAX: usize = 256;
/// What the others are counted as.
const OTHERS: &str = "(others)";

/// What a row counts: 0 all calls, 1 one agent's, 2 one model's; and its name.
pub(super) type Row = (u8, String);

const ALL: u8 = 0;
const AGENT: u8 = 1;
const MODEL: u8 = 2;

/// One row: all that was ever counted, and how much of it lies before the mark.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Count {
    all: Sum,
    mark: Sum,
}

/// The rows.
#[derive(Debug, Clone, Default)]
pub(super) struct Meter {
    rows: BTreeMap<Row, Count>,
}

impl Meter {
    /// The meter as it was written down.
    pub(super) fn from_rows(rows: impl IntoIterator<Item = (Row, Count)>) -> Meter {
        Meter { rows: rows.into_iter().collect() }
    }

    /// Counts a call that cost so much; says which rows are to be written.
    pub(super) fn count(&mut self, spent: &Spent, cost: u64) -> [Row; 3] {
        let rows = [(ALL, String::new()), self.row(AGENT, &spent.agent), self.row(MODEL, &spent.model)];
        for row in &rows {
            if !self.rows.contains_key(row) {
                self.rows.insert(row.clone(), Count::default());
            }
            let Some(Count { all, .. }) = self.rows.get_mut(row) else { continue };
            all.prompt = all.prompt.saturating_add(spent.prompt);
            all.completion = all.completion.saturating_add(spent.completion);
            all.requests = all.requests.saturating_add(1);
            all.latency_ms = all.latency_ms.saturating_add(spent.latency_ms);
            all.cost = all.cost.saturating_add(cost);
        }
        rows
    }

    /// One row.
    pub(super) fn get(&self, row: &Row) -> Option<&Count> {
        self.rows.get(row)
    }

    /// The names of all rows.
    pub(super) fn names(&self) -> Vec<Row> {
        self.rows.keys().cloned().collect()
    }

    /// Counts anew from here on; answers where it was counted from, for [`Meter::unmark`].
    pub(super) fn mark(&mut self) -> Vec<(Row, Sum)> {
        let mark = |(row, count): (&Row, &mut Count)| {
            let before = std::mem::replace(&mut count.mark, count.all.clone());
            (row.clone(), before)
        };
        self.rows.iter_mut().map(mark).collect()
    }

    /// The mark could not be written: the one before counts.
    pub(super) fn unmark(&mut self, before: Vec<(Row, Sum)>) {
        for (row, mark) in before {
            if let Some(count) = self.rows.get_mut(&row) {
                count.mark = mark;
            }
        }
    }

    /// All calls since the mark.
    pub(super) fn total(&self) -> Sum {
        self.rows.get(&(ALL, String::new())).map(since).unwrap_or_default()
    }

    /// What was counted since the mark.
    pub(super) fn usage(&self, active_threads: u32) -> Usage {
        let of = |kind: u8| {
            let rows = self.rows.iter().filter(move |((k, _), _)| *k == kind);
            rows.map(|((_, name), count)| (name.clone(), since(count))).filter(|(_, sum)| sum.requests > 0).collect()
        };
        Usage { total: self.total(), by_agent: of(AGENT), by_model: of(MODEL), active_threads }
    }

    fn row(&self, kind: u8, name: &str) -> Row {
        let row = (kind, name.to_owned());
        let known = self.rows.contains_key(&row);
        let full = || self.rows.keys().filter(|(k, _)| *k == kind).count() >= NAMES_MAX;
        if name.len() > NAME_BYTES_MAX || (!known && full()) { (kind, OTHERS.to_owned()) } else { row }
    }
}

fn since(count: &Count) -> Sum {
    Sum {
        prompt: count.all.prompt.saturating_sub(count.mark.prompt),
        completion: count.all.completion.saturating_sub(count.mark.completion),
        requests: count.all.requests.saturating_sub(count.mark.requests),
        latency_ms: count.all.latency_ms.saturating_sub(count.mark.latency_ms),
        cost: count.all.cost.saturating_sub(count.mark.cost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(agent: &str, prompt: u64) -> Spent {
        Spent { prompt, completion: 1, agent: agent.into(), model: "m".into(), latency_ms: 5 }
    }

    #[test]
    fn a_reset_is_a_mark_and_deletes_nothing() {
        let mut meter = Meter::default();
        meter.count(&call("a", 10), 4);
        let before = meter.mark();
        assert_eq!(meter.usage(0), Usage::default());
        meter.count(&call("b", 7), 2);
        let usage = meter.usage(0);
        assert_eq!((usage.total.prompt, usage.by_agent.len(), usage.by_model[0].1.requests), (7, 1, 1));
        assert_eq!((usage.total.cost, meter.rows[&(ALL, String::new())].all.prompt), (2, 17));
        meter.unmark(before);
        assert_eq!((meter.total().prompt, meter.total().cost), (17, 6));
    }

    #[test]
    fn agents_beyond_the_bound_are_counted_together() {
        let mut meter = Meter::default();
        for i in 0..NAMES_MAX + 9 {
            meter.count(&call(&format!("agent {i}"), 1), 0);
        }
        let usage = meter.usage(0);
        assert!(usage.by_agent.len() <= NAMES_MAX + 1);
        assert_eq!(usage.by_agent.iter().map(|(_, sum)| sum.prompt).sum::<u64>(), usage.total.prompt);
    }
}
