//! Measures what membership promises: how soon a crash is known to every survivor, and how soon after a partition all
//! see each other again. Asked for by name, with as many nodes as wished for.

use crate::{World, clock, property};
use anyhow::Result;
use rand::RngExt;
use skep_runtime::member::State;
use std::time::Duration;

/// How exactly is measured.
const LOOK_PERIOD: Duration = Duration::from_millis(20);
/// After this a survivor counts as one that never noticed.
const KNOWN_MAX: Duration = Duration::from_secs(30);

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(world.wishes().nodes.unwrap_or(10)).await?;
    property::view_becomes_truth(world).await?;
    world.pass_up_to(Duration::from_secs(5)).await;
    let nodes = world.shuffled();

    let victim = nodes[0];
    world.crash(victim)?;
    let start = clock::now();
    let mut ignorant = nodes[1..].to_vec();
    while !ignorant.is_empty() && clock::now() - start < KNOWN_MAX {
        world.pass(LOOK_PERIOD).await;
        let id = world.id(victim);
        let knows = |world: &World, by: usize| {
            world.node(by).is_ok_and(|node| node.members().get(&id).is_some_and(|member| member.state != State::Up))
        };
        let took = (clock::now() - start).as_millis() as f64;
        for by in ignorant.extract_if(.., |by| knows(world, *by)).collect::<Vec<_>>() {
            world.note(&format!("{by} knows"));
            world.measure("crash known to a survivor, ms", took);
        }
    }
    world.measure("crash known to all survivors, ms", (clock::now() - start).as_millis() as f64);
    property::view_becomes_truth(world).await?;
    world.start(victim).await?;
    property::view_becomes_truth(world).await?;

    let (some, others) = nodes.split_at(world.rng().random_range(1..=nodes.len() / 2));
    world.partition(&[some, others]);
    let apart = world.rng().random_range(10_000..40_000);
    world.pass(Duration::from_millis(apart)).await;
    world.heal();
    let healed = property::view_becomes_truth(world).await?;
    world.measure("partition healed, ms", healed.as_millis() as f64);
    Ok(())
}
