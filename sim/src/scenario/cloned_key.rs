//! Somebody copies a machine, key included, and starts the copy beside it. Whom of the two the others see is not laid
//! down; that they go on seeing each other is, and that all is well once one of the two is stopped.

use crate::{World, property};
use anyhow::Result;
use rand::RngExt;
use std::time::Duration;

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(5).await?;
    property::view_becomes_truth(world).await?;
    let original = world.shuffled()[0];
    let others: Vec<usize> = world.running().into_iter().filter(|node| *node != original).collect();
    let copy = world.add_clone(original).await?;
    for _ in 0..20 {
        world.pass(Duration::from_secs(1)).await;
        property::these_see_each_other(world, &others)?;
    }
    let gone = if world.rng().random_bool(0.5) { original } else { copy };
    match world.rng().random_bool(0.5) {
        true => world.stop(gone).await?,
        false => world.crash(gone)?,
    }
    world.retire(gone);
    property::view_becomes_truth(world).await?;
    property::only_members_are_obeyed(world).await?;
    property::view_stays_truth(world, Duration::from_secs(20)).await
}
