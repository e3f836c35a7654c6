//! When a machine lets its node run: always, in every k-th turn (others keep it busy), or not until later (it sleeps).
//!
//! What is slowed is everything that a node does in tasks of its own: QUIC, membership, transfers, chores. The handlers
//! of its actors run when a message reaches them, which paced tasks decide.

use skep_runtime::pace::Pace;
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// One turn: what a scheduler gives to a process before it looks at the others.
pub const TURN: Duration = Duration::from_millis(10);

/// A machine's processor, as its node sees it. It outlives the node.
#[derive(Debug)]
pub struct Turns(Mutex<State>);

#[derive(Debug)]
struct State {
    start: Instant,
    /// The node runs in one of so many turns,
    every: u32,
    /// namely in this one.
    own: u32,
    sleeps_until: Option<Instant>,
}

impl Turns {
    /// A machine that does nothing else. Turns are counted from now.
    pub fn all() -> Turns {
        Turns(Mutex::new(State { start: Instant::now(), every: 1, own: 0, sleeps_until: None }))
    }

    /// From now on the node runs in every `every`-th turn, beginning with turn `own`.
    pub fn set(&self, every: u32, own: u32) {
        let mut state = self.state();
        (state.every, state.own) = (every.max(1), own % every.max(1));
    }

    /// The machine sleeps for this time: nothing runs, datagrams fill its buffer, and its clocks go on.
    pub fn sleep(&self, time: Duration) {
        self.state().sleeps_until = Some(Instant::now() + time);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pace for Turns {
    fn opens_at(&self, now: Instant) -> Option<Instant> {
        let state = self.state();
        if let Some(wake) = state.sleeps_until.filter(|wake| *wake > now) {
            return Some(wake);
        }
        let turn = ((now - state.start).as_nanos() / TURN.as_nanos()) as u32;
        let wait = (state.own + state.every - turn % state.every) % state.every;
        (wait > 0).then(|| state.start + TURN * (turn + wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_turn_of_three_is_the_nodes_own() {
        let (turns, start) = (Turns::all(), Instant::now());
        turns.set(3, 1);
        let opens = |ms| turns.opens_at(start + Duration::from_millis(ms));
        assert_eq!(opens(0), Some(start + TURN));
        assert_eq!((opens(10), opens(19)), (None, None));
        assert_eq!(opens(20), Some(start + 4 * TURN));
    }

    #[tokio::test(start_paused = true)]
    async fn a_sleeping_machine_runs_nothing_until_it_wakes() {
        let (turns, start) = (Turns::all(), Instant::now());
        turns.sleep(Duration::from_secs(3));
        assert_eq!(turns.opens_at(start), Some(start + Duration::from_secs(3)));
        assert_eq!(turns.opens_at(start + Duration::from_secs(3)), None);
    }
}
