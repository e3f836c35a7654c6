//! The node that keeps the records of commands dies and never comes back. Whoever is next in their order takes them over,
//! and every command that it had acknowledged ends nevertheless; the first of them may be
//! evicted, too.

use crate::{
    World,
    property::{self, Promises, Submitted, command, submit},
};
use anyhow::{Result, bail};
use rand::RngExt;
use std::time::Duration;

const NODES: usize = 5;
const COMMANDS: usize = 12;

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(world.wishes().nodes.unwrap_or(NODES)).await?;
    property::view_becomes_truth(world).await?;
    property::cards_are_known(world).await?;
    let nodes = world.shuffled();
    let mut promises = Promises::default();
    // One owner after the other, as long as two are left.
    for owner in &nodes[..nodes.len() - 2] {
        for _ in 0..COMMANDS {
            let takes = world.rng().random_range(0..20);
            match submit(world, *owner, command(takes)).await? {
                Submitted::Taken(id) => promises.note(*owner, id),
                other => bail!("a quiet node did not take a command: {other:?}"),
            }
        }
        world.pass_up_to(Duration::from_secs(4)).await;
        world.crash(*owner)?;
        property::view_becomes_truth(world).await?;
        // Later ones too many are dead: an eviction needs more than half of the roster.
        if *owner == nodes[0] && world.rng().random_bool(0.5) {
            let by = nodes[nodes.len() - 1];
            world.evict(by, *owner).await?;
        }
    }
    promises.come_to_an_end(world).await?;
    property::ledgers_become_equal(world).await?;
    property::nothing_outlives_its_node(world).await
}
