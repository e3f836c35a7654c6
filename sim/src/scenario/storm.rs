//! Everything at once, drawn at random for as long as asked: nothing is ever quiet. Then calm, in which all must be well.
//!
//! Each run weighs the kinds of blows anew (swarm testing): some storms never crash a node, others do little else, and
//! what hides behind one kind of fault shows under another.

use crate::{
    World, clock,
    net::Link,
    property::{self, Promises, Submitted, command, submit},
};
use anyhow::Result;
use rand::RngExt;
use std::time::Duration;

const NODES: usize = 6;
const UNTIL: Duration = Duration::from_secs(120);
/// The pause between two blows, at most.
const PAUSE_MAX: Duration = Duration::from_secs(6);
/// A node sleeps this long, at most.
const SLEEP_MAX: Duration = Duration::from_secs(15);

/// What may happen.
#[derive(Debug, Clone, Copy)]
enum Blow {
    Crash,
    Stop,
    Start,
    Partition,
    CutOneWay,
    Heal,
    BadLink,
    Mend,
    Slow,
    Sleep,
    Renumber,
    Join,
    Evict,
    Command,
}

const BLOWS: [Blow; 14] = [
    Blow::Crash,
    Blow::Stop,
    Blow::Start,
    Blow::Partition,
    Blow::CutOneWay,
    Blow::Heal,
    Blow::BadLink,
    Blow::Mend,
    Blow::Slow,
    Blow::Sleep,
    Blow::Renumber,
    Blow::Join,
    Blow::Evict,
    Blow::Command,
];

pub(super) async fn run(world: &mut World) -> Result<()> {
    let (nodes, until) = (world.wishes().nodes.unwrap_or(NODES), world.wishes().until.unwrap_or(UNTIL));
    // Without discovery, machines that all move while nobody looks could never find each other again.
    world.set_mdns(true);
    world.form(nodes).await?;
    property::view_becomes_truth(world).await?;
    let weights = BLOWS.map(|_| world.rng().random_range(0..=4_u32));
    let (start, pause) = (clock::now(), PAUSE_MAX.mul_f64(world.rng().random_range(0.1..1.0)));
    let mut doubts = Vec::new();
    let mut promises = Promises::default();
    while clock::now() - start < until {
        let blow = drawn(world, &weights);
        doubts.extend(strike(world, blow, &mut promises).await?);
        world.pass_up_to(pause).await;
    }
    calm(world).await?;
    resolve(world, doubts).await?;
    property::view_becomes_truth(world).await?;
    property::only_members_are_obeyed(world).await?;
    promises.come_to_an_end(world).await?;
    property::ledgers_become_equal(world).await?;
    property::view_stays_truth(world, Duration::from_secs(20)).await?;
    property::nothing_outlives_its_node(world).await
}

fn drawn(world: &mut World, weights: &[u32; BLOWS.len()]) -> Blow {
    let sum: u32 = weights.iter().sum();
    let mut place = world.rng().random_range(0..=sum);
    let hit = BLOWS.iter().zip(weights).find(|(_, weight)| {
        let here = place < **weight;
        place = place.saturating_sub(**weight);
        here
    });
    hit.map_or(Blow::Heal, |(blow, _)| *blow)
}

async fn strike(world: &mut World, blow: Blow, promises: &mut Promises) -> Result<Option<Doubt>> {
    let all = world.shuffled();
    let nodes = all.len();
    let (one, other) = (all[0], all[1]);
    let runs = world.node(one).is_ok();
    match blow {
        Blow::Crash if runs => world.crash(one)?,
        Blow::Stop if runs => world.stop(one).await?,
        Blow::Start if !runs => world.start(one).await?,
        Blow::Partition => {
            let (some, others) = all.split_at(world.rng().random_range(1..nodes));
            world.partition(&[some, others]);
        }
        Blow::CutOneWay => {
            let (some, others) = all.split_at(world.rng().random_range(1..nodes));
            world.cut(some, others);
        }
        Blow::Heal => world.heal(),
        Blow::BadLink => {
            let loss = world.rng().random_range(0.0..0.6);
            let link = Link { loss, ..Link::drawn(world.rng()) };
            match world.rng().random_bool(0.5) {
                true => world.link(one, other, link),
                false => world.link_one_way(one, other, link),
            }
        }
        Blow::Mend => world.mend(),
        Blow::Slow => {
            let every = world.rng().random_range(1..8);
            world.slow(one, every);
        }
        Blow::Sleep => {
            let time = world.rng().random_range(0..SLEEP_MAX.as_millis() as u64);
            world.sleep(one, Duration::from_millis(time));
        }
        Blow::Renumber => world.renumber(one)?,
        Blow::Join => return Ok(try_to_join(world, one, other).await),
        Blow::Evict => return Ok(try_to_evict(world, one, other).await),
        Blow::Command if runs => {
            let takes = world.rng().random_range(0..10);
            // A refusal, or no answer, promises nothing.
            if let Submitted::Taken(id) = submit(world, one, command(takes)).await? {
                promises.note(one, id);
            }
        }
        Blow::Crash | Blow::Stop | Blow::Start | Blow::Command => {}
    }
    Ok(None)
}

/// An answer that was lost: whether it came to pass shows when all is calm.
enum Doubt {
    Joined { number: usize, door: usize },
    Evicted { by: usize, number: usize },
}

/// A machine that is alone asks to be let in again. In a storm that may fail, or seem to.
async fn try_to_join(world: &mut World, number: usize, door: usize) -> Option<Doubt> {
    if !world.is_alone(number) || world.node(number).is_err() || world.node(door).is_err() {
        return None;
    }
    let error = world.join(number, door).await.err()?;
    world.note(&format!("the join failed: {error:#}"));
    Some(Doubt::Joined { number, door })
}

async fn try_to_evict(world: &mut World, by: usize, number: usize) -> Option<Doubt> {
    if !world.together(by, number) || world.node(by).is_err() {
        return None;
    }
    let error = world.evict(by, number).await.err()?;
    world.note(&format!("the eviction failed: {error:#}"));
    Some(Doubt::Evicted { by, number })
}

/// Finds out what came of the answers that were lost.
async fn resolve(world: &mut World, doubts: Vec<Doubt>) -> Result<()> {
    for doubt in doubts {
        match doubt {
            // Whoever is alone can always ask again.
            Doubt::Joined { number, door } if world.is_alone(number) => {
                match world.node(number)?.members().now().len() {
                    // An evicted key stays out for good; then it is alone, which the views must show.
                    1 => {
                        try_to_join(world, number, door).await;
                    }
                    _ => world.joined(number, door),
                }
            }
            Doubt::Evicted { by, number } if world.together(by, number) => {
                if world.node(by)?.members().get(&world.id(number)).is_none() {
                    world.evicted(number);
                }
            }
            Doubt::Joined { .. } | Doubt::Evicted { .. } => {}
        }
    }
    Ok(())
}

/// The storm is over: the network is whole, every machine is fast, every node runs.
async fn calm(world: &mut World) -> Result<()> {
    world.heal();
    world.mend();
    for number in world.present() {
        if world.node(number).is_err() {
            world.start(number).await?;
        }
    }
    // Whoever sleeps wakes by itself.
    world.pass(SLEEP_MAX).await;
    Ok(())
}
