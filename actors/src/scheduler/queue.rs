//! The commands that wait: five classes, a higher one strictly first, in order of arrival within a class.
//!
//! Commands that need the same of a node wait in one line: where the first of them has no room now, none of the others
//! has, so that choosing the next one costs as much with ten waiting as with a hundred thousand.

use super::{messages::Priority, placement::Need};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use uuid::Uuid;

/// Commands that may wait on one node, some 1.9 kB each with their records. More is a flood, and its sender shall know.
pub const QUEUE_TASKS_MAX: usize = 100_000;
/// Bytes of their specs together, for the same reason.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;

/// Every class, the most urgent first.
pub const CLASSES: [Priority; 5] =
    [Priority::Urgent, Priority::Critical, Priority::High, Priority::Normal, Priority::Low];

/// The waiting commands of one scheduler.
#[derive(Debug, Default)]
pub struct Queue {
    classes: BTreeMap<Priority, Class>,
    places: BTreeMap<Uuid, Place>,
    bytes: usize,
    /// Numbers go up for who joins and down for who comes back.
    last: i64,
    first: i64,
}

/// One class. Whoever has the lower number is served first.
#[derive(Debug, Default)]
struct Class {
    waiting: BTreeMap<i64, Uuid>,
    lines: BTreeMap<Arc<Need>, BTreeSet<i64>>,
    /// The first number of each line.
    heads: BTreeMap<i64, Arc<Need>>,
}

#[derive(Debug)]
struct Place {
    priority: Priority,
    number: i64,
    need: Arc<Need>,
    bytes: usize,
}

impl Queue {
    /// Bytes of the specs of those that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds one behind those of its class.
    pub fn join(&mut self, priority: Priority, need: Need, id: Uuid, bytes: usize) {
        self.last += 1;
        self.enter(priority, need, id, bytes, self.last);
    }

    /// Adds one before those of its class: it was served already, in vain.
    pub fn come_back(&mut self, priority: Priority, need: Need, id: Uuid, bytes: usize) {
        self.first -= 1;
        self.enter(priority, need, id, bytes, self.first);
    }

    fn enter(&mut self, priority: Priority, need: Need, id: Uuid, bytes: usize, number: i64) {
        self.remove(id);
        let class = self.classes.entry(priority).or_default();
        let need = class.lines.get_key_value(&need).map_or_else(|| Arc::new(need), |(known, _)| known.clone());
        class.waiting.insert(number, id);
        let line = class.lines.entry(need.clone()).or_default();
        let head = line.first().copied();
        line.insert(number);
        if head.is_none_or(|head| number < head) {
            head.map(|head| class.heads.remove(&head));
            class.heads.insert(number, need.clone());
        }
        self.bytes += bytes;
        self.places.insert(id, Place { priority, number, need, bytes });
    }

    /// Takes one out. `false` if it doesn't wait.
    pub fn remove(&mut self, id: Uuid) -> bool {
        let Some(Place { priority, number, need, bytes }) = self.places.remove(&id) else { return false };
        self.bytes -= bytes;
        let class = self.classes.entry(priority).or_default();
        class.waiting.remove(&number);
        let line = class.lines.entry(need.clone()).or_default();
        line.remove(&number);
        let next = line.first().copied();
        if next.is_none() {
            class.lines.remove(&need);
        }
        if class.heads.remove(&number).is_some()
            && let Some(next) = next
        {
            class.heads.insert(next, need);
        }
        true
    }

    /// The first of every line, in the order in which they are to be served.
    pub fn heads(&self) -> impl Iterator<Item = (&Need, Uuid)> {
        let class = |priority| self.classes.get(priority).into_iter();
        let heads = CLASSES.iter().flat_map(class).flat_map(|class| class.heads.iter().map(move |head| (class, head)));
        heads.filter_map(|(class, (number, need))| Some((&**need, *class.waiting.get(number)?)))
    }

    /// Those that wait in the line of this one, itself among them.
    pub fn line(&self, id: Uuid) -> impl Iterator<Item = Uuid> {
        self.line_of(id).into_iter().flat_map(|(class, line)| line.iter().filter_map(|n| class.waiting.get(n).copied()))
    }

    /// How many wait in the line of this one.
    pub fn line_length(&self, id: Uuid) -> usize {
        self.line_of(id).map_or(0, |(_, line)| line.len())
    }

