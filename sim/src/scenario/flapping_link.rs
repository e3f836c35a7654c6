//! The way between two nodes fails and comes back, again and again, at any pace. Others see both all the time, so
//! neither is called dead by them; afterwards the two see each other, too.

use crate::{World, clock, property};
use anyhow::Result;
use rand::RngExt;
use std::time::Duration;

const FLAPS: u32 = 15;
const LOOK_PERIOD: Duration = Duration::from_millis(100);

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(5).await?;
    property::view_becomes_truth(world).await?;
    let nodes = world.shuffled();
    for flap in 0..2 * FLAPS {
        match flap % 2 {
            0 => world.partition(&[&[nodes[0]], &[nodes[1]]]),
            _ => world.heal(),
        }
        let time = clock::now() + Duration::from_millis(world.rng().random_range(0..4000));
        while clock::now() < time {
            world.pass(LOOK_PERIOD).await;
            property::these_see(world, &nodes[2..], &nodes)?;
        }
    }
    property::view_becomes_truth(world).await?;
    property::only_members_are_obeyed(world).await?;
    property::view_stays_truth(world, Duration::from_secs(20)).await
}
