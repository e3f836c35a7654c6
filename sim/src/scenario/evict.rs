//! Members are thrown out. One is told. One was dead and one cut off: they come back with their old rosters, must not
//! be obeyed for them, and learn the truth.

use crate::{
    World,
    property::{self, Promises, Submitted, command, submit},
};
use anyhow::{Result, bail};
use rand::RngExt;
use std::time::Duration;

/// Commands of one who stays, which those who go must not take for theirs.
const COMMANDS: usize = 6;

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(6).await?;
    property::view_becomes_truth(world).await?;
    let nodes = world.shuffled();
    let (by, told, away, cut) = (nodes[0], nodes[1], nodes[2], nodes[3]);
    property::cards_are_known(world).await?;
    let mut promises = Promises::default();
    for _ in 0..COMMANDS {
        let takes = world.rng().random_range(0..60);
        match submit(world, by, command(takes)).await? {
            Submitted::Taken(id) => promises.note(by, id),
            other => bail!("a quiet node did not take a command: {other:?}"),
        }
    }
    world.evict(by, told).await?;
    property::view_becomes_truth(world).await?;
    property::only_members_are_obeyed(world).await?;

    world.crash(away)?;
    let pause = world.rng().random_range(0..10_000);
    world.pass(Duration::from_millis(pause)).await;
    world.evict(by, away).await?;
    property::view_becomes_truth(world).await?;
    world.start(away).await?;
    // It doesn't know yet, and asks everyone.
    property::outsiders_are_refused(world).await?;
    property::view_becomes_truth(world).await?;
    property::only_members_are_obeyed(world).await?;

    world.partition(&[&[cut], &[by, nodes[4], nodes[5]]]);
    let pause = world.rng().random_range(0..20_000);
    world.pass(Duration::from_millis(pause)).await;
    world.evict(by, cut).await?;
    let pause = world.rng().random_range(0..20_000);
    world.pass(Duration::from_millis(pause)).await;
    world.heal();
    property::outsiders_are_refused(world).await?;
    property::view_becomes_truth(world).await?;
    property::only_members_are_obeyed(world).await?;
    property::view_stays_truth(world, Duration::from_secs(20)).await?;
    promises.come_to_an_end(world).await?;
    property::ledgers_become_equal(world).await?;
    property::who_is_alone_holds_nothing_of_others(world)?;
    property::nothing_outlives_its_node(world).await
}
