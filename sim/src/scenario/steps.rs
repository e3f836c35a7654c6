//! Commands that wait for others, are run again when they fail, have a deadline or make others wait, given to whichever of
//! four nodes, while one dies, comes back, or is emptied. Each begins only after all that it waits for, and all end.

use crate::{
    World,
    property::{self, Promises, Submitted, command, submit},
};
use anyhow::{Result, bail};
use rand::RngExt;
use skep_actors::{
    node::{self, messages::Duty},
    scheduler::{Course, Spec, messages::Priority},
};
use skep_runtime::Wire;
use std::time::Duration;
use uuid::Uuid;

const ROUNDS: u32 = 4;
/// Steps of a round.
const STEPS: usize = 8;
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(4).await?;
    property::view_becomes_truth(world).await?;
    property::cards_are_known(world).await?;
    let nodes = world.shuffled();
    let mut promises = Promises::default();
    for _ in 0..ROUNDS {
        let mut steps: Vec<(Uuid, Duration)> = Vec::new();
        for _ in 0..STEPS {
            let owner = nodes[world.rng().random_range(0..nodes.len())];
            let wanted = world.rng().random_range(0..3usize);
            let drawn: Vec<usize> = (0..wanted).map(|_| world.rng().random_range(0..steps.len().max(1))).collect();
            let after: Vec<(Uuid, Duration)> = drawn.into_iter().filter_map(|at| steps.get(at).copied()).collect();
            let seconds = world.rng().random_range(1..8);
            let course = Course {
                after: after.iter().map(|(id, _)| *id).collect(),
                retries: world.rng().random_range(0..3),
                deadline_s: if world.rng().random_range(0..8) == 0 { 20 } else { 0 },
                preempts: world.rng().random_range(0..4) == 0,
                ..Course::default()
            };
            let fails = world.rng().random_range(0..10) == 0;
            let line = if fails { format!("attempt; sleep {seconds}; exit 3") } else { command(seconds).command };
            let priority = [Priority::Low, Priority::Normal, Priority::Urgent][world.rng().random_range(0..3)];
            let spec = Spec { course, priority, command: line, ..command(seconds) };
            match submit(world, owner, spec).await? {
                Submitted::Taken(id) => {
                    promises.note_after(owner, id, after);
                    steps.push((id, Duration::from_secs(seconds)));
                }
                other => bail!("a quiet node did not take a command: {other:?}"),
            }
        }
        world.pass_up_to(Duration::from_secs(8)).await;
        let one = nodes[world.rng().random_range(0..nodes.len())];
        if world.rng().random_range(0..3) == 0 {
            duty(world, one, Duty::NoWork { within_s: 3 }).await?;
            world.pass_up_to(Duration::from_secs(20)).await;
            duty(world, one, Duty::Work).await?;
        } else {
            world.crash(one)?;
            world.pass_up_to(Duration::from_secs(20)).await;
            world.start(one).await?;
        }
        promises.are_kept(world).await?;
        property::view_becomes_truth(world).await?;
        // One that has died three times under a command ends it: not more than one may die in its time.
        promises.come_to_an_end(world).await?;
    }
    property::ledgers_become_equal(world).await?;
    property::nothing_outlives_its_node(world).await
}

async fn duty(world: &World, number: usize, duty: Duty) -> Result<()> {
    let node = world.node(number)?.directory().here::<node::Message>(node::NAME);
    Ok(node.ask(ASK_TIMEOUT, |reply| node::Message::Drain(Wire(duty), reply)).await??)
}
