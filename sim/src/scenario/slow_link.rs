//! One machine is behind a link of 1 Mbit/s that is full of its own traffic at times. It is a member like the others.

use crate::{World, net::Link, property};
use anyhow::Result;
use std::time::Duration;

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(4).await?;
    let far = world.add().await?;
    for near in 0..far {
        world.link(far, near, Link::SLOW);
    }
    world.join(far, 0).await?;
    property::view_becomes_truth(world).await?;
    property::only_members_are_obeyed(world).await?;
    property::view_stays_truth(world, Duration::from_secs(60)).await
}
