//! When a machine lets its node run: always, in every k-th turn (others keep it busy), or not until later (it sleeps).
//!
//! What is slowed is everything that a node does: its tasks (QUIC, membership, transfers, chores) and the handlers of its
//! published actors. It also says whose step is being made, so that lines of the log have a name.

use crate::{log, pace::Pace};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// One turn: what a scheduler gives to a process before it looks at the others.
pub const TURN: Duration = Duration::from_millis(10);

/// How soon a node notices that its machine was woken early: its tasks wait for their turn by the clock.
const WAKE_PERIOD: Duration = Duration::from_millis(100);

/// A machine's processor, as its node sees it. It outlives the node.
#[derive(Debug)]
pub struct Turns {
    name: String,
    start: Instant,
    pace: Mutex<Pace>,
}

impl Turns {
    /// The machine of this name, which does nothing else. Turns are counted from now.
    pub fn all(name: &str) -> Turns {
        Turns { name: name.to_owned(), start: Instant::now(), pace: Mutex::new(Pace::STEADY) }
    }

    /// From now on the node runs in every `every`-th turn, beginning with turn `own`.
    pub fn set(&self, every: u32, own: u32) {
        self.pace().share(Pace::every(TURN, every.max(1), own));
    }

    /// The machine sleeps for this time: nothing runs, datagrams fill its buffer, and its clocks go on.
    pub fn sleep(&self, time: Duration) {
        self.pace().freeze(self.start.elapsed() + time);
    }

    /// The machine runs from now on, always.
    pub fn wake(&self) {
        *self.pace() = Pace::STEADY;
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl skep_runtime::pace::Pace for Turns {
    fn opens_at(&self, now: Instant) -> Option<Instant> {
        let at = self.start + self.pace().next(now - self.start);
        (at > now).then_some(at.min(now + WAKE_PERIOD))
    }

    fn step(&self, work: &mut dyn FnMut()) {
        log::as_node(&self.name, work);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_runtime::pace::Pace as _;

    #[tokio::test(start_paused = true)]
    async fn one_turn_of_three_is_the_nodes_own() {
        let (turns, start) = (Turns::all("n0"), Instant::now());
        turns.set(3, 1);
        let opens = |ms| turns.opens_at(start + Duration::from_millis(ms));
        assert_eq!(opens(0), Some(start + TURN));
        assert_eq!((opens(10), opens(19)), (None, None));
        assert_eq!(opens(20), Some(start + 4 * TURN));
    }

    #[tokio::test(start_paused = true)]
    async fn a_sleeping_machine_runs_nothing_until_it_wakes() {
        let (turns, start) = (Turns::all("n0"), Instant::now());
        turns.sleep(Duration::from_secs(3));
        assert_eq!(turns.opens_at(start), Some(start + WAKE_PERIOD), "it looks again, and sleeps on");
        assert_eq!(turns.opens_at(start + Duration::from_millis(2950)), Some(start + Duration::from_secs(3)));
        assert_eq!(turns.opens_at(start + Duration::from_secs(3)), None);
        turns.wake();
        assert_eq!(turns.opens_at(start), None);
    }
}
