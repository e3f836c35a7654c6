//! Everything at once, drawn at random for as long as asked: nothing is ever quiet. Then calm, in which all must be well.
//!
//! Each run weighs the kinds of blows anew (swarm testing): some storms never crash a node, others do little else, and
//! what hides behind one kind of fault shows under another.

use super::{errand::Errand, spending::Spending};
use crate::{
    World, clock,
    net::Link,
    property::{self, Promises, Submitted, command, submit},
};
use anyhow::{Context, Result, ensure};
use rand::RngExt;
use std::{collections::BTreeSet, time::Duration};

const NODES: usize = 6;
const UNTIL: Duration = Duration::from_secs(120);
/// The pause between two blows, at most.
const PAUSE_MAX: Duration = Duration::from_secs(6);
/// A node sleeps this long, at most.
const SLEEP_MAX: Duration = Duration::from_secs(15);
/// Machines that come in the middle of it.
const NEWCOMERS_MAX: usize = 3;
/// Goals of one storm: they are what costs processor time.
const ERRANDS_MAX: usize = 3;

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
    Leave,
    Evict,
    Newcomer,
    DiskFull,
    DiskRoom,
    Command,
    Spend,
    Goal,
}

const BLOWS: [Blow; 20] = [
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
    Blow::Leave,
    Blow::Evict,
    Blow::Newcomer,
    Blow::DiskFull,
    Blow::DiskRoom,
    Blow::Command,
    Blow::Spend,
    Blow::Goal,
];

