//! When a simulated node may run: the seam through which the simulation starves a machine or puts it to sleep.
//!
//! A task of a node, and the handler of its actor, is polled only while its [`Pace`] is open; what woke it meanwhile
//! waits. Production has no pace. Not here: when that is (the simulation's).

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::time::{Instant, Sleep, sleep_until};

/// The turns of a node.
pub trait Pace: fmt::Debug + Send + Sync {
    /// `None`: it may run now. Otherwise when it may again, or is to ask again: later than `now`.
    fn opens_at(&self, now: Instant) -> Option<Instant>;

    /// Makes one step of the node's work: for whoever wants to know whose step it is.
    fn step(&self, work: &mut dyn FnMut()) {
        work();
    }
}

/// A future that goes on only in its node's turns.
pub struct Paced<F> {
    work: Pin<Box<F>>,
    pace: Arc<dyn Pace>,
    waits: Option<Pin<Box<Sleep>>>,
}

impl<F: Future> Paced<F> {
    /// `work`, at this pace.
    pub fn new(work: F, pace: Arc<dyn Pace>) -> Paced<F> {
        Paced { work: Box::pin(work), pace, waits: None }
    }
}

impl<F: Future> Future for Paced<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        while let Some(at) = this.pace.opens_at(Instant::now()) {
            let wait = this.waits.get_or_insert_with(|| Box::pin(sleep_until(at)));
            if wait.deadline() != at {
                wait.as_mut().reset(at);
            }
            if wait.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        this.waits = None;
        let (work, mut polled) = (&mut this.work, Poll::Pending);
        this.pace.step(&mut || polled = work.as_mut().poll(cx));
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::sleep;

    const TURN: Duration = Duration::from_millis(10);

    /// Every second turn is the node's own.
    #[derive(Debug)]
    struct Half(Instant);

    impl Pace for Half {
        fn opens_at(&self, now: Instant) -> Option<Instant> {
            let turn = ((now - self.0).as_millis() / TURN.as_millis()) as u32;
            (turn % 2 == 1).then(|| self.0 + TURN * (turn + 1))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_ends_in_anothers_turn_is_noticed_in_the_next_one() {
        let start = Instant::now();
        let work = async {
            sleep(TURN + TURN / 2).await;
            Instant::now()
        };
        let noticed = Paced::new(work, Arc::new(Half(start))).await;
        assert_eq!(noticed - start, 2 * TURN);
    }
}
