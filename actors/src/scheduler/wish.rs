//! Which of the nodes that could run a command it would rather have. What a node must have is `demand`'s; who has room is
//! placement's.

use super::demand::Condition;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Conditions that a command would like to hold: a few, in its own order.
pub const PREFERS_MAX: usize = 8;
/// Bytes of the name of a group whose commands keep apart.
pub const GROUP_BYTES_MAX: usize = 63;

/// What a command would like of its node, beside a node by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Wish {
    /// How to choose among the nodes that are left.
    pub strategy: Strategy,
    /// Conditions on labels that should hold: the node where most of them do is chosen first.
    pub prefers: Vec<Condition>,
    /// Commands of one group never share a node, as far as the node that places them knows: those that were given to the
    /// same one.
    pub apart: Option<String>,
}

/// How to choose among nodes that all have room. Names are document 002's, and the usual two of batch systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The node with the fewest commands: they spread.
    #[default]
    LeastConnections,
    /// One node after the other.
    RoundRobin,
    /// The node with the fewest commands for its cores: a large one gets more.
    Weighted,
    /// The node with the most left, of cores and memory the scarcer.
    ResourceBased,
    /// Two at random, of them the one with fewer commands: as even as asking all (Mitzenmacher 2001), without a herd
    /// running to the same one.
    RandomOfTwo,
    /// The fullest node that still has room: the others stay free for what is large.
    BinPack,
}

/// Every strategy and its name.
pub const STRATEGIES: [(Strategy, &str); 6] = [
    (Strategy::LeastConnections, "least_connections"),
    (Strategy::RoundRobin, "round_robin"),
    (Strategy::Weighted, "weighted"),
    (Strategy::ResourceBased, "resource_based"),
    (Strategy::RandomOfTwo, "random"),
    (Strategy::BinPack, "bin_pack"),
];

impl Strategy {
    /// Its name, as the API writes it.
    pub fn word(self) -> &'static str {
        STRATEGIES.iter().find(|(strategy, _)| *strategy == self).map_or("", |(_, word)| word)
    }
}

impl FromStr for Strategy {
    type Err = String;

    /// Reads a name, or `spread`, which is what the first one does.
    ///
    /// # Errors
    /// Which names there are.
    fn from_str(text: &str) -> Result<Strategy, String> {
        if text == "spread" {
            return Ok(Strategy::LeastConnections);
        }
        STRATEGIES.iter().find(|(_, word)| *word == text).map(|(strategy, _)| *strategy).ok_or_else(|| {
            let words: Vec<&str> = STRATEGIES.iter().map(|(_, word)| *word).collect();
            format!("{text:?} is no strategy: {}, or spread", words.join(", "))
        })
    }
}

impl Wish {
    /// Bytes that it takes in memory, beside itself.
    pub(super) fn bytes(&self) -> usize {
        self.prefers.iter().map(|condition| size_of::<Condition>() + condition.to_string().len()).sum::<usize>()
            + self.apart.as_ref().map_or(0, String::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strategies_are_read_as_they_are_written() {
        for (strategy, word) in STRATEGIES {
            assert_eq!((word.parse(), strategy.word()), (Ok(strategy), word));
        }
        assert_eq!("spread".parse(), Ok(Strategy::LeastConnections));
        assert!("Round Robin".parse::<Strategy>().unwrap_err().contains("round_robin"));
    }
}
