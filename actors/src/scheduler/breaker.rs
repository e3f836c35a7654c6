//! Whether a node is asked to run something at all: after three failures in a row it is left alone for a while.
//!
//! For nodes that membership calls up and that fail calls nevertheless. Time is passed in, as time since start.

use std::time::Duration;

/// Failures in a row that open it.
const FAILURES: u32 = 3;
/// How long it stays open the first time; each further time twice as long.
const PAUSE: Duration = Duration::from_secs(30);
/// The longest that it stays open.
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// The history of calls to one node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Breaker {
    failures: u32,
    until: Option<Duration>,
    pause: Duration,
}

impl Breaker {
    /// A call succeeded: the node is as good as any.
    pub fn succeeded(&mut self) {
        *self = Breaker::default();
    }

    /// A call failed. Enough in a row, or one on trial, open it.
    pub fn failed(&mut self, now: Duration) {
        self.failures += 1;
        if self.failures >= FAILURES {
            self.pause = (self.pause * 2).clamp(PAUSE, PAUSE_MAX);
            self.until = Some(now + self.pause);
        }
    }

    /// Whether calls are held back now.
    pub fn is_open(&self, now: Duration) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// `closed`, `open`, or `half_open`: open before, and on trial with the next call.
    pub fn word(&self, now: Duration) -> &'static str {
        match self.until {
            None => "closed",
            Some(until) if now < until => "open",
            Some(_) => "half_open",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_open_it_and_a_success_on_trial_closes_it() {
        let mut breaker = Breaker::default();
        let at = Duration::from_secs;
        (0..2).for_each(|_| breaker.failed(at(0)));
        assert_eq!(breaker.word(at(0)), "closed");
        breaker.failed(at(0));
        assert_eq!((breaker.word(at(29)), breaker.word(at(30))), ("open", "half_open"));
        breaker.failed(at(30));
        assert_eq!((breaker.word(at(89)), breaker.word(at(90))), ("open", "half_open"));
        breaker.succeeded();
        assert_eq!(breaker.word(at(90)), "closed");
    }
}
