//! The desk's part that knows of commands which others wait for, wherever their records are: how they ended, or that nobody
//! can say. Who waits for whom is [`super::aside`]'s.

use super::{
    desk::{Also, Desk},
    messages::{Record, State},
};
use std::time::Duration;
use uuid::Uuid;

/// How long a command that others wait for may be unknown before they are told: longer than records take to get around.
const MISSING_MAX: Duration = Duration::from_secs(60);
/// Such commands that are looked up at one tick: each is a read from disk.
const LOOKS_MAX: usize = 256;

impl Desk {
    /// The first of these that nobody knows.
    pub(super) async fn unknown_of(&self, ids: &[Uuid]) -> Option<Uuid> {
        for id in ids {
            let here = self.state().core.get(*id).is_some();
            if !here && self.find(*id).await.is_none() {
                return Some(*id);
            }
        }
        None
    }

    /// Those of other owners that ended before anybody waited for them here.
    pub(super) async fn look_at(&self, ids: Vec<Uuid>) {
        for id in ids {
            // Of its own the core knows.
            if self.state().core.get(id).is_some() {
                continue;
            }
            if let Some(state) = self.known(id).filter(Record::is_over).map(|record| record.state) {
                self.prerequisite(id, Some(state)).await;
            }
        }
    }

    /// Ends what waits for a command that nobody has known for a while: its record was old, and is gone.
    pub(super) async fn miss(&self) {
        let awaited: Vec<Uuid> = self.state().core.awaited_elsewhere().take(LOOKS_MAX).collect();
        let unknown: Vec<Uuid> = awaited.into_iter().filter(|id| self.known(*id).is_none()).collect();
        let gone: Vec<Uuid> = {
            let mut state = self.state();
            let now = self.now().uptime;
            state.missing.retain(|id, _| unknown.contains(id));
            let since = |id: &Uuid| *state.missing.entry(*id).or_insert(now);
            let ages: Vec<(Uuid, Duration)> = unknown.iter().map(since).zip(&unknown).map(|(s, id)| (*id, s)).collect();
            ages.into_iter().filter(|(_, s)| now.saturating_sub(*s) >= MISSING_MAX).map(|(id, _)| id).collect()
        };
        for id in gone {
            self.prerequisite(id, None).await;
        }
    }

    async fn prerequisite(&self, id: Uuid, state: Option<State>) {
        self.change(|desk, now| ((), desk.core.prerequisite(id, state, now), Also::default())).await;
    }
}
