//! The replicated ledger: what its members hold of it.

use crate::{World, clock};
use anyhow::{Result, bail, ensure};
use std::time::Duration;

/// How long after the last fault two ledgers may differ: they are compared when a member comes up and every 15 s, a
/// write that nobody confirmed is sent again then, and who has forgotten a deletion is a minute ahead of others.
const AGREE_TIMEOUT: Duration = Duration::from_secs(180);
const LOOK_PERIOD: Duration = Duration::from_millis(500);

/// Within [`AGREE_TIMEOUT`] after the last fault, and after the last write, any two members that see each other up hold
/// the same records in the same versions.
pub async fn ledgers_become_equal(world: &World) -> Result<()> {
    let start = clock::now();
    loop {
        let Some((some, other)) = differing(world)? else {
            world.note(&format!("the ledgers are equal after {} ms", (clock::now() - start).as_millis()));
            return Ok(());
        };
        if clock::now() - start >= AGREE_TIMEOUT {
            let count = |number| world.node(number).map(|node| node.ledger().count());
            bail!("the ledgers of {some} and {other} stay apart: {:?}, {:?}", count(some)?, count(other)?);
        }
        world.pass(LOOK_PERIOD).await;
    }
}

/// A machine that was evicted or has left holds no record that others wrote: it would act on them as their heir.
pub fn who_is_alone_holds_nothing_of_others(world: &World) -> Result<()> {
    for number in world.running().into_iter().filter(|number| world.is_alone(*number)) {
        let node = world.node(number)?;
        let writers = node.ledger().writers();
        ensure!(writers.iter().all(|writer| *writer == node.id()), "{number} holds records of {writers:?}");
    }
    Ok(())
}

fn differing(world: &World) -> Result<Option<(usize, usize)>> {
    let running = world.running();
    for (place, some) in running.iter().enumerate() {
        let here = world.node(*some)?;
        for other in &running[place + 1..] {
            let there = world.node(*other)?;
            if here.members().is_up(&there.id()) && here.ledger().digest() != there.ledger().digest() {
                return Ok(Some((*some, *other)));
            }
        }
    }
    Ok(None)
}
