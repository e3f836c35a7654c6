//! What one process draws from a pot of tokens and money: reservations, what they came to, and the *line*.
//!
//! ```text
//! 0 ----- spent ---- drawn = spent + reserved ------ line ------------- the pot
//!         on disk    in memory alone                 on disk: charged at a restart
//! ```
//!
//! The line is what a crash costs: it is on disk, and a process that finds it there charges everything up to it, for it
//! can't know which calls were made. So a reservation below the line is answered from memory, and one beyond it waits
//! until a higher line is written. A thread that is used now and then has its line at what is drawn: each of its
//! reservations is written, and a crash charges those and no more. One that reserves faster than the disk flushes gets a
//! line *ahead* of what is drawn, and each of its writes pushes that on; when it is quiet again the line is drawn in.
//!
//! Not here: how large the pot is (`thread`, `held`), and the disk (`pen`). Reservations are never written: a process
//! that is gone settles none of them.

use super::{amount::Amount, messages::BudgetError, prices::Rate};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Reservations within a second that wait for the disk before the line goes ahead: an agent that thinks has one or two.
const COLD_WAITS: u32 = 3;
/// By how much the line goes further ahead each time that it was not enough. Four steps make a call into two hundred.
const AHEAD_GROWTH: u64 = 4;

/// One call that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hold {
    /// What it may come to.
    pub(super) amount: Amount,
    /// What its tokens cost: the price of the moment in which it was reserved.
    pub(super) rate: Option<Rate>,
}

/// The tally.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Tally {
    prompt: u64,
    completion: u64,
    cost: u64,
    /// As the last write says, which may be under way.
    line: Amount,
    #[serde(skip)]
    live: Live,
}

/// What ends with the process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Live {
    /// The line that is on disk whatever becomes of the write that is under way.
    safe: Amount,
    reserved: BTreeMap<Uuid, Hold>,
    /// All of `reserved`.
    held: Amount,
    /// How far the line is to go beyond what is drawn.
    ahead: Amount,
    /// Reservations that waited for the disk since it was quiet.
    waits: u32,
    /// Something was reserved since [`Tally::rest`] last looked.
    touched: bool,
}

