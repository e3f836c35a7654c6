//! How well this node itself keeps up: a starved node must not mistake its own deafness for the death of others.
//!
//! Lifeguard's local health: evidence against this node raises a score, answered probes lower it, and the score
//! stretches probes and adds to the time that suspects get. Evidence in, durations out; no clock.
//!
//! Not here: who is suspected (`suspicion`), and where the evidence shows (`core`).

use std::time::Duration;

/// A timer that is later than this shows that this node, not another, is slow: ten turns of a busy scheduler.
pub(super) const LATE_MAX: Duration = Duration::from_millis(100);
/// How long what is overdue waits until what came meanwhile is read: many turns of a scheduler, and still less than a
/// member's answer may take.
pub(super) const GRACE: Duration = Duration::from_millis(100);
/// The worst score, which makes a probe nine times as slow. The paper found no gain beyond it.
const SCORE_MAX: u32 = 8;
/// What each step of the score adds to a suspect's time: a little more than a probe's period, so that a node that
/// recovers can prove it before it accuses.
const STEP: Duration = Duration::from_millis(750);

/// What came of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    /// The member answered, or another one answered for it.
    Answered,
    /// The member is silent, and members that were asked to try are not: this node's own way is fine.
    Silent,
    /// Nobody that was asked was heard, so the fault may be here.
    Deaf,
}

/// This node's score: 0 is well.
#[derive(Debug, Default)]
pub(super) struct Health {
    score: u32,
}

impl Health {
    #[cfg(test)]
    pub(super) fn is_well(&self) -> bool {
        self.score == 0
    }

    /// A timer of this node was later than [`LATE_MAX`]. Who stood still for seconds has seconds to catch up with.
    pub(super) fn late(&mut self, by: Duration) {
        let steps = u32::try_from(by.as_secs()).unwrap_or(SCORE_MAX).saturating_add(1);
        self.worse(steps);
    }

    /// Others suspected this node, and it had to say that it lives: whatever it waits for may come as late.
    pub(super) fn suspected(&mut self) {
        self.worse(1);
    }

    /// A probe of this node ended.
    pub(super) fn probed(&mut self, probe: Probe) {
        match probe {
            Probe::Answered => self.score = self.score.saturating_sub(1),
            Probe::Silent => {}
            Probe::Deaf => self.worse(1),
        }
    }

    /// How long something of a probe takes that takes `time` when all is well.
    pub(super) fn stretch(&self, time: Duration) -> Duration {
        time * (1 + self.score)
    }

    /// How much longer a suspect has, as this node may be at fault.
    pub(super) fn patience(&self) -> Duration {
        STEP * self.score
    }

    fn worse(&mut self, steps: u32) {
        self.score = self.score.saturating_add(steps).min(SCORE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_well_node_takes_no_extra_time() {
        let health = Health::default();
        assert!(health.is_well());
        assert_eq!((health.stretch(SECOND), health.patience()), (SECOND, Duration::ZERO));
    }

    #[test]
    fn evidence_against_this_node_makes_it_patient_and_answers_make_it_well_again() {
        let mut health = Health::default();
        health.late(2 * LATE_MAX);
        health.suspected();
        health.probed(Probe::Deaf);
        assert_eq!((health.stretch(SECOND), health.patience()), (4 * SECOND, 3 * STEP));
        (0..3).for_each(|_| health.probed(Probe::Answered));
        assert!(health.is_well());
        health.probed(Probe::Answered);
        assert!(health.is_well());
    }

    #[test]
    fn the_silence_of_one_member_says_nothing_about_this_node() {
        let mut health = Health::default();
        health.probed(Probe::Silent);
        assert!(health.is_well());
    }

    #[test]
    fn standing_still_for_seconds_is_worse_than_being_late() {
        let mut health = Health::default();
        health.late(3 * SECOND);
        assert_eq!(health.stretch(SECOND), 5 * SECOND);
    }

    #[test]
    fn there_is_a_worst() {
        let mut health = Health::default();
        health.late(Duration::MAX);
        assert_eq!(health.stretch(SECOND), 9 * SECOND);
    }
}
