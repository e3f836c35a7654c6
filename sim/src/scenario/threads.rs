//! Agents are told things, and goals are given, by all nodes while those that own the threads and those that think die and come back, and the
//! swarm falls apart for a while: whatever was acknowledged is answered, or its turn says why not; budgets are kept.

use crate::{
    World,
    property::{self, Talks},
};
use anyhow::Result;
use rand::RngExt;
use std::time::Duration;

const ROUNDS: u32 = 4;
const NODES: usize = 4;

pub(super) async fn run(world: &mut World) -> Result<()> {
    let model = world.plant_model()?;
    world.form(world.wishes().nodes.unwrap_or(NODES)).await?;
    property::view_becomes_truth(world).await?;
    property::cards_are_known(world).await?;
    let nodes = world.shuffled();
    let mut talks = Talks::define(world, nodes[0], model).await?;
    for round in 0..ROUNDS {
        for _ in 0..world.rng().random_range(2..5) {
            let by = nodes[world.rng().random_range(0..nodes.len())];
            talks.say(world, by).await?;
        }
        let by = nodes[world.rng().random_range(0..nodes.len())];
        talks.give(world, by, model).await?;
        world.pass_up_to(Duration::from_millis(400)).await;
        if round == ROUNDS / 2 {
            let (some, others) = nodes.split_at(world.rng().random_range(1..nodes.len()));
            world.partition(&[some, others]);
            world.pass_up_to(Duration::from_secs(20)).await;
            // On either side, of whatever each side takes for its own by now.
            for by in [some[0], others[0]] {
                talks.say(world, by).await?;
            }
            world.pass_up_to(Duration::from_secs(20)).await;
            world.heal();
        } else {
            let dies = nodes[world.rng().random_range(0..nodes.len())];
            world.crash(dies)?;
            // Sooner than anybody could miss it, in the middle of the takeover, or after it.
            let most = [1, 8, 30][world.rng().random_range(0..3)];
            world.pass_up_to(Duration::from_secs(most)).await;
            world.start(dies).await?;
        }
        property::view_becomes_truth(world).await?;
        talks.are_kept(world).await?;
    }
    talks.are_answered(world).await?;
    property::nothing_outlives_its_node(world).await
}
