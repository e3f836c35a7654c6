//! Half of a swarm dies at the same moment. The other half knows it, works, and takes them back.

use crate::{World, property};
use anyhow::{Result, ensure};
use std::time::Duration;

/// Many deaths at once are known to everyone within this time: each node probes one member at a time.
const CRASHES_KNOWN_MAX: Duration = Duration::from_secs(12);

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(world.wishes().nodes.unwrap_or(8)).await?;
    property::view_becomes_truth(world).await?;
    let nodes = world.shuffled();
    let victims = &nodes[..nodes.len() / 2];
    for victim in victims {
        world.crash(*victim)?;
    }
    let known = property::view_becomes_truth(world).await?;
    ensure!(known <= CRASHES_KNOWN_MAX, "the crashes were known only after {} ms", known.as_millis());
    world.pass_up_to(Duration::from_secs(30)).await;
    for victim in victims {
        world.start(*victim).await?;
    }
    property::view_becomes_truth(world).await?;
    property::only_members_are_obeyed(world).await?;
    property::nothing_outlives_its_node(world).await
}
