//! Jobs are due every few seconds while the nodes that own them die and come back, one at a time: each moment is one task.
//! Then the swarm falls apart and finds together: no moment and no job is lost.

use crate::{
    World,
    property::{self, Timetable},
};
use anyhow::Result;
use rand::RngExt;
use skep_actors::cron::Kind;
use std::time::Duration;

const ROUNDS: u32 = 5;
const NODES: usize = 4;

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(world.wishes().nodes.unwrap_or(NODES)).await?;
    property::view_becomes_truth(world).await?;
    property::cards_are_known(world).await?;
    let nodes = world.shuffled();
    let mut jobs = Timetable::default();
    for node in &nodes {
        let period = world.rng().random_range(4..12);
        jobs.add(world, *node, Kind::Every, format!("{period}s")).await?;
    }
    let step = world.rng().random_range(5..20);
    jobs.add(world, nodes[0], Kind::Cron, format!("*/{step} * * * * *")).await?;
    for _ in 0..ROUNDS {
        world.pass_up_to(Duration::from_secs(10)).await;
        let dies = nodes[world.rng().random_range(0..nodes.len())];
        match world.rng().random_range(0..4) {
            0 => world.stop(dies).await?,
            _ => world.crash(dies)?,
        }
        // Sooner than anybody could miss it, in the middle of the takeover, or after it.
        let most = [2, 8, 30][world.rng().random_range(0..3)];
        world.pass_up_to(Duration::from_secs(most)).await;
        world.start(dies).await?;
        // Who died last is back and knows everything: two that are gone at once may be the only two that know a thing.
        property::view_becomes_truth(world).await?;
    }
    jobs.is_known_to_all(world).await?;
    jobs.is_kept(world).await?;
    let (some, others) = nodes.split_at(1);
    world.partition(&[some, others]);
    world.pass_up_to(Duration::from_secs(40)).await;
    world.heal();
    property::view_becomes_truth(world).await?;
    jobs.is_known_to_all(world).await?;
    jobs.is_kept(world).await?;
    property::nothing_outlives_its_node(world).await
}
