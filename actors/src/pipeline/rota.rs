//! Whose turn it is: requests wait until their context has room on every stage, then take turns, one step each.
//!
//! Without I/O. At most `window` steps are in flight, enough to keep every stage of the chain busy; a prompt is fed
//! in chunks that follow each other, and a decoding sequence has one token in flight, since the next one needs it.
//! The chain answers in order, so that what is in flight is a queue.

use std::collections::{BTreeMap, VecDeque};

/// Sequences that run at once. Each costs cache on every stage; more in flight than stages adds no throughput
/// until steps are batched.
pub(crate) const RUNNING_MAX: usize = 8;

/// The turns of one pipeline. `T` is the time type, kept for whoever watches over what is in flight.
pub(super) struct Rota<T> {
    window: usize,
    chunk: usize,
    /// Tokens of context that every stage still has room for.
    room: u64,
    running: BTreeMap<u64, Run>,
    turns: VecDeque<u64>,
    waiting: VecDeque<(u64, Run)>,
    in_flight: VecDeque<(u64, T)>,
}

struct Run {
    /// Tokens that are to be fed: the prompt's rest, or the one chosen last.
    feed: VecDeque<u32>,
    /// Where the next one goes.
    position: u32,
    /// Tokens of context that it holds.
    reserved: u32,
}

/// One step to send.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Feed {
    pub(super) sequence: u64,
    pub(super) position: u32,
    pub(super) tokens: Vec<u32>,
    /// Whether the token after the last one is wanted.
    pub(super) sample: bool,
}

impl<T: Copy> Rota<T> {
    /// Turns over a chain of `stages` with room for `room` tokens, prompts in chunks of `chunk`.
    pub(super) fn new(stages: usize, room: u64, chunk: usize) -> Rota<T> {
        Rota {
            // One step in each stage's hands and one on the way to it.
            window: 2 * stages.max(1),
            chunk,
            room,
            running: BTreeMap::new(),
            turns: VecDeque::new(),
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
        }
    }

    /// A new sequence, last in the queue. `reserve` is the most tokens that it will hold.
    pub(super) fn admit(&mut self, sequence: u64, prompt: Vec<u32>, reserve: u32) {
        self.waiting.push_back((sequence, Run { feed: prompt.into(), position: 0, reserved: reserve }));
    }

    /// The next sequence that may begin, if one may: it is to be opened on the chain with so many tokens. First
    /// come, first served: a long one is not starved by short ones behind it.
    pub(super) fn begin(&mut self) -> Option<(u64, u32)> {
        let (_, next) = self.waiting.front()?;
        if self.running.len() >= RUNNING_MAX || u64::from(next.reserved) > self.room {
            return None;
        }
        let (sequence, run) = self.waiting.pop_front()?;
        self.room -= u64::from(run.reserved);
        let reserved = run.reserved;
        self.running.insert(sequence, run);
        self.turns.push_back(sequence);
        Some((sequence, reserved))
    }

    /// The next step to send now, of the sequences that `ready` says may go on.
    pub(super) fn next(&mut self, now: T, ready: impl Fn(u64) -> bool) -> Option<Feed> {
        if self.in_flight.len() >= self.window {
            return None;
        }
        let may_go =
            |sequence: &u64| self.running.get(sequence).is_some_and(|run| !run.feed.is_empty()) && ready(*sequence);
        let at = self.turns.iter().position(may_go)?;
        let sequence = self.turns.remove(at)?;
        self.turns.push_back(sequence);
        let run = self.running.get_mut(&sequence)?;
        let tokens: Vec<u32> = run.feed.drain(..run.feed.len().min(self.chunk)).collect();
        let feed = Feed { sequence, position: run.position, sample: run.feed.is_empty(), tokens };
        run.position += feed.tokens.len() as u32;
        self.in_flight.push_back((sequence, now));
        Some(feed)
    }

    /// An answer came for `sequence`. `false` if none was due for it: the chain has lost its order.
    pub(super) fn answered(&mut self, sequence: u64) -> bool {
        self.in_flight.pop_front().is_some_and(|(due, _)| due == sequence)
    }

    /// The token to feed next.
    pub(super) fn feed(&mut self, sequence: u64, token: u32) {
        if let Some(run) = self.running.get_mut(&sequence) {
            run.feed.push_back(token);
        }
    }

