//! One machine is behind a link of 1 Mbit/s that is full of its own traffic at times. It is a member like the others.

use crate::{
    World,
    net::Link,
    property::{self, Promises, Submitted, submit},
};
use anyhow::Result;
use rand::RngExt;
use skep_actors::scheduler::Spec;
use std::time::Duration;

const COMMANDS: usize = 12;
/// What each of them says: a second of the link.
const SAID_BYTES: usize = 120_000;

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(4).await?;
    let far = world.add().await?;
    for near in 0..far {
        world.link(far, near, Link::SLOW);
    }
    world.join(far, 0).await?;
    property::view_becomes_truth(world).await?;
    property::only_members_are_obeyed(world).await?;
    property::cards_are_known(world).await?;
    let mut promises = Promises::default();
    for _ in 0..COMMANDS {
        // Given by somebody else to it: what it says crosses the link, and fills it.
        let spec = Spec { node: Some(world.name(far).into()), ..command_that_says(SAID_BYTES) };
        let owner = world.rng().random_range(0..far);
        if let Submitted::Taken(id) = submit(world, owner, spec).await? {
            promises.note(owner, id);
        }
        property::view_stays_truth(world, Duration::from_secs(3)).await?;
    }
    promises.come_to_an_end(world).await?;
    property::view_stays_truth(world, Duration::from_secs(20)).await
}

fn command_that_says(bytes: usize) -> Spec {
    Spec { cpus: 1, ..Spec::new(format!("flood {bytes}; echo; attempt")) }
}
