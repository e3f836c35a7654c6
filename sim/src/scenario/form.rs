//! Nodes that were invited are one swarm, and stay it: one after another through any member, or all at once through one.

use crate::{World, property};
use anyhow::Result;
use skep_transport::join::book::INVITES_MAX;
use std::time::Duration;

pub(super) async fn one_by_one(world: &mut World, nodes: usize) -> Result<()> {
    world.form(world.wishes().nodes.unwrap_or(nodes)).await?;
    holds(world).await
}

/// As many at once as there are invites at the doors that are there.
pub(super) async fn all_at_once(world: &mut World, nodes: usize) -> Result<()> {
    let mut inside = vec![world.add().await?];
    let mut outside = Vec::new();
    for _ in 1..world.wishes().nodes.unwrap_or(nodes) {
        outside.push(world.add().await?);
    }
    while !outside.is_empty() {
        let wave: Vec<usize> = outside.drain(..outside.len().min(inside.len() * INVITES_MAX)).collect();
        let joins: Vec<(usize, usize)> = wave.iter().copied().zip(inside.iter().copied().cycle()).collect();
        world.join_together(&joins).await?;
        inside.extend(wave);
    }
    holds(world).await
}

async fn holds(world: &World) -> Result<()> {
    property::view_becomes_truth(world).await?;
    property::only_members_are_obeyed_at_once(world).await?;
    property::view_stays_truth(world, Duration::from_secs(30)).await
}
