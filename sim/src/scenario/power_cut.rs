//! Nodes take commands while their power fails, again and again, with writes under way and half written. What was
//! acknowledged is there afterwards, and done once. What nobody heard of is given to any node again, by its key.

use crate::{
    World,
    property::{self, Promises, Submitted, command, submit},
};
use anyhow::Result;
use futures::future::join_all;
use rand::RngExt;
use skep_actors::scheduler::Spec;
use std::{pin::pin, time::Duration};
use tokio::time::timeout;

const CUTS: u32 = 8;
/// Commands that are given at once, before a cut.
const COMMANDS_MAX: usize = 6;
/// How long after the first of them the power may fail: flushes take some milliseconds.
const CUT_AFTER_MAX: Duration = Duration::from_millis(12);

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(3).await?;
    property::view_becomes_truth(world).await?;
    let mut promises = Promises::default();
    for cut in 0..CUTS {
        let owner = world.rng().random_range(0..3);
        let commands = world.rng().random_range(1..=COMMANDS_MAX);
        let after = world.rng().random_range(0..=CUT_AFTER_MAX.as_millis() as u64);
        let takes = world.rng().random_range(0..4);
        // Those that are not answered before the power fails never were: whoever asked is told so by the silence.
        let keyed = |n| Spec { idempotency_key: Some(format!("{cut}, {n}")), ..command(takes) };
        let mut taken = Vec::new();
        {
            let asks = (0..commands).map(|n| submit(world, owner, keyed(n)));
            let mut asks = pin!(join_all(asks.map(|ask| async { taken_now(ask.await) })));
            if let Ok(answers) = timeout(Duration::from_millis(after), &mut asks).await {
                taken.extend(answers.into_iter().flatten());
            }
        }
        let unheard = taken.is_empty();
        taken.into_iter().for_each(|id| promises.note(owner, id));
        world.crash(owner)?;
        world.pass_up_to(Duration::from_secs(12)).await;
        world.start(owner).await?;
        promises.are_kept(world).await?;
        if unheard {
            property::view_becomes_truth(world).await?;
            let again = world.rng().random_range(0..3);
            let asks = join_all((0..commands).map(|n| submit(world, again, keyed(n)))).await;
            asks.into_iter().filter_map(taken_now).for_each(|id| promises.note(again, id));
        }
        world.pass_up_to(Duration::from_secs(4)).await;
    }
    world.note(&format!("{} commands were acknowledged", promises.count()));
    property::view_becomes_truth(world).await?;
    promises.come_to_an_end(world).await?;
    property::ledgers_become_equal(world).await?;
    property::nothing_outlives_its_node(world).await
}

fn taken_now(submitted: Result<Submitted>) -> Option<uuid::Uuid> {
    match submitted {
        Ok(Submitted::Taken(id)) => Some(id),
        Ok(Submitted::Refused(_) | Submitted::Unheard(_)) | Err(_) => None,
    }
}