impl Tally {
    /// Tokens of prompts and of completions, and what they cost.
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        (self.prompt, self.completion, self.cost)
    }

    /// Spent.
    pub(super) fn spent(&self) -> Amount {
        Amount::new(self.prompt.saturating_add(self.completion), self.cost)
    }

    /// Set aside for calls that are under way.
    pub(super) fn held(&self) -> Amount {
        self.live.held
    }

    /// Both.
    pub(super) fn drawn(&self) -> Amount {
        self.spent().plus(self.live.held)
    }

    /// How far ahead its user would like to be.
    pub(super) fn ahead(&self) -> Amount {
        self.live.ahead
    }

    /// Sets a call's tokens aside. Whether the call may be made now; if not, once the next write is on disk.
    pub(super) fn reserve(&mut self, id: Uuid, hold: Hold) -> bool {
        self.live.reserved.insert(id, hold);
        self.live.held = self.live.held.plus(hold.amount);
        self.live.touched = true;
        let covered = self.drawn().within(self.live.safe);
        if !covered {
            self.hurry(hold.amount);
        }
        covered
    }

    /// Whether the line is to be pushed on before a call has to wait for it.
    pub(super) fn near(&self) -> bool {
        let margin = self.live.ahead.part(2);
        !margin.is_none() && !self.drawn().plus(margin).within(self.live.safe)
    }

    /// A call had to wait: with the next ones it shall not.
    pub(super) fn hurry(&mut self, amount: Amount) {
        self.live.touched = true;
        self.live.waits = self.live.waits.saturating_add(1);
        if self.live.waits > COLD_WAITS {
            self.live.ahead = self.live.ahead.times(AHEAD_GROWTH).most(amount).bounded();
        }
    }

    /// Replaces a reservation by what was spent; says what that cost.
    pub(super) fn settle(&mut self, id: Uuid, prompt: u64, completion: u64) -> Result<u64, BudgetError> {
        let hold = self.release(id)?;
        let cost = hold.rate.map_or(0, |rate| rate.cost(prompt, completion));
        self.charge(prompt, completion, cost);
        Ok(cost)
    }

    /// Takes a reservation back.
    pub(super) fn release(&mut self, id: Uuid) -> Result<Hold, BudgetError> {
        let hold = self.live.reserved.remove(&id).ok_or(BudgetError::Unknown)?;
        self.live.held = self.live.held.minus(hold.amount);
        Ok(hold)
    }

    /// Notes what was spent without a reservation of this process.
    pub(super) fn charge(&mut self, prompt: u64, completion: u64, cost: u64) {
        self.prompt = self.prompt.saturating_add(prompt);
        self.completion = self.completion.saturating_add(completion);
        self.cost = self.cost.saturating_add(cost);
    }

    /// The work is over, what is reserved was never settled: each call is charged in full.
    pub(super) fn close(&mut self) {
        let Amount { tokens, cost } = std::mem::take(&mut self.live.held);
        self.live.reserved.clear();
        self.charge(0, tokens, cost);
    }

    /// It is written now, with a line that is at most `room` beyond what is drawn.
    pub(super) fn write(&mut self, room: Amount) {
        self.line = self.drawn().plus(self.live.ahead.least(room));
        self.live.safe = self.live.safe.least(self.line);
    }

    /// That write is on disk. (Of one that failed nobody knows: the lower line of the two goes on to count.)
    pub(super) fn written(&mut self) {
        self.live.safe = self.line;
    }

    /// Called now and then. Whether it is to be written, because it is quiet and the line is ahead.
    pub(super) fn rest(&mut self) -> bool {
        let quiet = !std::mem::take(&mut self.live.touched);
        if quiet {
            self.live.ahead = Amount::NONE;
        }
        if self.live.ahead.is_none() {
            self.live.waits = 0;
        }
        quiet && self.line != self.drawn()
    }

    /// Whether [`Tally::rest`] has to look again.
    pub(super) fn restless(&self) -> bool {
        self.live.touched || self.live.waits > 0 || self.line != self.drawn()
    }

    /// The process that drew is gone: what became of its calls can't be known, so all up to the line counts as spent.
    pub(super) fn restart(&mut self) {
        let unknown = self.line.minus(self.spent());
        self.live = Live::default();
        self.charge(0, unknown.tokens, unknown.cost);
        // On disk it says the same in other words.
        self.line = self.spent();
        self.live.safe = self.line;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(tokens: u64) -> Hold {
        Hold { amount: Amount::new(tokens, 0), rate: None }
    }

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    /// A process that dies here and now, with what is on its disk.
    fn crashed(disk: &Tally) -> u64 {
        let mut tally = disk.clone();
        tally.restart();
        tally.spent().tokens
    }

    #[test]
    fn a_thread_that_is_used_now_and_then_is_charged_what_was_reserved_and_no_more() {
        let mut tally = Tally::default();
        assert!(!tally.reserve(id(1), hold(60)), "nothing is on disk yet");
        tally.write(Amount::new(1000, 0));
        tally.written();
        assert_eq!(crashed(&tally), 60);
        tally.settle(id(1), 20, 5).unwrap();
        tally.write(Amount::new(1000, 0));
        tally.written();
        assert_eq!(crashed(&tally), 25);
        assert!(!tally.restless() || !tally.rest(), "its line is where it is drawn");
    }

    #[test]
    fn a_thread_in_a_hurry_stops_waiting_for_the_disk_and_rests_when_it_is_quiet() {
        let (mut tally, mut waits) = (Tally::default(), 0);
        for n in 0..500 {
            if !tally.reserve(id(n), hold(10)) {
                waits += 1;
                tally.write(Amount::new(1 << 20, 0));
                tally.written();
            }
            assert!(crashed(&tally) >= tally.drawn().tokens, "what may be spent is charged");
            tally.settle(id(n), 10, 0).unwrap();
        }
        assert!(waits < 12, "{waits} of 500 waited");
        tally.rest();
        assert!(tally.rest(), "quiet, and ahead");
        tally.write(Amount::new(1 << 20, 0));
        tally.written();
        assert_eq!((crashed(&tally), tally.restless()), (5000, false));
    }

    #[test]
    fn while_a_lower_line_is_under_way_the_higher_one_does_not_count() {
        let mut tally = Tally::default();
        tally.reserve(id(1), hold(100));
        tally.write(Amount::NONE);
        tally.written();
        tally.release(id(1)).unwrap();
        tally.write(Amount::NONE);
        assert!(!tally.reserve(id(2), hold(50)), "the write that is under way says 0");
    }
}
