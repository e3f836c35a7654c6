//! When a command runs, how often, and what it is a part of. Where it runs is `demand`'s and `wish`'s.

use serde::{Deserialize, Serialize};
use std::time::Duration;
use uuid::Uuid;

/// Commands that one waits for, at 16 bytes in its record. A goal of more has steps between.
pub const AFTER_MAX: usize = 1024;
/// How often one is run again that failed by itself.
pub const RETRIES_MAX: u8 = 100;
/// Seconds of the longest deadline: 90 days.
pub const DEADLINE_S_MAX: u64 = 90 * 24 * 3600;
/// The pause before a command that failed runs again: it doubles with each failure, up to the next.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// The longest such pause.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(60);

/// A command's course.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Course {
    /// How often it is run again if it fails by itself. A node that dies under it is another matter.
    pub retries: u8,
    /// Seconds after its submission by which it must have ended, or it fails; 0 is never.
    pub deadline_s: u64,
    /// It waits until all of these have completed, and fails if one of them doesn't.
    pub after: Vec<Uuid>,
    /// Commands of lower classes make way for it: they are ended, and run again from their beginning later.
    pub preempts: bool,
    /// Which part of what goal it is.
    pub part: Option<Part>,
    /// It runs only at the same time as these others.
    pub gang: Option<Gang>,
    /// It never runs on two nodes at once, whatever becomes of them and of what lies between: as a rule it is begun once. It
    /// ends on a node that has lost touch with its owner, and runs again elsewhere only when it must have ended there; it
    /// waits while half of the swarm can't be reached. Else it is run again as soon as its node seems to be gone, and if that
    /// node was merely cut off, both run it for a while.
    pub once: bool,
}

/// A command's place in a goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The goal's id.
    pub goal: Uuid,
    /// Of a step that is run several times: which one, from 0.
    pub index: u32,
    /// How many of them there are.
    pub count: u32,
}

/// Commands that are placed together or not at all: either each of them has a node by one decision, or none begins. They
/// need the same of their nodes.
///
/// All or none they stay: when one can't be had where it was placed, when its node dies or it has to make way, or when it
/// failed and is tried again, the others are ended where they run and all wait together; what they did is done once more.
/// What has completed stays so, and the rest goes on without it. When one has failed for good or was cancelled, the rest
/// ends with that reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gang {
    /// Its id, which all of them name. They have their heir by it, too.
    pub id: Uuid,
    /// How many they are.
    pub count: u32,
}

/// How long to wait after so many failures.
pub(super) fn pause(failures: u8) -> Duration {
    RETRY_PAUSE_MAX.min(RETRY_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        let seconds: Vec<u64> = (1..9).map(|failures| pause(failures).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pause(u8::MAX), RETRY_PAUSE_MAX);
    }
}
