//! While a swarm is in two parts, each of them admits somebody. Healed, everyone knows everyone.

use crate::{World, property};
use anyhow::Result;
use rand::RngExt;
use std::time::Duration;

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(5).await?;
    property::view_becomes_truth(world).await?;
    let nodes = world.shuffled();
    let (some, others) = nodes.split_at(world.rng().random_range(1..=2));
    let (one, two) = (world.add().await?, world.add().await?);
    let with = |group: &[usize], newcomer| [group, &[newcomer]].concat();
    world.partition(&[&with(some, one), &with(others, two)]);
    let sooner = world.rng().random_range(0..10_000);
    world.pass(Duration::from_millis(sooner)).await;
    world.join(one, some[0]).await?;
    world.join(two, others[0]).await?;
    let later = world.rng().random_range(0..20_000);
    world.pass(Duration::from_millis(later)).await;
    world.heal();
    property::view_becomes_truth(world).await?;
    property::only_members_are_obeyed(world).await?;
    property::view_stays_truth(world, Duration::from_secs(20)).await
}
