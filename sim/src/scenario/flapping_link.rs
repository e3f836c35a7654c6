//! The way between two nodes fails and comes back, again and again, at any pace. Others see both all the time, so
//! neither is called dead by them; afterwards the two see each other, too.

use crate::{World, property};
use anyhow::Result;
use std::time::Duration;

const FLAPS: u32 = 15;

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(5).await?;
    property::view_becomes_truth(world).await?;
    let nodes = world.shuffled();
    for _ in 0..FLAPS {
        world.partition(&[&[nodes[0]], &[nodes[1]]]);
        world.pass_up_to(Duration::from_secs(4)).await;
        world.heal();
        world.pass_up_to(Duration::from_secs(4)).await;
    }
    property::view_becomes_truth(world).await?;
    property::only_members_are_obeyed(world).await?;
    property::view_stays_truth(world, Duration::from_secs(20)).await
}
