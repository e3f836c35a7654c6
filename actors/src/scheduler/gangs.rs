//! Which commands belong to which gang, as far as their owner knows them, and how the gangs stand.
//!
//! No clock and no I/O. Placing, recalling and ending what belongs to one is `core/gang.rs`' business; what a gang is says
//! [`Gang`](super::Gang).

use super::{
    course,
    messages::{Record, State},
    runner::END_MAX,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use uuid::Uuid;

/// How long some of a gang may wait while their owner doesn't know all of it: longer than a goal's commands take to be handed
/// over, and the records of a dead owner to get around.
pub const MISSING_MAX: Duration = Duration::from_secs(60);

/// The gangs of one owner.
#[derive(Debug, Default)]
pub struct Gangs {
    gangs: BTreeMap<Uuid, Known>,
    /// Those of which something has not ended and something is not known, since when if that was looked at.
    partial: BTreeMap<Uuid, Option<Duration>>,
}

/// What is known of one.
#[derive(Debug, Default)]
struct Known {
    count: usize,
    members: BTreeSet<Uuid>,
    /// Those of them that have not ended.
    open: BTreeSet<Uuid>,
    /// The first that ended otherwise than well, and how.
    broken: Option<(Uuid, State)>,
    /// How often it was recalled since all of it ran.
    recalls: u8,
    /// It is not placed again before this.
    rests_until: Duration,
    /// Attempts that were told to end and may not have yet.
    leaving: BTreeSet<(Uuid, u32)>,
    /// By when they must have.
    left_by: Duration,
    /// Since when nothing but room is missing.
    waits: Option<Duration>,
}

impl Gangs {
    /// One more of a gang is known.
    pub fn enter(&mut self, record: &Record) {
        let Some(gang) = record.spec.course.gang else { return };
        let known = self.gangs.entry(gang.id).or_default();
        known.count = gang.count as usize;
        known.members.insert(record.id);
        match record.state.ended() {
            true => known.close(record.id, record.state),
            false => drop(known.open.insert(record.id)),
        }
        self.look_at(gang.id);
    }

    /// One of a gang has ended.
    pub fn end(&mut self, record: &Record) {
        let Some(gang) = record.spec.course.gang else { return };
        self.gangs.entry(gang.id).or_default().close(record.id, record.state);
        self.look_at(gang.id);
    }

    /// One of a gang is this owner's no more, or its record is gone.
    pub fn forget(&mut self, record: &Record) {
        let Some(gang) = record.spec.course.gang else { return };
        let Some(known) = self.gangs.get_mut(&gang.id) else { return };
        known.members.remove(&record.id);
        known.open.remove(&record.id);
        known.broken = known.broken.filter(|(id, _)| *id != record.id);
        if known.members.is_empty() {
            self.gangs.remove(&gang.id);
        }
        self.look_at(gang.id);
    }

    fn look_at(&mut self, gang: Uuid) {
        let partial = |known: &Known| !known.open.is_empty() && known.members.len() < known.count;
        match self.gangs.get(&gang).is_some_and(partial) {
            true => drop(self.partial.insert(gang, None)),
            false => drop(self.partial.remove(&gang)),
        }
    }

    /// Those that are known of it and have not ended.
    pub fn open(&self, gang: Uuid) -> Vec<Uuid> {
        self.gangs.get(&gang).into_iter().flat_map(|known| &known.open).copied().collect()
    }

    /// Whether something of it has not ended.
    pub fn is_open(&self, gang: Uuid) -> bool {
        self.gangs.get(&gang).is_some_and(|known| !known.open.is_empty())
    }

    /// All gangs of which something has not ended.
    pub fn all_open(&self) -> Vec<Uuid> {
        self.gangs.iter().filter(|(_, known)| !known.open.is_empty()).map(|(gang, _)| *gang).collect()
    }

    /// One that it has known from before.
    pub fn another(&self, gang: Uuid, than: Uuid) -> Option<Uuid> {
        self.gangs.get(&gang)?.members.iter().copied().find(|id| *id != than)
    }

    /// Which of it failed for good or was cancelled, the first one, and how.
    pub fn broken(&self, gang: Uuid) -> Option<(Uuid, State)> {
        self.gangs.get(&gang)?.broken
    }

    /// How many are known, and of how many.
    pub fn known(&self, gang: Uuid) -> (usize, usize) {
        self.gangs.get(&gang).map_or((0, 0), |known| (known.members.len(), known.count))
    }

    /// Gangs that have not been known in full for [`MISSING_MAX`].
    pub fn missing(&mut self, uptime: Duration) -> Vec<Uuid> {
        let mut missing = Vec::new();
        for (gang, since) in &mut self.partial {
            if uptime.saturating_sub(*since.get_or_insert(uptime)) >= MISSING_MAX {
                missing.push(*gang);
            }
        }
        missing
    }

    /// Whether it may be placed now: all is known, so many of it wait for room and no others are open, and nothing of it is
    /// still being ended.
    pub fn is_ready(&self, gang: Uuid, waiting: usize, uptime: Duration) -> bool {
        let ready = |known: &Known| {
            let whole = known.members.len() >= known.count && known.open.len() == waiting;
            whole && uptime >= known.rests_until && (known.leaving.is_empty() || uptime >= known.left_by)
        };
        self.gangs.get(&gang).is_some_and(ready)
    }

    /// For how long nothing but room has been missing.
    pub fn waits(&mut self, gang: Uuid, uptime: Duration) -> Duration {
        let known = self.gangs.entry(gang).or_default();
        uptime.saturating_sub(*known.waits.get_or_insert(uptime))
    }

    /// All that is open of it was given to nodes.
    pub fn placed(&mut self, gang: Uuid) {
        let known = self.gangs.entry(gang).or_default();
        known.waits = None;
        known.leaving.clear();
    }

    /// It waits again; these attempts run yet. The more often that comes in a row, the longer it rests, and each gang for
    /// another time: two owners who gave the same room to two gangs shall not do so again.
    pub fn recalled(&mut self, gang: Uuid, leaving: impl IntoIterator<Item = (Uuid, u32)>, uptime: Duration) {
        let known = self.gangs.entry(gang).or_default();
        known.recalls = known.recalls.saturating_add(1);
        let die = gang.as_bytes()[usize::from(known.recalls) % 16];
        known.rests_until = uptime + course::pause(known.recalls).mul_f32(1.0 + f32::from(die) / 256.0);
        known.waits = None;
        known.leaving.extend(leaving);
        known.left_by = uptime + END_MAX;
    }

    /// An attempt has ended. Whether that was waited for.
    pub fn left(&mut self, gang: Uuid, id: Uuid, attempt: u32) -> bool {
        self.gangs.get_mut(&gang).is_some_and(|known| known.leaving.remove(&(id, attempt)))
    }

    /// Whether it was recalled since all of it ran.
    pub fn was_recalled(&self, gang: Uuid) -> bool {
        self.gangs.get(&gang).is_some_and(|known| known.recalls > 0)
    }

    /// All of it runs, say its nodes.
    pub fn runs(&mut self, gang: Uuid) {
        self.gangs.entry(gang).or_default().recalls = 0;
    }
}

impl Known {
    fn close(&mut self, id: Uuid, state: State) {
        self.open.remove(&id);
        if state != State::Completed {
            self.broken.get_or_insert((id, state));
        }
    }
}