pub(super) async fn run(world: &mut World) -> Result<()> {
    let (nodes, until) = (world.wishes().nodes.unwrap_or(NODES), world.wishes().until.unwrap_or(UNTIL));
    let model = world.plant_model()?;
    // Without discovery, machines that all move while nobody looks could never find each other again.
    world.set_mdns(true);
    world.form(nodes).await?;
    property::view_becomes_truth(world).await?;
    let weights = BLOWS.map(|_| world.rng().random_range(0..=4_u32));
    let (start, pause) = (clock::now(), PAUSE_MAX.mul_f64(world.rng().random_range(0.1..1.0)));
    let all = world.shuffled();
    let mut storm = Storm {
        model,
        newcomers: 0,
        doubts: Vec::new(),
        evicted: BTreeSet::new(),
        promises: Promises::default(),
        spending: Spending::open(world, all[0], &all[1..]).await?,
        errands: Vec::new(),
    };
    while clock::now() - start < until {
        let blow = drawn(world, &weights);
        storm.strike(world, blow).await?;
        storm.promises.are_kept(world).await?;
        world.pass_up_to(pause).await;
    }
    calm(world).await?;
    storm.resolve(world).await?;
    property::view_becomes_truth(world).await?;
    property::only_members_are_obeyed(world).await?;
    storm.promises.come_to_an_end(world).await?;
    storm.ends(world).await?;
    property::ledgers_become_equal(world).await?;
    storm.promises.are_kept(world).await?;
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

/// An answer that was lost: whether it came to pass shows when all is calm.
enum Doubt {
    Joined { number: usize, door: usize },
    Evicted { by: usize, number: usize },
    Left { number: usize },
}

/// What is under way, and what is known of it.
struct Storm {
    model: &'static str,
    newcomers: usize,
    doubts: Vec<Doubt>,
    /// Whose keys may be out for good.
    evicted: BTreeSet<usize>,
    promises: Promises,
    spending: Spending,
    errands: Vec<Errand>,
}

impl Storm {
    async fn strike(&mut self, world: &mut World, blow: Blow) -> Result<()> {
        let all = world.shuffled();
        let nodes = all.len();
        let (one, other) = (all[0], all[1]);
        let runs = world.node(one).is_ok();
        match blow {
            Blow::Crash if runs => world.crash(one)?,
            Blow::Stop if runs => world.stop(one).await?,
            Blow::Start if !runs => {
                // With a full disk it would say so and not start.
                world.fill_disk(one, None);
                world.start(one).await?;
                property::outsiders_are_refused(world).await?;
            }
            Blow::Partition => {
                let (some, others) = all.split_at(world.rng().random_range(1..nodes));
                world.partition(&[some, others]);
            }
            Blow::CutOneWay => {
                let (some, others) = all.split_at(world.rng().random_range(1..nodes));
                world.cut(some, others);
            }
            Blow::Heal => {
                world.heal();
                property::outsiders_are_refused(world).await?;
            }
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
            Blow::Join => self.join(world, one, other).await,
            Blow::Leave if runs && !world.is_alone(one) => {
                if let Err(error) = world.leave(one).await {
                    world.note(&format!("{error:#}"));
                    self.doubts.push(Doubt::Left { number: one });
                }
            }
            Blow::Evict => self.evict(world, one, other).await,
            Blow::Newcomer if runs && self.newcomers < NEWCOMERS_MAX => {
                self.newcomers += 1;
                let newcomer = world.add().await?;
                self.join(world, newcomer, one).await;
            }
            Blow::DiskFull if runs => {
                let room = world.rng().random_range(0..20_000);
                world.fill_disk(one, Some(room));
            }
            Blow::DiskRoom => world.fill_disk(one, None),
            Blow::Command if runs => {
                let takes = world.rng().random_range(0..10);
                // A refusal, or no answer, promises nothing.
                if let Submitted::Taken(id) = submit(world, one, command(takes)).await? {
                    self.promises.note(one, id);
                }
            }
            Blow::Spend if runs && self.spending.spenders().any(|spender| spender == one) => {
                self.spending.spend(world, one).await?;
            }
            Blow::Goal if runs && self.errands.len() < ERRANDS_MAX => {
                match Errand::start(world, one, self.model).await {
                    Ok(errand) => self.errands.push(errand),
                    Err(error) => world.note(&format!("{one} took no goal: {error:#}")),
                }
            }
            Blow::Crash
            | Blow::Stop
            | Blow::Start
            | Blow::Leave
            | Blow::Newcomer
            | Blow::DiskFull
            | Blow::Command
            | Blow::Spend
            | Blow::Goal => {}
        }
        Ok(())
    }

    /// A machine that is alone asks to be let in again. In a storm that may fail, or seem to.
    async fn join(&mut self, world: &mut World, number: usize, door: usize) {
        if !world.is_alone(number) || world.node(number).is_err() || world.node(door).is_err() {
            return;
        }
        if self.evicted.contains(&number) {
            // Its key may be out for good, or still in if the eviction failed; it says yes to a swarm that it believes
            // to be in.
            let joined = world.ask_to_join(number, door).await;
            world.note(&format!("an evicted key asks to join: {joined:?}"));
            self.doubts.push(Doubt::Joined { number, door });
        } else if let Err(error) = world.join(number, door).await {
            world.note(&format!("the join failed: {error:#}"));
            self.doubts.push(Doubt::Joined { number, door });
        }
    }

    async fn evict(&mut self, world: &mut World, by: usize, number: usize) {
        if !world.together(by, number) || world.node(by).is_err() {
            return;
        }
        self.evicted.insert(number);
        if let Err(error) = world.evict(by, number).await {
            world.note(&format!("the eviction failed: {error:#}"));
            self.doubts.push(Doubt::Evicted { by, number });
        }
    }

    /// Finds out what came of the answers that were lost.
    async fn resolve(&mut self, world: &mut World) -> Result<()> {
        for doubt in std::mem::take(&mut self.doubts) {
            match doubt {
                Doubt::Joined { number, door } if world.is_alone(number) => {
                    let picture = world.node(number)?.members().now();
                    if picture.contains_key(&world.id(door)) {
                        world.joined(number, door);
                    } else if picture.len() == 1 && !self.evicted.contains(&number) {
                        // Whoever is alone can ask again, unless its key is out for good, and nothing is in the way.
                        world.join(number, door).await.context("all is calm, and")?;
                    }
                }
                Doubt::Evicted { by, number } if world.together(by, number) => {
                    if world.node(by)?.members().get(&world.id(number)).is_none() {
                        world.evicted(number);
                    }
                }
                Doubt::Left { number } if !world.is_alone(number) => {
                    if world.node(number)?.members().now().len() == 1 {
                        world.evicted(number);
                    }
                }
                Doubt::Joined { .. } | Doubt::Evicted { .. } | Doubt::Left { .. } => {}
            }
        }
        Ok(())
    }

    /// Goals end with an answer or a reason; no token is burnt beyond a budget.
    async fn ends(&self, world: &World) -> Result<()> {
        for errand in &self.errands {
            while errand.ended(world).await?.is_none() {
                world.pass(Duration::from_secs(1)).await;
            }
            errand.is_kept(world).await?;
        }
        self.spending.is_kept(world).await
    }
}

/// The storm is over: the network is whole, every machine is awake, fast and has room, every node runs.
async fn calm(world: &mut World) -> Result<()> {
    world.heal();
    world.mend();
    world.wake();
    for number in world.present() {
        world.fill_disk(number, None);
        if world.node(number).is_err() {
            world.start(number).await?;
        }
    }
    let running = world.running().len();
    ensure!(running == world.present().len(), "{running} nodes run when all is calm");
    Ok(())
}
