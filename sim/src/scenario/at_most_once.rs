//! Commands that never may run twice at once, while those who run them and those who decide about them die, are cut off, run
//! out of disk and come back; some are given to two nodes at once, or twice to one, and some while all that goes on. At no
//! moment two nodes run one; an ending that was acknowledged stands; and in the end all of them have ended.

use crate::{
    World,
    property::{self, Promises, Submitted, command, submit},
};
use anyhow::{Result, bail, ensure};
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
            // Once, or to two nodes at one time, which may be the same.
            let owners = [(); 2].map(|()| nodes[world.rng().random_range(0..size)]);
            let key = format!("{round}/{n}");
            let spec = match world.rng().random_range(0..4) {
                0 => Spec { idempotency_key: Some(key), ..once(world) },
                1 => once(world),
                _ => {
                    let spec = Spec { idempotency_key: Some(key), ..once(world) };
                    let both = tokio::join!(submit(world, owners[0], spec.clone()), submit(world, owners[1], spec));
                    let mut ids = Vec::new();
                    for (owner, answer) in owners.into_iter().zip([both.0?, both.1?]) {
                        if let Submitted::Taken(id) = answer {
                            promises.note(owner, id);
                            ids.push(id);
                        }
                    }
                    ensure!(!ids.is_empty(), "neither of two quiet nodes took a command");
                    taken.extend(ids);
                    continue;
                }
            };
            match submit(world, owners[0], spec).await? {
                Submitted::Taken(id) => {
                    promises.note(owners[0], id);
                    taken.push(id);
                }
                other => bail!("a quiet node did not take a command: {other:?}"),
            }
        }
        go_on(world, &mut promises, &mut taken, 8).await?;
        let one = nodes[world.rng().random_range(0..size)];
        match world.rng().random_range(0..6) {
            0 => {
                world.crash(one)?;
                go_on(world, &mut promises, &mut taken, 40).await?;
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
                go_on(world, &mut promises, &mut taken, 60).await?;
                world.heal();
            }
            3 => {
                let room = world.rng().random_range(0..4_000);
                world.fill_disk(one, Some(room));
                go_on(world, &mut promises, &mut taken, 20).await?;
                world.fill_disk(one, None);
            }
            4 => {
                // Two that can't reach each other, and others who reach both.
                let other = nodes[world.rng().random_range(0..size)];
                if other != one {
                    world.partition(&[&[one], &[other]]);
                    go_on(world, &mut promises, &mut taken, 60).await?;
                    world.heal();
                }
            }
            _ => {
                let cut = world.rng().random_range(1..size);
                world.partition(&[&nodes[..cut], &nodes[cut..]]);
                go_on(world, &mut promises, &mut taken, 20).await?;
                world.crash(one)?;
                go_on(world, &mut promises, &mut taken, 20).await?;
                world.heal();
                go_on(world, &mut promises, &mut taken, 10).await?;
                world.start(one).await?;
            }
        }
        property::view_becomes_truth(world).await?;
        go_on(world, &mut promises, &mut taken, 20).await?;
    }
    promises.come_to_an_end(world).await?;
    for id in &taken {
        property::never_runs_twice_at_once(*id)?;
    }
    property::ledgers_become_equal(world).await?;
    property::nothing_outlives_its_node(world).await
}

fn once(world: &mut World) -> Spec {
    let course = Course { once: true, retries: world.rng().random_range(0..2), ..Course::default() };
    Spec { course, ..command(world.rng().random_range(0..40)) }
}

/// Up to so many seconds pass, in which what has to hold holds. Now and then a command is given to somebody, who may take it
/// or not.
async fn go_on(world: &mut World, promises: &mut Promises, taken: &mut Vec<Uuid>, seconds: u64) -> Result<()> {
    let looks = world.rng().random_range(1..=2 * seconds);
    for _ in 0..looks {
        world.pass(LOOK_PERIOD).await;
        let running = world.running();
        if world.rng().random_range(0..40) == 0 && !running.is_empty() {
            let (spec, owner) = (once(world), running[world.rng().random_range(0..running.len())]);
            if let Submitted::Taken(id) = submit(world, owner, spec).await? {
                promises.note(owner, id);
                taken.push(id);
            }
        }
        for id in &*taken {
            property::never_runs_twice_at_once(*id)?;
        }
    }
    promises.are_kept(world).await
}
