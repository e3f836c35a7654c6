//! Two ways to go: a stop is a goodbye until later, leaving takes a node off the roster.

use crate::{World, property};
use anyhow::{Result, ensure};
use std::time::Duration;

/// A goodbye is known to everyone within this time: sooner than a failure, which is the point of saying it.
const GOODBYE_KNOWN_MAX: Duration = Duration::from_secs(3);

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(5).await?;
    property::view_becomes_truth(world).await?;
    let nodes = world.shuffled();
    let (sleeper, leaver) = (nodes[0], nodes[1]);

    world.stop(sleeper).await?;
    let known = property::view_becomes_truth(world).await?;
    ensure!(known <= GOODBYE_KNOWN_MAX, "the goodbye was known only after {} ms", known.as_millis());
    world.leave(leaver).await?;
    property::view_becomes_truth(world).await?;
    property::only_members_are_obeyed(world).await?;

    // It missed that somebody left.
    world.start(sleeper).await?;
    property::view_becomes_truth(world).await?;
    // Who left may come again.
    world.join(leaver, sleeper).await?;
    property::view_becomes_truth(world).await?;
    property::only_members_are_obeyed(world).await?;
    property::view_stays_truth(world, Duration::from_secs(10)).await?;
    property::nothing_outlives_its_node(world).await
}
