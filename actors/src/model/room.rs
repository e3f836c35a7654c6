//! What this node can give a shard: memory that is free and not promised, and how fast it was measured to be.

use super::{
    messages::Room,
    shards::{Promised, Shards},
    shelf::Shelf,
};
use crate::{Context, node::Card};
use skep_runtime::{defaults::MESSAGE_BYTES_MAX, store::Table, wire};
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// Bytes of a model's weights that this node reads a second, by digest: measured when it was first loaded.
pub(super) const SPEEDS: Table<String, f64> = Table::new("model_speeds");
/// Bytes of memory that shards leave to everything else on the machine.
const MEMORY_RESERVE_BYTES: u64 = 512 << 20;

/// This node's room for the model with this digest.
pub(super) fn room(context: &Context, shelf: &Shelf, shards: &Shards, digest: &str) -> Room {
    Room {
        memory_bytes: left(memory(context), shards.promised()),
        bytes_per_second: context.store.get(SPEEDS, &digest.to_owned()).ok().flatten(),
        has_file: shelf.find(|model| model.digest == digest).is_some(),
    }
}

/// Bytes that are neither used nor promised. What shards hold is gone from `free` already; the copies and caches that
/// they have yet to fill are not, and they will take them from whoever else is there by then.
pub(super) fn left((total, free): (u64, u64), promised: Promised) -> u64 {
    let unfilled = promised.bytes.saturating_sub(promised.resident_bytes);
    let free = free.saturating_sub(unfilled).min(total.saturating_sub(promised.bytes));
    free.saturating_sub(MEMORY_RESERVE_BYTES.min(total / 10))
}

/// Memory in all and free memory, in bytes. A simulated node has no machine: its card says what it pretends to have.
pub(super) fn memory(context: &Context) -> (u64, u64) {
    if context.env.simulated() {
        let card = context.members.get(&context.directory.id()).map(|member| member.card.clone()).unwrap_or_default();
        let card = wire::decode::<Card>(&card, MESSAGE_BYTES_MAX).unwrap_or_default();
        return (card.memory_bytes.max(card.memory_free_bytes), card.memory_free_bytes);
    }
    let what = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    // A system that doesn't tell has no room: nothing is placed there blindly.
    System::new_with_specifics(what).map_or((0, 0), |system| (system.total_memory(), system.available_memory()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn a_cache_that_is_not_filled_yet_is_not_promised_twice() {
        // 16 GiB, 10 used by others and 1 by the weights of a shard whose cache may take 3 more.
        let promised = Promised { bytes: 4 * GIB, resident_bytes: GIB };
        assert_eq!(left((16 * GIB, 5 * GIB), promised), 2 * GIB - MEMORY_RESERVE_BYTES);
        assert_eq!(left((16 * GIB, 2 * GIB), promised), 0);
    }
}
