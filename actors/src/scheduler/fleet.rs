//! The nodes as the scheduler's core sees them, out of membership's picture. Cards are decoded once a version.

use super::core::Seen;
use crate::node::{Card, card};
use skep_runtime::{Member, Members, NodeId, member::State};
use std::{collections::BTreeMap, sync::Arc};

/// Decodes members' cards and remembers the result.
#[derive(Default)]
pub(super) struct Fleet {
    cards: BTreeMap<NodeId, (Arc<Vec<u8>>, u16, u64)>,
}

impl Fleet {
    /// Everyone on the roster, by key.
    pub(super) fn look(&mut self, members: &Members) -> Vec<Seen> {
        let picture = members.now();
        self.cards.retain(|id, _| picture.contains_key(id));
        picture.values().map(|member| self.seen(member)).collect()
    }

    fn seen(&mut self, member: &Member) -> Seen {
        let (cpus, memory_bytes) = self.capacity(member);
        let free = 1000 - u64::from(member.load.memory_permille.min(1000));
        Seen {
            id: member.id,
            name: member.name.clone(),
            up: member.state == State::Up,
            ever_up: member.seen_ms > 0,
            draining: member.load.draining,
            cpus,
            memory_bytes,
            free_bytes: memory_bytes / 1000 * free,
            running: u32::from(member.load.running),
        }
    }

    fn capacity(&mut self, member: &Member) -> (u16, u64) {
        if let Some((card, cpus, memory)) = self.cards.get(&member.id)
            && Arc::ptr_eq(card, &member.card)
        {
            return (*cpus, *memory);
        }
        let Card { cpus, memory_bytes, .. } = card::decode(&member.card).unwrap_or_default();
        self.cards.insert(member.id, (member.card.clone(), cpus, memory_bytes));
        (cpus, memory_bytes)
    }
}
