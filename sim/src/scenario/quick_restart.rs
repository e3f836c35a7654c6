//! A node is restarted before anybody could miss it: the new run takes the place of the old one, nobody sees two.

use crate::{World, property};
use anyhow::Result;
use rand::RngExt;
use std::time::Duration;

/// Sooner than a crash can be noticed.
const AWAY_MAX: Duration = Duration::from_millis(800);

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(5).await?;
    property::view_becomes_truth(world).await?;
    for _ in 0..4 {
        let victim = world.rng().random_range(0..5);
        world.crash(victim)?;
        world.pass_up_to(AWAY_MAX).await;
        world.start(victim).await?;
        world.pass_up_to(Duration::from_secs(4)).await;
    }
    property::view_becomes_truth(world).await?;
    property::only_members_are_obeyed(world).await?;
    property::view_stays_truth(world, Duration::from_secs(20)).await?;
    property::nothing_outlives_its_node(world).await
}
