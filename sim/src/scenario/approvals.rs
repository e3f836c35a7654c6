//! Agents want to make calls that somebody has to be asked about; people answer at any node, twice and too late as well;
//! nodes crash and restart meanwhile, and the swarm falls apart for a while.

use crate::{
    World,
    property::{self, Approvals},
};
use anyhow::Result;
use rand::{RngExt, seq::IndexedRandom};
use std::time::Duration;

const NODES: usize = 4;
const ROUNDS: u32 = 60;

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(NODES).await?;
    property::view_becomes_truth(world).await?;
    property::cards_are_known(world).await?;
    let nodes = world.shuffled();
    Approvals::set(world, nodes[0]).await?;
    let mut approvals = Approvals::default();
    for _ in 0..ROUNDS {
        match world.rng().random_range(0..16) {
            0 => {
                let victim = nodes[world.rng().random_range(0..nodes.len())];
                match world.rng().random_range(0..3) {
                    0 => world.stop(victim).await?,
                    _ => world.crash(victim)?,
                }
                world.pass_up_to(Duration::from_secs(10)).await;
                world.start(victim).await?;
            }
            1 => {
                let (some, others) = nodes.split_at(world.rng().random_range(1..NODES));
                world.partition(&[some, others]);
            }
            2 | 3 => world.heal(),
            // Longer than a request waits.
            4 => world.pass_up_to(Duration::from_secs(400)).await,
            _ => {}
        }
        for _ in 0..world.rng().random_range(1..4) {
            match world.rng().random_range(0..3) {
                0 => {
                    let number = *world.running().choose(world.rng()).expect("all of them run between two faults");
                    approvals.want(world, number).await?;
                }
                1 => approvals.look(world).await?,
                _ => approvals.answer(world).await?,
            }
        }
        world.pass_up_to(Duration::from_secs(3)).await;
    }
    world.heal();
    property::view_becomes_truth(world).await?;
    world.pass(Duration::from_secs(30)).await;
    approvals.are_kept(world).await?;
    property::nothing_outlives_its_node(world).await
}