    fn line_of(&self, id: Uuid) -> Option<(&Class, &BTreeSet<i64>)> {
        let Place { priority, need, .. } = self.places.get(&id)?;
        let class = self.classes.get(priority)?;
        Some((class, class.lines.get(need)?))
    }

    /// Whether this one waits.
    pub fn has(&self, id: Uuid) -> bool {
        self.places.contains_key(&id)
    }

    /// All that need something that is so.
    pub fn that_need(&self, so: impl Fn(&Need) -> bool) -> Vec<Uuid> {
        let lines = self.classes.values().flat_map(|class| class.lines.iter().map(move |line| (class, line)));
        let such = lines.filter(|(_, (need, _))| so(need));
        such.flat_map(|(class, (_, line))| line.iter().filter_map(|n| class.waiting.get(n).copied())).collect()
    }

    /// Those of one class, the first one first.
    pub fn of(&self, class: Priority) -> impl Iterator<Item = Uuid> + '_ {
        self.classes.get(&class).into_iter().flat_map(|class| class.waiting.values().copied())
    }

    /// How many of one class wait.
    pub fn count_of(&self, class: Priority) -> usize {
        self.classes.get(&class).map_or(0, |class| class.waiting.len())
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.places.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn need(cpus: u16) -> Need {
        Need { cpus, ..Need::default() }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Join(usize, u16),
        Leave(usize),
        ComeBack(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0usize..5, 0u16..3).prop_map(|(class, cpus)| Step::Join(class, cpus)),
            1 => any::<usize>().prop_map(Step::Leave),
            1 => any::<usize>().prop_map(Step::ComeBack),
        ]
    }

    proptest! {
        /// What a sorted list does: classes strictly, each in order of arrival, whoever comes back in front; and of each
        /// need in a class the first one is a head.
        #[test]
        fn it_serves_as_a_sorted_list_would(steps in prop::collection::vec(step(), 0..60)) {
            let mut queue = Queue::default();
            let mut model: Vec<(usize, i64, u16, Uuid)> = Vec::new();
            for (n, step) in steps.into_iter().enumerate() {
                let (id, n) = (Uuid::from_u128(n as u128), n as i64 + 1);
                match step {
                    Step::Join(class, cpus) => {
                        queue.join(CLASSES[class], need(cpus), id, 10);
                        model.push((class, n, cpus, id));
                    }
                    Step::Leave(which) if !model.is_empty() => {
                        let (_, _, _, id) = model.remove(which % model.len());
                        prop_assert!(queue.remove(id) && !queue.remove(id));
                    }
                    Step::ComeBack(which) if !model.is_empty() => {
                        let at = which % model.len();
                        let (class, _, cpus, id) = model[at];
                        queue.come_back(CLASSES[class], need(cpus), id, 10);
                        model[at].1 = -n;
                    }
                    Step::Leave(_) | Step::ComeBack(_) => {}
                }
                model.sort();
                let ids = |class| model.iter().filter(move |m| m.0 == class).map(|m| m.3).collect::<Vec<_>>();
                for (n, class) in CLASSES.into_iter().enumerate() {
                    prop_assert_eq!(queue.of(class).collect::<Vec<_>>(), ids(n));
                    prop_assert_eq!(queue.count_of(class), ids(n).len());
                }
                for (class, _, cpus, id) in &model {
                    let line = model.iter().filter(|other| (other.0, other.2) == (*class, *cpus)).map(|other| other.3);
                    let line: Vec<Uuid> = line.collect();
                    prop_assert_eq!((queue.line_length(*id), queue.has(*id)), (line.len(), true));
                    prop_assert_eq!(queue.line(*id).collect::<Vec<_>>(), line);
                }
                let mut seen = BTreeSet::new();
                let heads = model.iter().filter(|(class, _, cpus, _)| seen.insert((*class, *cpus)));
                let heads: Vec<(u16, Uuid)> = heads.map(|(_, _, cpus, id)| (*cpus, *id)).collect();
                prop_assert_eq!(queue.heads().map(|(need, id)| (need.cpus, id)).collect::<Vec<_>>(), heads);
                let two = model.iter().filter(|(_, _, cpus, _)| *cpus == 2).count();
                prop_assert_eq!(queue.that_need(|need| need.cpus == 2).len(), two);
                prop_assert_eq!((queue.count(), queue.bytes), (model.len(), model.len() * 10));
            }
        }
    }
}
