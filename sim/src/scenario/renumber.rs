//! A machine gets another address while its node runs. The others find it there, and go on finding it after it was
//! restarted.

use crate::{World, property};
use anyhow::Result;
use std::time::Duration;

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(5).await?;
    property::view_becomes_truth(world).await?;
    let moved = world.shuffled()[0];
    world.renumber(moved)?;
    world.pass_up_to(Duration::from_secs(20)).await;
    property::view_becomes_truth(world).await?;
    property::only_members_are_obeyed(world).await?;
    world.crash(moved)?;
    world.pass_up_to(Duration::from_secs(20)).await;
    world.renumber(moved)?;
    world.start(moved).await?;
    property::view_becomes_truth(world).await?;
    property::only_members_are_obeyed(world).await?;
    property::view_stays_truth(world, Duration::from_secs(20)).await?;
    property::nothing_outlives_its_node(world).await
}
