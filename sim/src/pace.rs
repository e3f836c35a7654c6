//! When a machine runs: always, in every k-th slice of time, or not until it thaws. Times are counted from a start that
//! is the holder's.

use std::time::Duration;

/// A machine's share of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    slice: Duration,
    every: u32,
    offset: u32,
    frozen_until: Duration,
}

/// How a machine stands still, again and again: after a pause between these two, for a time between these two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stalls {
    /// From one to the next.
    pub pause: (Duration, Duration),
    /// How long each lasts.
    pub time: (Duration, Duration),
}

impl Pace {
    /// Always.
    pub const STEADY: Pace =
        Pace { slice: Duration::from_millis(1), every: 1, offset: 0, frozen_until: Duration::ZERO };

    /// In every `every`-th slice, beginning with number `offset`; 1 is always.
    pub fn every(slice: Duration, every: u32, offset: u32) -> Pace {
        assert!(!slice.is_zero() && every > 0, "time goes on");
        Pace { slice, every, offset: offset % every, frozen_until: Duration::ZERO }
    }

    /// The same sleep, another share of the time after it.
    pub fn share(&mut self, other: Pace) {
        *self = Pace { frozen_until: self.frozen_until, ..other };
    }

    /// Not at all until then.
    pub fn freeze(&mut self, until: Duration) {
        self.frozen_until = until;
    }

    /// The first moment at or after `at` at which the machine runs.
    pub fn next(&self, at: Duration) -> Duration {
        let at = at.max(self.frozen_until);
        if self.every == 1 || at == Duration::MAX {
            return at;
        }
        let (slice, every) = (self.slice.as_nanos(), u128::from(self.every));
        let number = at.as_nanos() / slice;
        match (u128::from(self.offset) + every - number % every) % every {
            0 => at,
            wait => Duration::from_nanos(u64::try_from((number + wait) * slice).unwrap_or(u64::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_steady_machine_runs_at_any_time() {
        assert_eq!(Pace::STEADY.next(ms(7)), ms(7));
        assert_eq!(Pace::STEADY.next(Duration::MAX), Duration::MAX);
    }

    #[test]
    fn a_slow_machine_runs_in_its_own_slices_alone() {
        let pace = Pace::every(ms(10), 3, 1);
        let starts: Vec<Duration> = [0, 9, 10, 15, 19, 20, 39, 40].map(|at| pace.next(ms(at))).into();
        assert_eq!(starts, [10, 10, 10, 15, 19, 40, 40, 40].map(ms));
    }

    #[test]
    fn a_frozen_machine_goes_on_in_its_next_slice_after_it_thaws() {
        let mut pace = Pace::every(ms(10), 2, 0);
        pace.freeze(ms(1015));
        assert_eq!((pace.next(ms(5)), pace.next(ms(1025))), (ms(1020), ms(1025)));
    }
}
