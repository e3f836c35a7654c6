//! The nodes as the scheduler's core sees them, out of membership's picture: what has changed since it looked last. Cards
//! are decoded once a version.

use super::{core::Seen, demand::Offer};
use crate::node::card;
use skep_runtime::{
    Member, Members, NodeId,
    member::{Picture, State},
};
use std::{collections::BTreeMap, sync::Arc};

/// What a card says that placement wants to know.
#[derive(Clone, Default)]
struct Known {
    cpus: u16,
    memory_bytes: u64,
    offer: Arc<Offer>,
}

/// Remembers what was seen, and what members' cards say.
#[derive(Default)]
pub(super) struct Fleet {
    cards: BTreeMap<NodeId, (Arc<Vec<u8>>, Known)>,
    before: Picture,
}

impl Fleet {
    /// Who changed since the last look, and who is no member any more.
    pub(super) fn look(&mut self, members: &Members) -> (Vec<Seen>, Vec<NodeId>) {
        let picture = members.now();
        let before = std::mem::replace(&mut self.before, picture.clone());
        let gone: Vec<NodeId> = before.keys().filter(|id| !picture.contains_key(id)).copied().collect();
        for id in &gone {
            self.cards.remove(id);
        }
        let known = |id: &NodeId, now: &Arc<Member>| before.get(id).is_some_and(|old| Arc::ptr_eq(old, now));
        let changed = picture.iter().filter(|(id, now)| !known(id, now));
        (changed.map(|(_, member)| self.seen(member)).collect(), gone)
    }

    /// One member as placement sees it.
    pub(super) fn seen(&mut self, member: &Member) -> Seen {
        let Known { cpus, memory_bytes, offer } = self.known(member);
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
            offer,
        }
    }

    fn known(&mut self, member: &Member) -> Known {
        if let Some((card, known)) = self.cards.get(&member.id)
            && Arc::ptr_eq(card, &member.card)
        {
            return known.clone();
        }
        let card = card::decode(&member.card).unwrap_or_default();
        let known = Known { cpus: card.cpus, memory_bytes: card.memory_bytes, offer: Arc::new(Offer::of(&card)) };
        self.cards.insert(member.id, (member.card.clone(), known.clone()));
        known
    }
}
