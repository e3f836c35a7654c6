//! The network falls apart for a while. During a clean partition each side sees the other down; afterwards all is well.

use crate::{World, property};
use anyhow::Result;
use rand::RngExt;
use std::time::Duration;

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(5).await?;
    property::view_becomes_truth(world).await?;
    let nodes = world.shuffled();
    let (some, others) = nodes.split_at(world.rng().random_range(1..=2));
    if world.rng().random_bool(0.7) {
        world.partition(&[some, others]);
        property::view_becomes_truth(world).await?;
    } else {
        // What members should think of someone whom they hear and who doesn't hear them is not laid down.
        world.cut(some, others);
    }
    let apart = world.rng().random_range(0..40_000);
    world.pass(Duration::from_millis(apart)).await;
    world.heal();
    property::view_becomes_truth(world).await?;
    property::only_members_are_obeyed(world).await?;
    property::view_stays_truth(world, Duration::from_secs(20)).await
}
