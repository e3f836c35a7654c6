//! The node that keeps the records of some commands dies, or is cut off, while they run elsewhere. It comes back, and
//! every command that it had acknowledged ends once: an attempt that was taken back can't end it any more, and one that was
//! cancelled isn't run again.

use crate::{
    World,
    property::{self, Promises, Submitted, command, submit},
};
use anyhow::{Result, bail};
use rand::RngExt;
use std::time::Duration;

const ROUNDS: u32 = 6;

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(4).await?;
    property::view_becomes_truth(world).await?;
    property::cards_are_known(world).await?;
    let nodes = world.shuffled();
    let owner = nodes[0];
    let mut promises = Promises::default();
    for _ in 0..ROUNDS {
        for _ in 0..3 {
            let takes = world.rng().random_range(0..15);
            let spec = command(takes);
            match submit(world, owner, spec).await? {
                Submitted::Taken(id) => promises.note(owner, id),
                other => bail!("a quiet node did not take a command: {other:?}"),
            }
        }
        world.pass_up_to(Duration::from_secs(5)).await;
        let runner = nodes[world.rng().random_range(1..nodes.len())];
        match world.rng().random_range(0..5) {
            0 => {
                world.crash(owner)?;
                world.pass_up_to(Duration::from_secs(20)).await;
                world.start(owner).await?;
            }
            1 => world.partition(&[&[owner], &nodes[1..]]),
            2 => world.partition(&[&[runner], &[owner]]),
            3 => {
                world.crash(runner)?;
                promises.withdraw(world, owner, runner).await?;
                world.crash(owner)?;
                world.pass_up_to(Duration::from_secs(20)).await;
                world.start(runner).await?;
                world.start(owner).await?;
            }
            _ => {
                world.crash(runner)?;
                world.pass_up_to(Duration::from_secs(10)).await;
                world.start(runner).await?;
            }
        }
        promises.are_kept(world).await?;
        world.pass_up_to(Duration::from_secs(15)).await;
        world.heal();
        world.pass_up_to(Duration::from_secs(3)).await;
        promises.are_kept(world).await?;
    }
    property::view_becomes_truth(world).await?;
    promises.come_to_an_end(world).await?;
    // What has ended stays as it is, also after everyone has died.
    for node in &nodes {
        world.crash(*node)?;
    }
    for node in &nodes {
        world.start(*node).await?;
    }
    property::view_becomes_truth(world).await?;
    promises.come_to_an_end(world).await?;
    property::ledgers_become_equal(world).await?;
    property::nothing_outlives_its_node(world).await
}
