//! One node gets a fraction of its machine's time while the whole swarm is full of work. Late is not dead: nobody calls
//! it so, it calls nobody so, and all the work ends.

use crate::{
    World,
    property::{self, Promises, Submitted, command, submit},
};
use anyhow::Result;
use rand::RngExt;
use std::time::Duration;

const COMMANDS: usize = 40;

pub(super) async fn run(world: &mut World) -> Result<()> {
    let count = world.wishes().nodes.unwrap_or(5);
    world.form(count).await?;
    property::view_becomes_truth(world).await?;
    property::cards_are_known(world).await?;
    let nodes = world.shuffled();
    let every = world.rng().random_range(2..=6);
    world.slow(nodes[0], every);
    let mut promises = Promises::default();
    for _ in 0..COMMANDS {
        let owner = nodes[world.rng().random_range(0..nodes.len())];
        let takes = world.rng().random_range(0..10);
        if let Submitted::Taken(id) = submit(world, owner, command(takes)).await? {
            promises.note(owner, id);
        }
        property::view_stays_truth(world, Duration::from_millis(300)).await?;
    }
    property::view_stays_truth(world, Duration::from_secs(60)).await?;
    promises.come_to_an_end(world).await?;
    property::only_members_are_obeyed(world).await
}
