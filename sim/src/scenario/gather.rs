//! Machines that see each other in the neighbourhood before they are members: knocks must not disturb invites, and
//! discovery alone must not make anybody a member.

use crate::{World, property};
use anyhow::Result;
use std::time::Duration;

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.set_mdns(true);
    for _ in 0..4 {
        world.add().await?;
    }
    // They knock at each other's doors; no owner approves.
    world.pass(Duration::from_secs(20)).await;
    property::view_becomes_truth(world).await?;
    property::only_members_are_obeyed(world).await?;
    let nodes = world.shuffled();
    for pair in nodes.windows(2) {
        world.join(pair[1], pair[0]).await?;
    }
    property::view_becomes_truth(world).await?;
    for node in &nodes {
        world.crash(*node)?;
    }
    world.pass(Duration::from_secs(5)).await;
    for node in &nodes {
        world.start(*node).await?;
    }
    property::view_becomes_truth(world).await?;
    property::only_members_are_obeyed(world).await?;
    property::nothing_outlives_its_node(world).await
}
