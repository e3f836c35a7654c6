//! An invite admits one machine, once, also if two use it at the same moment, and none after its time.

use crate::{World, property};
use anyhow::{Result, ensure};
use futures::future::join;
use skep_transport::defaults::INVITE_VALID;
use std::time::Duration;

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(3).await?;
    property::view_becomes_truth(world).await?;
    let (one, two, late) = (world.add().await?, world.add().await?, world.add().await?);
    let invite = world.node(0)?.swarm().invite().await?.line;
    let stale = world.node(1)?.swarm().invite().await?.line;

    let uses = join(world.node(one)?.swarm().join(invite.clone()), world.node(two)?.swarm().join(invite.clone()));
    let (first, second) = uses.await;
    world.note(&format!("both use one invite: {first:?}, {second:?}"));
    ensure!(first.is_ok() != second.is_ok(), "one invite admitted {}", if first.is_ok() { "both" } else { "nobody" });
    world.joined(if first.is_ok() { one } else { two }, 0);
    property::view_becomes_truth(world).await?;

    ensure!(world.node(late)?.swarm().join(invite).await.is_err(), "a used invite admitted somebody");
    world.pass(INVITE_VALID + Duration::from_secs(1)).await;
    ensure!(world.node(late)?.swarm().join(stale).await.is_err(), "an invite admitted somebody after its time");
    property::view_becomes_truth(world).await?;
    property::only_members_are_obeyed(world).await
}
