//! Everything at once, for two minutes: crashes, stops, restarts, partitions, one-way cuts, bad links. Then calm.

use crate::{World, net::Link, property};
use anyhow::Result;
use rand::RngExt;
use std::time::Duration;

const NODES: usize = 6;
const BLOWS: u32 = 40;

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(NODES).await?;
    property::view_becomes_truth(world).await?;
    for _ in 0..BLOWS {
        blow(world).await?;
        let pause = world.rng().random_range(0..6_000);
        world.pass(Duration::from_millis(pause)).await;
    }
    world.heal();
    for node in 0..NODES {
        if world.node(node).is_err() {
            world.start(node).await?;
        }
    }
    property::view_becomes_truth(world).await?;
    property::only_members_are_obeyed(world).await?;
    property::view_stays_truth(world, Duration::from_secs(20)).await?;
    property::nothing_outlives_its_node(world).await
}

async fn blow(world: &mut World) -> Result<()> {
    let nodes = world.shuffled();
    let (one, runs) = (nodes[0], world.node(nodes[0]).is_ok());
    match world.rng().random_range(0..10) {
        0 | 1 if runs => world.crash(one)?,
        2 if runs => world.stop(one).await?,
        0..=4 if !runs => world.start(one).await?,
        3 | 4 => world.heal(),
        5 | 6 => {
            let (some, others) = nodes.split_at(world.rng().random_range(1..NODES));
            world.partition(&[some, others]);
        }
        7 => {
            let (some, others) = nodes.split_at(world.rng().random_range(1..NODES));
            world.cut(some, others);
        }
        8 => {
            let link = Link::drawn(world.rng());
            world.link(nodes[0], nodes[1], link);
        }
        _ => world.heal(),
    }
    Ok(())
}
