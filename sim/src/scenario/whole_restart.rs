//! The power fails and comes back: every node dies, and all start again, in any order, from what their disks hold.

use crate::{World, property};
use anyhow::Result;
use std::time::Duration;

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(6).await?;
    property::view_becomes_truth(world).await?;
    for node in world.shuffled() {
        world.crash(node)?;
    }
    world.pass_up_to(Duration::from_secs(60)).await;
    for node in world.shuffled() {
        world.start(node).await?;
        world.pass_up_to(Duration::from_secs(3)).await;
    }
    property::view_becomes_truth(world).await?;
    property::only_members_are_obeyed(world).await?;
    property::view_stays_truth(world, Duration::from_secs(20)).await?;
    property::nothing_outlives_its_node(world).await
}
