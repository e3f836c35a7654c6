//! Members are thrown out. One is told. One was dead and one cut off: they come back with their old rosters, must not
//! be obeyed for them, and learn the truth.

use crate::{World, property};
use anyhow::Result;
use rand::RngExt;
use std::time::Duration;

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(6).await?;
    property::view_becomes_truth(world).await?;
    let nodes = world.shuffled();
    let (by, told, away, cut) = (nodes[0], nodes[1], nodes[2], nodes[3]);
    world.evict(by, told).await?;
    property::view_becomes_truth(world).await?;
    property::only_members_are_obeyed(world).await?;

    world.crash(away)?;
    let pause = world.rng().random_range(0..10_000);
    world.pass(Duration::from_millis(pause)).await;
    world.evict(by, away).await?;
    property::view_becomes_truth(world).await?;
    world.start(away).await?;
    property::view_becomes_truth(world).await?;
    property::only_members_are_obeyed(world).await?;

    world.partition(&[&[cut], &[by, nodes[4], nodes[5]]]);
    let pause = world.rng().random_range(0..20_000);
    world.pass(Duration::from_millis(pause)).await;
    world.evict(by, cut).await?;
    let pause = world.rng().random_range(0..20_000);
    world.pass(Duration::from_millis(pause)).await;
    world.heal();
    property::view_becomes_truth(world).await?;
    property::only_members_are_obeyed(world).await?;
    property::view_stays_truth(world, Duration::from_secs(20)).await?;
    property::nothing_outlives_its_node(world).await
}
