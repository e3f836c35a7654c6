//! Three nodes spend one budget faster than their disks flush, so that reservations are answered from memory. Whoever spends
//! dies in the middle of it, the owner too; the owner is cut off for a while.

use super::spending::Spending;
use crate::{World, property};
use anyhow::Result;
use rand::RngExt;
use std::time::Duration;

const ROUNDS: u32 = 30;
const BUDGET_TOKENS: u64 = 60_000;

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(3).await?;
    property::view_becomes_truth(world).await?;
    let nodes = world.shuffled();
    let (owner, holders) = (nodes[0], &nodes[1..]);
    let mut spending = Spending::open_with(world, owner, holders, BUDGET_TOKENS).await?;
    for _ in 0..ROUNDS {
        match world.rng().random_range(0..12) {
            0 => world.partition(&[&[owner], holders]),
            1 | 2 => world.heal(),
            3 => {
                world.crash(owner)?;
                world.start(owner).await?;
            }
            _ => {}
        }
        let spender = nodes[world.rng().random_range(0..nodes.len())];
        let calls = world.rng().random_range(10..80);
        spending.rush(world, spender, calls).await?;
        // Now and then long enough for the lines to be drawn in.
        let pause = world.rng().random_range(0..3_000);
        world.pass(Duration::from_millis(pause)).await;
    }

    world.heal();
    property::view_becomes_truth(world).await?;
    spending.ends(world).await?;
    property::nothing_outlives_its_node(world).await
}