    /// The sequence has ended: its room is free. `true` if it had begun, hence is to be closed on the chain.
    pub(super) fn end(&mut self, sequence: u64) -> bool {
        self.waiting.retain(|(waiting, _)| *waiting != sequence);
        self.turns.retain(|turn| *turn != sequence);
        let run = self.running.remove(&sequence);
        self.room += run.as_ref().map_or(0, |run| u64::from(run.reserved));
        run.is_some()
    }

    /// Since when the oldest step is in flight.
    pub(super) fn oldest(&self) -> Option<T> {
        self.in_flight.front().map(|(_, since)| *since)
    }

    /// Whether nothing runs or waits.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rota(stages: usize, room: u64) -> Rota<()> {
        Rota::new(stages, room, 4)
    }

    #[test]
    fn a_prompt_goes_out_in_chunks_and_asks_for_a_token_at_its_end() {
        let mut rota = rota(2, 100);
        rota.admit(1, (0..10).collect(), 20);
        assert_eq!(rota.begin(), Some((1, 20)));
        let steps: Vec<_> = std::iter::from_fn(|| rota.next((), |_| true)).collect();
        assert_eq!(
            steps.iter().map(|s| (s.position, s.tokens.len(), s.sample)).collect::<Vec<_>>(),
            [(0, 4, false), (4, 4, false), (8, 2, true)]
        );
    }

    #[test]
    fn two_sequences_take_turns() {
        let mut rota = rota(1, 100);
        rota.admit(1, vec![1], 5);
        rota.admit(2, vec![2], 5);
        while rota.begin().is_some() {}
        let mut order = Vec::new();
        for _ in 0..6 {
            let step = rota.next((), |_| true).unwrap();
            order.push(step.sequence);
            assert!(rota.answered(step.sequence));
            rota.feed(step.sequence, 9);
        }
        assert_eq!(order, [1, 2, 1, 2, 1, 2]);
    }

    #[test]
    fn a_slow_reader_stops_only_itself() {
        let mut rota = rota(1, 100);
        rota.admit(1, vec![1], 5);
        rota.admit(2, vec![2], 5);
        while rota.begin().is_some() {}
        assert_eq!(rota.next((), |sequence| sequence != 1).unwrap().sequence, 2);
        assert_eq!(rota.next((), |sequence| sequence != 1), None);
    }

    #[test]
    fn what_has_no_room_waits_until_another_ends() {
        let mut rota = rota(1, 10);
        rota.admit(1, vec![1], 8);
        rota.admit(2, vec![2], 8);
        assert_eq!(rota.begin(), Some((1, 8)));
        assert_eq!(rota.begin(), None);
        assert!(rota.end(1));
        assert_eq!(rota.begin(), Some((2, 8)));
        assert!(rota.end(2));
        assert!(!rota.end(2) && rota.is_idle());
    }

    #[test]
    fn an_answer_out_of_order_is_noticed() {
        let mut rota = rota(1, 10);
        rota.admit(1, vec![1], 2);
        rota.begin();
        rota.next((), |_| true);
        assert!(!rota.answered(2));
        assert!(!rota.answered(1));
    }

    proptest! {
        #[test]
        fn room_and_window_are_never_exceeded_and_everyone_is_served(
            requests in proptest::collection::vec((1_usize..12, 1_u32..8), 1..20),
            stages in 1_usize..4,
        ) {
            let room = 40;
            let mut rota = Rota::new(stages, room, 4);
            let mut left = BTreeMap::new();
            for (sequence, (prompt, answer)) in requests.iter().enumerate() {
                rota.admit(sequence as u64, vec![0; *prompt], *prompt as u32 + answer);
                left.insert(sequence as u64, *answer);
            }
            let mut sent = VecDeque::new();
            let mut steps = 0;
            while !rota.is_idle() {
                while rota.begin().is_some() {}
                prop_assert!(rota.running.values().map(|r| u64::from(r.reserved)).sum::<u64>() + rota.room == room);
                while let Some(step) = rota.next((), |_| true) {
                    sent.push_back((step.sequence, step.sample));
                }
                prop_assert!(sent.len() <= 2 * stages);
                let (sequence, sample) = sent.pop_front().expect("something is in flight while requests run");
                prop_assert!(rota.answered(sequence));
                if sample {
                    let left = left.get_mut(&sequence).unwrap();
                    *left -= 1;
                    if *left == 0 { rota.end(sequence); } else { rota.feed(sequence, 1); }
                }
                steps += 1;
                prop_assert!(steps < 10_000);
            }
        }
    }
}
