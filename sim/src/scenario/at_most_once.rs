//! Commands that never may run twice at once, while those who run them and those who decide about them die, are cut off and
//! come back. At no moment two nodes run one; an ending that was acknowledged stands; and in the end all of them have ended.

use crate::{
    World,
    property::{self, Promises, Submitted, command, submit},
};
use anyhow::{Result, bail};
use rand::RngExt;
use skep_actors::scheduler::{Spec, course::Course};
use std::time::Duration;
use uuid::Uuid;

const ROUNDS: u32 = 5;
/// How often is looked while something goes on.
const LOOK_PERIOD: Duration = Duration::from_millis(500);

pub(super) async fn run(world: &mut World) -> Result<()> {
    let size = world.rng().random_range(2..6usize);
    world.form(size).await?;
    property::view_becomes_truth(world).await?;
    property::cards_are_known(world).await?;
    let nodes = world.shuffled();
    let mut promises = Promises::default();
    let mut taken = Vec::new();
    for round in 0..ROUNDS {
        for n in 0..3 {
            let owner = nodes[world.rng().random_range(0..size)];
            let course = Course { once: true, retries: world.rng().random_range(0..2), ..Course::default() };
            let key = world.rng().random_range(0..3) == 0;
            let idempotency_key = key.then(|| format!("{round}/{n}"));
            let seconds = world.rng().random_range(0..40);
            match submit(world, owner, Spec { course, idempotency_key, ..command(seconds) }).await? {
                Submitted::Taken(id) => {
                    promises.note(owner, id);
                    taken.push(id);
                }
                other => bail!("a quiet node did not take a command: {other:?}"),
            }
        }
        go_on(world, &mut promises, &taken, 8).await?;
        let one = nodes[world.rng().random_range(0..size)];
        match world.rng().random_range(0..5) {
            0 => {
                world.crash(one)?;
                go_on(world, &mut promises, &taken, 40).await?;
                world.start(one).await?;
            }
            1 => {
                // Faster than anybody misses it.
                world.crash(one)?;
                world.start(one).await?;
            }
            2 => {
                let cut = world.rng().random_range(1..size);
                world.partition(&[&nodes[..cut], &nodes[cut..]]);
                go_on(world, &mut promises, &taken, 60).await?;
                world.heal();
            }
            3 => {
                // Two that can't reach each other, and others who reach both.
                let other = nodes[world.rng().random_range(0..size)];
                if other != one {
                    world.partition(&[&[one], &[other]]);
                    go_on(world, &mut promises, &taken, 60).await?;
                    world.heal();
                }
            }
            _ => {
                let cut = world.rng().random_range(1..size);
                world.partition(&[&nodes[..cut], &nodes[cut..]]);
                go_on(world, &mut promises, &taken, 20).await?;
                world.crash(one)?;
                go_on(world, &mut promises, &taken, 20).await?;
                world.heal();
                go_on(world, &mut promises, &taken, 10).await?;
                world.start(one).await?;
            }
        }
        property::view_becomes_truth(world).await?;
        go_on(world, &mut promises, &taken, 20).await?;
    }
    promises.come_to_an_end(world).await?;
    for id in &taken {
        property::never_runs_twice_at_once(*id)?;
    }
    property::ledgers_become_equal(world).await?;
    property::nothing_outlives_its_node(world).await
}

/// Up to so many seconds pass, in which what has to hold holds.
async fn go_on(world: &mut World, promises: &mut Promises, taken: &[Uuid], seconds: u64) -> Result<()> {
    let looks = world.rng().random_range(1..=2 * seconds);
    for _ in 0..looks {
        world.pass(LOOK_PERIOD).await;
        for id in taken {
            property::never_runs_twice_at_once(*id)?;
        }
    }
    promises.are_kept(world).await
}
