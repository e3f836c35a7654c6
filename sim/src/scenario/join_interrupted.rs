//! The network fails in the middle of a join. Whatever either side believes then, joining again once it is healed works.

use crate::{World, property};
use anyhow::Result;
use rand::RngExt;
use std::{pin::pin, time::Duration};
use tokio::time::timeout;

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(3).await?;
    property::view_becomes_truth(world).await?;
    let newcomer = world.add().await?;
    let after = Duration::from_millis(world.rng().random_range(0..400));
    let one_way = world.rng().random_bool(0.5);

    let invite = world.node(0)?.swarm().invite().await?;
    world.note(&format!("join {newcomer} at 0, interrupted after {} ms", after.as_millis()));
    let joined = {
        let mut join = pin!(world.node(newcomer)?.swarm().join(invite.line));
        match timeout(after, &mut join).await {
            Ok(joined) => joined,
            Err(_) => {
                match one_way {
                    true => world.cut(&[0, 1, 2], &[newcomer]),
                    false => world.partition(&[&[0, 1, 2], &[newcomer]]),
                }
                join.await
            }
        }
    };
    world.note(&format!("interrupted: {joined:?}"));
    let apart = world.rng().random_range(0..30_000);
    world.pass(Duration::from_millis(apart)).await;
    world.heal();
    let alone = world.node(newcomer)?.members().now().len() == 1;
    match alone {
        true => world.join(newcomer, 1).await?,
        // It was welcomed before the network failed.
        false => world.joined(newcomer, 0),
    }
    property::view_becomes_truth(world).await?;
    property::only_members_are_obeyed(world).await?;
    property::view_stays_truth(world, Duration::from_secs(10)).await
}
