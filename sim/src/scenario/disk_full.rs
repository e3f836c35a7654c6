//! A node's disk fills up while it works. It refuses what it can't write down, and says why; what it had acknowledged
//! stays; it remains a member that answers. With room again it works again, without a restart.

use crate::{
    World,
    property::{self, Promises, Submitted, command, submit},
};
use anyhow::{Result, ensure};
use rand::RngExt;
use skep_actors::scheduler::ScheduleError;
use std::time::Duration;

const COMMANDS: usize = 60;

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(3).await?;
    property::view_becomes_truth(world).await?;
    property::cards_are_known(world).await?;
    let full = world.shuffled()[0];
    let room = world.rng().random_range(0..8_000);
    world.fill_disk(full, Some(room));

    let (mut promises, mut refused) = (Promises::default(), 0);
    for _ in 0..COMMANDS {
        match submit(world, full, command(1)).await? {
            Submitted::Taken(id) => promises.note(full, id),
            Submitted::Refused(error @ ScheduleError::Store(_)) => {
                ensure!(error.to_string().contains("full"), "a full disk is called: {error}");
                refused += 1;
            }
            other => anyhow::bail!("a full disk makes a submission {other:?}"),
        }
        world.pass_up_to(Duration::from_millis(400)).await;
    }
    world.note(&format!("{} commands were taken, {refused} refused", promises.count()));
    ensure!(refused > 0, "the disk never was full");
    property::only_members_are_obeyed(world).await?;
    property::view_stays_truth(world, Duration::from_secs(10)).await?;

    world.fill_disk(full, None);
    match submit(world, full, command(1)).await? {
        Submitted::Taken(id) => promises.note(full, id),
        other => anyhow::bail!("with room again a submission is {other:?}"),
    }
    promises.come_to_an_end(world).await?;
    world.crash(full)?;
    world.start(full).await?;
    property::view_becomes_truth(world).await?;
    promises.come_to_an_end(world).await?;
    property::nothing_outlives_its_node(world).await
}
