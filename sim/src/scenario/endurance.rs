//! Measures false alarms: every machine gives its node half of its time, nothing else is wrong, for hours. Asked for by
//! name: `--nodes 50 --until 24h`.

use crate::{World, clock, log, property};
use anyhow::{Result, ensure};
use std::time::Duration;

/// One turn in so many is a node's own.
const EVERY: u32 = 2;
const UNTIL: Duration = Duration::from_secs(600);
/// How often the views are compared with the truth; who calls whom down is counted without looking.
const LOOK_PERIOD: Duration = Duration::from_secs(10);

pub(super) async fn run(world: &mut World) -> Result<()> {
    let (nodes, until) = (world.wishes().nodes.unwrap_or(10), world.wishes().until.unwrap_or(UNTIL));
    world.form(nodes).await?;
    property::view_becomes_truth(world).await?;
    for node in 0..nodes {
        world.slow(node, EVERY);
    }
    let (start, before) = (clock::now(), log::downs());
    while clock::now() - start < until {
        world.pass(LOOK_PERIOD).await;
        let everyone: Vec<usize> = (0..nodes).collect();
        property::these_see_each_other(world, &everyone)?;
    }
    let downs = log::downs() - before;
    world.measure("live nodes that were called down", downs as f64);
    ensure!(downs == 0, "live nodes were called down {downs} times");
    Ok(())
}
