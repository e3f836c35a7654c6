//! A node crashes: the others notice. It comes back on the same disk: the others notice that, too.

use crate::{World, property};
use anyhow::{Result, ensure};
use rand::RngExt;
use std::time::Duration;

/// A crash is known to everyone within this time.
const CRASH_KNOWN_MAX: Duration = Duration::from_secs(8);

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(5).await?;
    property::view_becomes_truth(world).await?;
    let victim = world.rng().random_range(0..5);
    world.crash(victim)?;
    let known = property::view_becomes_truth(world).await?;
    ensure!(known <= CRASH_KNOWN_MAX, "the crash was known only after {} ms", known.as_millis());
    let away = world.rng().random_range(0..30_000);
    world.pass(Duration::from_millis(away)).await;
    world.start(victim).await?;
    property::view_becomes_truth(world).await?;
    property::only_members_are_obeyed(world).await?;
    property::view_stays_truth(world, Duration::from_secs(10)).await?;
    property::nothing_outlives_its_node(world).await
}
