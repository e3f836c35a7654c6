//! Which commands were given to which node, and what each node has promised to them: kept as it changes, so that placing
//! one more doesn't count them all.
//!
//! Not here: what a node has (its card says), and what others gave to it (its load says).

use super::placement::{Need, Taken};
use skep_runtime::NodeId;
use std::collections::BTreeMap;
use uuid::Uuid;

/// The commands of one owner that run, by what it knows.
#[derive(Debug, Default)]
pub struct Given {
    running: BTreeMap<Uuid, (NodeId, Taken, Option<String>)>,
    nodes: BTreeMap<NodeId, Taken>,
    /// Of each group that keeps apart: where one of it runs.
    groups: BTreeMap<String, BTreeMap<Uuid, NodeId>>,
}

impl Given {
    /// A command was given to a node.
    pub fn give(&mut self, id: Uuid, node: NodeId, need: &Need) {
        self.take_back(&id);
        let taken = Taken::by(need);
        self.nodes.entry(node).or_default().add(taken);
        let group = need.wish.apart.clone();
        if let Some(group) = &group {
            self.groups.entry(group.clone()).or_default().insert(id, node);
        }
        self.running.insert(id, (node, taken, group));
    }

    /// It runs there no more. Says where that was.
    pub fn take_back(&mut self, id: &Uuid) -> Option<NodeId> {
        let (node, taken, group) = self.running.remove(id)?;
        let left = self.nodes.entry(node).or_default();
        left.subtract(taken);
        if *left == Taken::default() {
            self.nodes.remove(&node);
        }
        if let Some(group) = group
            && let Some(members) = self.groups.get_mut(&group)
        {
            members.remove(id);
            if members.is_empty() {
                self.groups.remove(&group);
            }
        }
        Some(node)
    }

    /// Where a command runs.
    pub fn node(&self, id: &Uuid) -> Option<NodeId> {
        self.running.get(id).map(|(node, ..)| *node)
    }

    /// What a node's commands take of it.
    pub fn of(&self, node: &NodeId) -> Taken {
        self.nodes.get(node).copied().unwrap_or_default()
    }

    /// Whether a command of this group runs there.
    pub fn has_of(&self, group: &str, node: NodeId) -> bool {
        self.groups.get(group).is_some_and(|members| members.values().any(|at| *at == node))
    }

    /// The nodes that have any.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.keys().copied()
    }

    /// The commands of these nodes.
    pub fn on(&self, nodes: &[NodeId]) -> Vec<(Uuid, NodeId)> {
        let running = self.running.iter().map(|(id, (node, ..))| (*id, *node));
        running.filter(|(_, node)| nodes.contains(node)).collect()
    }

    /// How many run.
    pub fn count(&self) -> usize {
        self.running.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::demand::Demand;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_a_node_promised_is_the_sum_over_its_commands(
            steps in prop::collection::vec((0u128..8, prop::option::of(0u8..3), 0u16..4), 0..60),
        ) {
            let mut given = Given::default();
            let mut model: BTreeMap<u128, (u8, u16)> = BTreeMap::new();
            for (n, node, cpus) in steps {
                let (id, key) = (Uuid::from_u128(n), |node| NodeId::from_bytes([node; 32]));
                match node {
                    Some(node) => {
                        let demand = Demand { gpus: cpus, ..Demand::default() };
                        let need = Need { cpus, memory_bytes: u64::from(cpus), demand, ..Need::default() };
                        given.give(id, key(node), &need);
                        model.insert(n, (node, cpus));
                    }
                    None => prop_assert_eq!(given.take_back(&id), model.remove(&n).map(|(node, _)| key(node))),
                }
                for node in 0..3 {
                    let here = || model.values().filter(|(other, _)| *other == node).map(|(_, cpus)| u32::from(*cpus));
                    let (count, sum) = (here().count() as u32, here().sum::<u32>());
                    let taken = given.of(&key(node));
                    prop_assert_eq!((taken.commands, taken.cpus, taken.memory_bytes), (count, sum, u64::from(sum)));
                    prop_assert_eq!(given.on(&[key(node)]).len(), count as usize);
                    prop_assert_eq!(given.nodes().any(|other| other == key(node)), count > 0);
                }
                prop_assert_eq!(given.count(), model.len());
            }
        }
    }
}
