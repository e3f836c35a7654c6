//! A LAN that loses, delays, reorders and doubles datagrams, all the time and everywhere. It is bad, and nothing is
//! dead: a swarm forms on it, and nobody is called dead.

use crate::{World, net::Link, property};
use anyhow::Result;
use rand::RngExt;
use std::time::Duration;

pub(super) async fn run(world: &mut World) -> Result<()> {
    let count = world.wishes().nodes.unwrap_or(6);
    for one in 0..count {
        world.add().await?;
        for other in 0..one {
            let link = Link {
                latency: Duration::from_millis(world.rng().random_range(1..20)),
                jitter: Duration::from_millis(world.rng().random_range(0..40)),
                loss: world.rng().random_range(0.0..0.05),
                duplication: world.rng().random_range(0.0..0.05),
                ..Link::WIRED
            };
            world.link(one, other, link);
        }
        if one > 0 {
            let door = world.rng().random_range(0..one);
            world.join(one, door).await?;
        }
    }
    property::view_becomes_truth(world).await?;
    property::view_stays_truth(world, Duration::from_secs(60)).await?;
    property::only_members_are_obeyed(world).await
}
