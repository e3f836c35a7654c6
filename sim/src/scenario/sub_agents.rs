//! A goal over some documents is worked on by sub-agents on other nodes, which die under them. It ends with an answer or
//! a reason; its budget is kept; nothing of it stays reserved or leased.

use super::errand::{Errand, LOOK_PERIOD};
use crate::{World, property};
use anyhow::Result;
use rand::RngExt;
use std::time::Duration;

pub(super) async fn run(world: &mut World) -> Result<()> {
    let model = world.plant_model()?;
    world.form(4).await?;
    property::view_becomes_truth(world).await?;
    property::cards_are_known(world).await?;
    let nodes = world.shuffled();
    let errand = Errand::start(world, nodes[0], model).await?;
    let mut deaths = world.rng().random_range(1..=3);
    while errand.ended(world).await?.is_none() {
        errand.is_kept(world).await?;
        let works = !errand.look(world).await?.children.is_empty();
        if deaths > 0 && works && world.rng().random_bool(0.5) {
            deaths -= 1;
            let victim = nodes[world.rng().random_range(1..nodes.len())];
            world.crash(victim)?;
            world.pass_up_to(Duration::from_secs(20)).await;
            world.start(victim).await?;
        }
        world.pass(LOOK_PERIOD).await;
    }
    errand.settled(world).await?;
    property::view_becomes_truth(world).await?;
    property::nothing_outlives_its_node(world).await
}
