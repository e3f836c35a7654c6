//! Gangs are given to whichever of four nodes, beside other commands, while nodes die, are emptied or cut off, and some
//! commands are cancelled. At no moment has an owner placed a part of one, and all of them end.

use crate::{
    World, clock,
    property::{self, Promises, Submitted, command, submit},
};
use anyhow::{Result, bail};
use rand::RngExt;
use skep_actors::{
    node::{self, messages::Duty},
    scheduler::{self, Course, Gang, Message, Spec, Wish},
};
use skep_runtime::Wire;
use std::time::Duration;
use uuid::Uuid;

const ROUNDS: u32 = 4;
/// Gangs of a round, and other commands.
const GANGS: usize = 3;
const OTHERS: usize = 3;
/// Cores of a node.
const CORES: u32 = 4;
/// How often is looked while something goes on.
const LOOK_PERIOD: Duration = Duration::from_millis(300);
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(4).await?;
    property::view_becomes_truth(world).await?;
    property::cards_are_known(world).await?;
    let nodes = world.shuffled();
    let mut promises = Promises::default();
    // Where nobody is cut off, more can be asked of heirs.
    let faults = if world.rng().random_bool(0.5) { 6 } else { 5 };
    for _ in 0..ROUNDS {
        let mut taken = Vec::new();
        for _ in 0..GANGS {
            let owner = nodes[world.rng().random_range(0..nodes.len())];
            give(world, owner, &mut promises, &mut taken).await?;
        }
        for _ in 0..OTHERS {
            let (owner, takes) = (nodes[world.rng().random_range(0..nodes.len())], world.rng().random_range(0..20));
            take(world, owner, command(takes), &mut promises).await?;
        }
        go_on(world, &mut promises, 6).await?;
        let at = world.rng().random_range(0..nodes.len());
        let one = nodes[at];
        match world.rng().random_range(0..faults) {
            0 => {
                // Faster than anybody misses it.
                world.crash(one)?;
                world.start(one).await?;
            }
            1 => {
                duty(world, one, Duty::NoWork { within_s: 3 }).await?;
                go_on(world, &mut promises, 20).await?;
                duty(world, one, Duty::Work).await?;
            }
            5 => {
                let others: Vec<usize> = nodes.iter().copied().filter(|node| *node != one).collect();
                world.partition(&[&[one], &others]);
                go_on(world, &mut promises, 20).await?;
                world.heal();
            }
            2 => {
                let (owner, id) = taken[world.rng().random_range(0..taken.len())];
                let desk = world.node(owner)?.directory().here::<Message>(scheduler::NAME);
                // It may have ended.
                let _ = desk.ask(ASK_TIMEOUT, |reply| Message::Cancel(Wire(id), reply)).await;
            }
            _ => {
                world.crash(one)?;
                go_on(world, &mut promises, 20).await?;
                world.start(one).await?;
            }
        }
        property::view_becomes_truth(world).await?;
        go_on(world, &mut promises, 10).await?;
        // One that has died three times under a command ends it: not more than one may die in its time.
        promises.come_to_an_end(world).await?;
        property::gangs_are_whole(world).await?;
    }
    property::heirs_have_whole_gangs(world).await?;
    property::ledgers_become_equal(world).await?;
    property::nothing_outlives_its_node(world).await
}

/// Gives a gang to a node: one that fits on three machines.
async fn give(world: &mut World, owner: usize, promises: &mut Promises, taken: &mut Vec<(usize, Uuid)>) -> Result<()> {
    let id = Uuid::from_u128(world.rng().random());
    let (apart, cpus) = (world.rng().random_range(0..4) == 0, world.rng().random_range(1..3u16));
    let most = if apart { 3 } else { 3 * CORES / u32::from(cpus) };
    let gang = Gang { id, count: world.rng().random_range(2..=most) };
    let retries = world.rng().random_range(0..2);
    for _ in 0..gang.count {
        let fails = retries > 0 && world.rng().random_range(0..10) == 0;
        let takes = world.rng().random_range(1..12);
        let line = if fails { format!("attempt; sleep {takes}; exit 3") } else { command(takes).command };
        let course = Course { gang: Some(gang), retries, ..Course::default() };
        let wish = Wish { apart: apart.then(|| id.to_string()), ..Wish::default() };
        let spec = Spec { course, wish, cpus, ..Spec::new(line) };
        taken.push((owner, take(world, owner, spec, promises).await?));
    }
    Ok(())
}

async fn take(world: &World, owner: usize, spec: Spec, promises: &mut Promises) -> Result<Uuid> {
    match submit(world, owner, spec).await? {
        Submitted::Taken(id) => {
            promises.note(owner, id);
            Ok(id)
        }
        other => bail!("a quiet node did not take a command: {other:?}"),
    }
}

/// Lets up to so many seconds pass, and looks all the while.
async fn go_on(world: &mut World, promises: &mut Promises, seconds: u64) -> Result<()> {
    let until = clock::now() + Duration::from_millis(world.rng().random_range(0..seconds * 1000));
    while clock::now() < until {
        property::gangs_are_whole(world).await?;
        promises.are_kept(world).await?;
        world.pass(LOOK_PERIOD).await;
    }
    Ok(())
}

async fn duty(world: &World, number: usize, duty: Duty) -> Result<()> {
    let node = world.node(number)?.directory().here::<node::Message>(node::NAME);
    Ok(node.ask(ASK_TIMEOUT, |reply| node::Message::Drain(Wire(duty), reply)).await??)
}
