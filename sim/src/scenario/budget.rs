//! Four nodes spend the tokens of one thread. Holders crash in the middle of calls; the owner crashes, too, and is cut off
//! for a while.

use super::spending::Spending;
use crate::{World, property};
use anyhow::Result;
use rand::RngExt;
use std::time::Duration;

const ROUNDS: u32 = 60;

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(4).await?;
    property::view_becomes_truth(world).await?;
    let nodes = world.shuffled();
    let (owner, holders) = (nodes[0], &nodes[1..]);
    let mut spending = Spending::open(world, owner, holders).await?;
    for _ in 0..ROUNDS {
        match world.rng().random_range(0..12) {
            0 => {
                let victim = holders[world.rng().random_range(0..holders.len())];
                world.crash(victim)?;
                world.start(victim).await?;
            }
            1 => world.partition(&[&[owner], holders]),
            2 | 3 => world.heal(),
            4 => {
                world.crash(owner)?;
                world.start(owner).await?;
            }
            _ => {}
        }
        let spender = nodes[world.rng().random_range(0..nodes.len())];
        spending.spend(world, spender).await?;
        let pause = world.rng().random_range(0..1_000);
        world.pass(Duration::from_millis(pause)).await;
    }

    world.heal();
    property::view_becomes_truth(world).await?;
    spending.ends(world).await?;
    property::nothing_outlives_its_node(world).await
}
