//! Nodes that were invited one after another are one swarm, and stay it.

use crate::{World, property};
use anyhow::Result;
use std::time::Duration;

pub(super) async fn run(world: &mut World, nodes: usize) -> Result<()> {
    world.form(nodes).await?;
    property::view_becomes_truth(world).await?;
    property::only_members_are_obeyed_at_once(world).await?;
    property::view_stays_truth(world, Duration::from_secs(30)).await
}
