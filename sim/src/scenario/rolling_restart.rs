//! Everyone is restarted once, one after another: an update of the whole swarm.

use crate::{World, property};
use anyhow::Result;
use rand::RngExt;
use std::time::Duration;

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(5).await?;
    property::view_becomes_truth(world).await?;
    for node in world.shuffled() {
        if world.rng().random_bool(0.5) {
            world.crash(node)?;
        } else {
            world.stop(node).await?;
        }
        let away = world.rng().random_range(0..6_000);
        world.pass(Duration::from_millis(away)).await;
        world.start(node).await?;
        // The next one doesn't always wait until this one is back.
        let patience = world.rng().random_range(0..6_000);
        world.pass(Duration::from_millis(patience)).await;
    }
    property::view_becomes_truth(world).await?;
    property::only_members_are_obeyed(world).await?;
    property::view_stays_truth(world, Duration::from_secs(10)).await?;
    property::nothing_outlives_its_node(world).await
}
