//! A machine sleeps for a while and wakes: its node finds its timers late and its peers convinced that it is dead. It
//! must not call everyone else dead for its own sleep, and is a member again at once.

use crate::{World, property};
use anyhow::{Result, ensure};
use rand::RngExt;
use skep_runtime::member::State;
use std::time::Duration;

/// A wink, after which a node must not have called anybody dead.
const WINK_MAX: Duration = Duration::from_secs(2);

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(5).await?;
    property::view_becomes_truth(world).await?;
    let nodes = world.shuffled();
    let winks = Duration::from_millis(world.rng().random_range(300..WINK_MAX.as_millis() as u64));
    world.sleep(nodes[0], winks);
    world.pass(winks).await;
    for _ in 0..50 {
        world.pass(Duration::from_millis(100)).await;
        let picture = world.node(nodes[0])?.members().now();
        let dead = picture.values().filter(|member| member.state != State::Up).count();
        ensure!(dead == 0, "a node that slept for {} ms calls {dead} others dead", winks.as_millis());
    }
    let sleeps = Duration::from_secs(world.rng().random_range(10..120));
    world.sleep(nodes[1], sleeps);
    world.pass(sleeps).await;
    property::view_becomes_truth(world).await?;
    property::only_members_are_obeyed(world).await?;
    property::view_stays_truth(world, Duration::from_secs(20)).await
}
