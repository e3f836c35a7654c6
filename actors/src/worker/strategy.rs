//! Which of the workers that wait gets a job. Workers pull, so that the choice is among those that ask for work at one
//! node in that moment; between nodes, the first to claim a job has it.

use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// How it is chosen. Ties go to whoever got nothing for longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Strategy {
    /// Who has the fewest jobs.
    #[default]
    LeastConnections,
    /// Who got nothing for longest.
    RoundRobin,
    /// In proportion to the workers' weights.
    Weighted,
    /// Who has most of its processor and memory to spare, as far as it says.
    ResourceBased,
    /// Of two that are drawn, the one with fewer jobs (Mitzenmacher, "The Power of Two Choices", 2001).
    RandomOfTwo,
}

impl Strategy {
    /// Every strategy.
    pub const ALL: [Strategy; 5] = [
        Strategy::LeastConnections,
        Strategy::RoundRobin,
        Strategy::Weighted,
        Strategy::ResourceBased,
        Strategy::RandomOfTwo,
    ];

    /// Its name in the API.
    pub fn word(self) -> &'static str {
        match self {
            Strategy::LeastConnections => "least_connections",
            Strategy::RoundRobin => "round_robin",
            Strategy::Weighted => "weighted",
            Strategy::ResourceBased => "resource_based",
            Strategy::RandomOfTwo => "random_of_two",
        }
    }

    /// The strategy of this name.
    pub fn named(word: &str) -> Option<Strategy> {
        Strategy::ALL.into_iter().find(|strategy| strategy.word() == word)
    }
}

/// A worker that waits, as strategies see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Jobs that it has, here or by its own count.
    pub held: u32,
    /// When it got one last, as a number that grows.
    pub last: u64,
    /// How far its weight has brought it ([`pass`]).
    pub pass: u64,
    /// The busier of its processor and its memory, 0 to 1.
    pub usage: f64,
}

/// Usage of whoever doesn't say: neither preferred nor avoided.
pub const USAGE_UNKNOWN: f64 = 0.5;
/// What one job moves a worker of weight 1 forward; it is divided by weights up to [`WEIGHT_MAX`].
const STRIDE: u64 = 1 << 20;
/// The largest weight: beyond it shares are no longer told apart by [`STRIDE`] to better than a per mille.
pub const WEIGHT_MAX: u32 = 1000;

/// How far a worker of this weight is after one more job (stride scheduling, Waldspurger and Weihl 1995): whoever is
/// behind is next, so that shares are as weights are.
pub fn pass(before: u64, weight: u32) -> u64 {
    before + STRIDE / u64::from(weight.clamp(1, WEIGHT_MAX))
}

/// The place of the one that gets it. `draw` is a random number.
pub fn choose(strategy: Strategy, candidates: &[Candidate], draw: u64) -> Option<usize> {
    let best = |order: &dyn Fn(&Candidate, &Candidate) -> Ordering| {
        let places = 0..candidates.len();
        places.min_by(|a, b| {
            let (a, b) = (&candidates[*a], &candidates[*b]);
            order(a, b).then(a.last.cmp(&b.last))
        })
    };
    match strategy {
        Strategy::LeastConnections => best(&|a, b| a.held.cmp(&b.held)),
        Strategy::RoundRobin => best(&|_, _| Ordering::Equal),
        Strategy::Weighted => best(&|a, b| a.pass.cmp(&b.pass)),
        Strategy::ResourceBased => best(&|a, b| a.usage.total_cmp(&b.usage)),
        Strategy::RandomOfTwo => {
            let count = candidates.len() as u64;
            let one = draw.checked_rem(count)?;
            // A second one: any of the others.
            let other = (draw >> 32).checked_rem(count - 1).map_or(one, |step| (one + 1 + step) % count);
            let (one, other) = (one as usize, other as usize);
            Some(if candidates[other].held < candidates[one].held { other } else { one })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(held: u32, last: u64) -> Candidate {
        Candidate { held, last, pass: 0, usage: USAGE_UNKNOWN }
    }

    #[test]
    fn each_strategy_chooses_by_its_own_measure() {
        let mut three = [candidate(2, 1), candidate(1, 9), candidate(3, 5)];
        (three[0].pass, three[1].pass, three[2].pass) = (7, 9, 3);
        (three[0].usage, three[1].usage, three[2].usage) = (0.1, 0.9, 0.8);
        let chosen = |strategy| choose(strategy, &three, 0);
        assert_eq!(chosen(Strategy::LeastConnections), Some(1));
        assert_eq!(chosen(Strategy::RoundRobin), Some(0));
        assert_eq!(chosen(Strategy::Weighted), Some(2));
        assert_eq!(chosen(Strategy::ResourceBased), Some(0));
        assert!(Strategy::ALL.iter().all(|strategy| choose(*strategy, &[], 7).is_none()));
        assert!(Strategy::ALL.iter().all(|strategy| choose(*strategy, &three[..1], u64::MAX) == Some(0)));
        assert!(Strategy::ALL.iter().all(|strategy| Strategy::named(strategy.word()) == Some(*strategy)));
    }

    #[test]
    fn of_two_that_are_drawn_the_busiest_of_all_never_wins() {
        let three = [candidate(0, 0), candidate(5, 0), candidate(9, 0)];
        for draw in 0..1000_u64 {
            let draw = draw.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            assert_ne!(choose(Strategy::RandomOfTwo, &three, draw), Some(2));
        }
    }

    #[test]
    fn weights_are_shares() {
        let (weights, mut got) = ([1_u32, 2, 7], [0_u32; 3]);
        let mut all = [candidate(0, 0), candidate(0, 0), candidate(0, 0)];
        for turn in 1..=1000 {
            let chosen = choose(Strategy::Weighted, &all, 0).unwrap();
            got[chosen] += 1;
            (all[chosen].pass, all[chosen].last) = (pass(all[chosen].pass, weights[chosen]), turn);
        }
        assert!(got.iter().zip(weights).all(|(got, weight)| got.abs_diff(weight * 100) <= 1), "{got:?}");
    }
}
