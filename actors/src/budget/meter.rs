//! What was metered on this node, by agent and by model: sums of all time and the mark of the last reset.
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

    /// The rows as they are after this call: to be written down, then given to [`Meter::put`].
    pub(super) fn counted(&self, spent: &Spent) -> Vec<(Row, Count)> {
        let rows = [(ALL, String::new()), self.row(AGENT, &spent.agent), self.row(MODEL, &spent.model)];
        let add = |row: Row| {
            let mut count = self.rows.get(&row).cloned().unwrap_or_default();
            count.all.prompt = count.all.prompt.saturating_add(spent.prompt);
            count.all.completion = count.all.completion.saturating_add(spent.completion);
            count.all.requests += 1;
            count.all.latency_ms = count.all.latency_ms.saturating_add(spent.latency_ms);
            (row, count)
        };
        rows.into_iter().map(add).collect()
    }

    /// The rows as they are after a reset.
    pub(super) fn marked(&self) -> Vec<(Row, Count)> {
        let mark =
            |(row, count): (&Row, &Count)| (row.clone(), Count { all: count.all.clone(), mark: count.all.clone() });
        self.rows.iter().map(mark).collect()
    }

    /// Takes over rows that were written down.
    pub(super) fn put(&mut self, rows: Vec<(Row, Count)>) {
        self.rows.extend(rows);
    }

    /// What was counted since the mark.
    pub(super) fn usage(&self, active_threads: u32) -> Usage {
        let of = |kind: u8| {
            let rows = self.rows.iter().filter(move |((k, _), _)| *k == kind);
            rows.map(|((_, name), count)| (name.clone(), since(count))).filter(|(_, sum)| sum.requests > 0).collect()
        };
        let total = self.rows.get(&(ALL, String::new())).map(since).unwrap_or_default();
        Usage { total, by_agent: of(AGENT), by_model: of(MODEL), active_threads }
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
        prompt: count.all.prompt - count.mark.prompt,
        completion: count.all.completion - count.mark.completion,
        requests: count.all.requests - count.mark.requests,
        latency_ms: count.all.latency_ms - count.mark.latency_ms,
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
        meter.put(meter.counted(&call("a", 10)));
        meter.put(meter.marked());
        assert_eq!(meter.usage(0), Usage::default());
        meter.put(meter.counted(&call("b", 7)));
        let usage = meter.usage(0);
        assert_eq!((usage.total.prompt, usage.by_agent.len(), usage.by_model[0].1.requests), (7, 1, 1));
        assert_eq!(meter.rows[&(ALL, String::new())].all.prompt, 17);
    }

    #[test]
    fn agents_beyond_the_bound_are_counted_together() {
        let mut meter = Meter::default();
        for i in 0..NAMES_MAX + 9 {
            meter.put(meter.counted(&call(&format!("agent {i}"), 1)));
        }
        let usage = meter.usage(0);
        assert!(usage.by_agent.len() <= NAMES_MAX + 1);
        assert_eq!(usage.by_agent.iter().map(|(_, sum)| sum.prompt).sum::<u64>(), usage.total.prompt);
    }
}
