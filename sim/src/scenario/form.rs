//! Nodes that were invited are one swarm, and stay it: one after another through any member, or all at once through one.

use crate::{World, property};
use anyhow::Result;
use std::time::Duration;

pub(super) async fn one_by_one(world: &mut World, nodes: usize) -> Result<()> {
    world.form(world.wishes().nodes.unwrap_or(nodes)).await?;
    holds(world).await
}

pub(super) async fn all_at_once(world: &mut World, nodes: usize) -> Result<()> {
    let door = world.add().await?;
    let mut others = Vec::new();
    for _ in 1..world.wishes().nodes.unwrap_or(nodes) {
        others.push(world.add().await?);
    }
    world.join_together(&others, door).await?;
    holds(world).await
}

async fn holds(world: &World) -> Result<()> {
    property::view_becomes_truth(world).await?;
    property::only_members_are_obeyed_at_once(world).await?;
    property::view_stays_truth(world, Duration::from_secs(30)).await
}
