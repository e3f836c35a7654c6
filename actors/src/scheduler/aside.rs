//! Commands that wait for something other than room: for the ends of others, or for a moment. And those that have to be
//! over by one.
//!
//! No I/O and no clock. Who is next once nothing but room is missing is the queue's business.

use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// The commands of one scheduler that stand aside.
#[derive(Debug, Default)]
pub struct Aside {
    /// Who waits for whom.
    blocked: BTreeMap<Uuid, BTreeSet<Uuid>>,
    /// The same the other way round.
    awaited: BTreeMap<Uuid, BTreeSet<Uuid>>,
    /// Who waits until when.
    paused: BTreeMap<Uuid, u64>,
    pauses: BTreeSet<(u64, Uuid)>,
    bytes: BTreeMap<Uuid, usize>,
    sum: usize,
}

impl Aside {
    /// It waits for these. With none, it doesn't wait.
    pub fn block(&mut self, id: Uuid, after: impl IntoIterator<Item = Uuid>, bytes: usize) {
        self.remove(id);
        let after: BTreeSet<Uuid> = after.into_iter().collect();
        if after.is_empty() {
            return;
        }
        for prerequisite in &after {
            self.awaited.entry(*prerequisite).or_default().insert(id);
        }
        self.blocked.insert(id, after);
        self.count(id, bytes);
    }

    /// It waits until this moment, in milliseconds since 1970.
    pub fn pause(&mut self, id: Uuid, until_ms: u64, bytes: usize) {
        self.remove(id);
        self.paused.insert(id, until_ms);
        self.pauses.insert((until_ms, id));
        self.count(id, bytes);
    }

    fn count(&mut self, id: Uuid, bytes: usize) {
        self.bytes.insert(id, bytes);
        self.sum += bytes;
    }

    /// It stands aside no more. `false` if it didn't.
    pub fn remove(&mut self, id: Uuid) -> bool {
        let Some(bytes) = self.bytes.remove(&id) else { return false };
        self.sum -= bytes;
        if let Some(until_ms) = self.paused.remove(&id) {
            self.pauses.remove(&(until_ms, id));
        }
        for prerequisite in self.blocked.remove(&id).into_iter().flatten() {
            self.let_go(prerequisite, id);
        }
        true
    }

    fn let_go(&mut self, prerequisite: Uuid, id: Uuid) {
        if let Some(waiting) = self.awaited.get_mut(&prerequisite) {
            waiting.remove(&id);
            if waiting.is_empty() {
                self.awaited.remove(&prerequisite);
            }
        }
    }

    /// One has completed: who waited for nothing else. They are taken out.
    pub fn completed(&mut self, prerequisite: Uuid) -> Vec<Uuid> {
        let mut free = Vec::new();
        for id in self.awaited.remove(&prerequisite).into_iter().flatten() {
            let Some(after) = self.blocked.get_mut(&id) else { continue };
            after.remove(&prerequisite);
            if after.is_empty() {
                free.push(id);
            }
        }
        for id in &free {
            self.remove(*id);
        }
        free
    }

    /// Who waits for one.
    pub fn waiting_for(&self, prerequisite: Uuid) -> Vec<Uuid> {
        self.awaited.get(&prerequisite).into_iter().flatten().copied().collect()
    }

    /// Whom somebody waits for.
    pub fn awaited(&self) -> impl Iterator<Item = Uuid> + '_ {
        self.awaited.keys().copied()
    }

    /// Whether somebody waits for it.
    pub fn is_awaited(&self, id: Uuid) -> bool {
        self.awaited.contains_key(&id)
    }

    /// Whose pause is over. They are taken out.
    pub fn due(&mut self, now_ms: u64) -> Vec<Uuid> {
        let due: Vec<Uuid> = self.pauses.iter().take_while(|(ms, _)| *ms <= now_ms).map(|(_, id)| *id).collect();
        for id in &due {
            self.remove(*id);
        }
        due
    }

    /// Who stands aside.
    pub fn all(&self) -> impl Iterator<Item = Uuid> + '_ {
        self.bytes.keys().copied()
    }

    /// How many do.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nobody does.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes of their specs.
    pub fn bytes(&self) -> usize {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Block(u8, Vec<u8>),
        Pause(u8, u64),
        Remove(u8),
        Completed(u8),
        Due(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let id = 0u8..6;
        prop_oneof![
            (id.clone(), prop::collection::vec(0u8..8, 0..4)).prop_map(|(id, after)| Step::Block(id, after)),
            (id.clone(), 0u64..9).prop_map(|(id, ms)| Step::Pause(id, ms)),
            id.prop_map(Step::Remove),
            (0u8..8).prop_map(Step::Completed),
            (0u64..9).prop_map(Step::Due),
        ]
    }

    /// What somebody waits for, in the simplest form.
    #[derive(Debug, Clone, PartialEq)]
    enum For {
        Ends(BTreeSet<u8>),
        Moment(u64),
    }

    proptest! {
        #[test]
        fn it_equals_a_plain_map(steps in prop::collection::vec(step(), 0..60)) {
            let uuid = |id: u8| Uuid::from_u128(id.into());
            let (mut aside, mut model) = (Aside::default(), BTreeMap::<u8, For>::new());
            for step in steps {
                match step {
                    Step::Block(id, after) => {
                        aside.block(uuid(id), after.iter().copied().map(uuid), 10 + usize::from(id));
                        model.remove(&id);
                        if !after.is_empty() {
                            model.insert(id, For::Ends(after.into_iter().collect()));
                        }
                    }
                    Step::Pause(id, ms) => {
                        aside.pause(uuid(id), ms, 10 + usize::from(id));
                        model.insert(id, For::Moment(ms));
                    }
                    Step::Remove(id) => prop_assert_eq!(aside.remove(uuid(id)), model.remove(&id).is_some()),
                    Step::Completed(prerequisite) => {
                        let mut free = BTreeSet::new();
                        for (id, state) in &mut model {
                            if let For::Ends(after) = state && after.remove(&prerequisite) && after.is_empty() {
                                free.insert(uuid(*id));
                            }
                        }
                        model.retain(|_, state| *state != For::Ends(BTreeSet::new()));
                        prop_assert_eq!(aside.completed(uuid(prerequisite)).into_iter().collect::<BTreeSet<_>>(), free);
                    }
                    Step::Due(now) => {
                        let due: BTreeSet<Uuid> = model.iter().filter(|(_, s)| matches!(s, For::Moment(ms) if *ms <= now)).map(|(id, _)| uuid(*id)).collect();
                        model.retain(|_, s| !matches!(s, For::Moment(ms) if *ms <= now));
                        prop_assert_eq!(aside.due(now).into_iter().collect::<BTreeSet<_>>(), due);
                    }
                }
                prop_assert_eq!(aside.all().collect::<Vec<_>>(), model.keys().map(|id| uuid(*id)).collect::<Vec<_>>());
                prop_assert_eq!(aside.bytes(), model.keys().map(|id| 10 + usize::from(*id)).sum::<usize>());
                for prerequisite in 0..8 {
                    let waiting: Vec<Uuid> = model.iter().filter(|(_, s)| matches!(s, For::Ends(a) if a.contains(&prerequisite))).map(|(id, _)| uuid(*id)).collect();
                    prop_assert_eq!(aside.is_awaited(uuid(prerequisite)), !waiting.is_empty());
                    prop_assert_eq!(aside.waiting_for(uuid(prerequisite)), waiting);
                }
            }
        }
    }
}
