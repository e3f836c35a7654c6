//! Every node loses a part of what it sends to its successor, and nothing else: a ring of bad cables. Nobody is dead, so
//! nobody is called dead, and when the cables are good again all is as it was.

use crate::{World, net::Link, property};
use anyhow::Result;
use rand::RngExt;
use std::time::Duration;

pub(super) async fn run(world: &mut World) -> Result<()> {
    let count = world.wishes().nodes.unwrap_or(6);
    world.form(count).await?;
    property::view_becomes_truth(world).await?;
    for node in 0..count {
        let loss = world.rng().random_range(0.3..1.0);
        world.link_one_way(node, (node + 1) % count, Link { loss, ..Link::WIRED });
    }
    let seconds = world.rng().random_range(0..40);
    for _ in 0..seconds {
        world.pass(Duration::from_secs(1)).await;
        let everyone: Vec<usize> = (0..count).collect();
        property::these_see_each_other(world, &everyone)?;
    }
    world.mend();
    property::view_becomes_truth(world).await?;
    property::only_members_are_obeyed(world).await?;
    property::view_stays_truth(world, Duration::from_secs(20)).await
}
