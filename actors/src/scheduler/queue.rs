//! The commands that wait: five classes, a higher one strictly first, in order of arrival within a class.

use super::messages::Priority;
use std::collections::{BTreeMap, VecDeque};
use uuid::Uuid;

/// Commands that may wait on one node. More is a flood, and its sender shall know.
pub const QUEUE_TASKS_MAX: usize = 10_000;
/// Bytes of their specs together, for the same reason.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;

/// Every class, the most urgent first.
pub const CLASSES: [Priority; 5] =
    [Priority::Urgent, Priority::Critical, Priority::High, Priority::Normal, Priority::Low];

/// The waiting commands of one scheduler.
#[derive(Debug, Default)]
pub struct Queue {
    classes: BTreeMap<Priority, VecDeque<(Uuid, usize)>>,
    bytes: usize,
    len: usize,
}

impl Queue {
    /// Whether a command with a spec of so many bytes may join. One that comes back to its place always may.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        self.len < QUEUE_TASKS_MAX && self.bytes + bytes <= QUEUE_BYTES_MAX
    }

    /// Adds one behind those of its class.
    pub fn join(&mut self, priority: Priority, id: Uuid, bytes: usize) {
        self.classes.entry(priority).or_default().push_back((id, bytes));
        self.grow(bytes);
    }

    /// Adds one before those of its class: it was served already, in vain.
    pub fn come_back(&mut self, priority: Priority, id: Uuid, bytes: usize) {
        self.classes.entry(priority).or_default().push_front((id, bytes));
        self.grow(bytes);
    }

    /// Takes one out. `false` if it doesn't wait.
    pub fn remove(&mut self, priority: Priority, id: Uuid) -> bool {
        let Some(class) = self.classes.get_mut(&priority) else { return false };
        let Some(at) = class.iter().position(|(other, _)| *other == id) else { return false };
        if let Some((_, bytes)) = class.remove(at) {
            self.bytes -= bytes;
            self.len -= 1;
        }
        true
    }

    /// All that wait, the first one first.
    pub fn in_order(&self) -> impl Iterator<Item = Uuid> + '_ {
        CLASSES.iter().flat_map(|class| self.of(*class))
    }

    /// Those of one class.
    pub fn of(&self, class: Priority) -> impl Iterator<Item = Uuid> + '_ {
        self.classes.get(&class).into_iter().flatten().map(|(id, _)| *id)
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.len
    }

    fn grow(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.len += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_serves_classes_strictly_and_each_in_order_of_arrival(
            arrivals in prop::collection::vec((0usize..5, any::<bool>()), 0..60),
        ) {
            let mut queue = Queue::default();
            let mut model: Vec<(usize, Uuid)> = Vec::new();
            for (n, (class, stays)) in arrivals.into_iter().enumerate() {
                let id = Uuid::from_u128(n as u128);
                queue.join(CLASSES[class], id, 10);
                model.push((class, id));
                if !stays {
                    let (class, gone) = model.remove(n % model.len());
                    prop_assert!(queue.remove(CLASSES[class], gone));
                    prop_assert!(!queue.remove(CLASSES[class], gone));
                }
            }
            model.sort_by_key(|(class, _)| *class);
            prop_assert_eq!(queue.in_order().collect::<Vec<_>>(), model.iter().map(|(_, id)| *id).collect::<Vec<_>>());
            prop_assert_eq!((queue.count(), queue.bytes), (model.len(), model.len() * 10));
        }
    }

    #[test]
    fn it_is_bounded_in_number_and_in_bytes() {
        let mut queue = Queue::default();
        for n in 0..QUEUE_TASKS_MAX {
            assert!(queue.has_room_for(1));
            queue.join(Priority::Normal, Uuid::from_u128(n as u128), 1);
        }
        assert!(!queue.has_room_for(1));
        assert!(!Queue::default().has_room_for(QUEUE_BYTES_MAX + 1));
    }
}
