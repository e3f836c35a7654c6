//! A bit of a node's disk turns over while it is off. It either never matters, or the node refuses the disk and says so;
//! then it gets its last export, and catches up with what it missed. Nothing that is damaged is ever believed.

use crate::{World, property};
use anyhow::Result;
use rand::{Rng, RngExt};
use std::time::Duration;

const FLIPS: u32 = 5;

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(4).await?;
    property::view_becomes_truth(world).await?;
    for _ in 0..FLIPS {
        let victim = world.rng().random_range(0..4);
        let export = world.medium(victim).copy();
        if world.rng().random_bool(0.5) {
            // The roster moves on after the export: somebody joins, and the victim must learn it again.
            let newcomer = world.add().await?;
            world.join(newcomer, (victim + 1) % 4).await?;
            property::view_becomes_truth(world).await?;
        }
        world.crash(victim)?;
        if world.rng().random_bool(0.3) {
            world.medium(victim).fold();
        }
        let draw = world.rng().next_u64();
        let flipped = world.medium(victim).flip(draw);
        world.note(&format!("a bit of {victim}'s disk turned over: {flipped}"));
        world.pass_up_to(Duration::from_secs(10)).await;
        if let Err(error) = world.start(victim).await {
            world.note(&format!("{victim} refuses its disk: {error:#}"));
            world.replace_medium(victim, export);
            world.start(victim).await?;
        }
        property::view_becomes_truth(world).await?;
    }
    property::only_members_are_obeyed(world).await?;
    property::view_stays_truth(world, Duration::from_secs(20)).await?;
    property::nothing_outlives_its_node(world).await
}
