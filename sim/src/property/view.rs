//! Membership: what nodes see, against what is.

use crate::{World, clock};
use anyhow::{Result, bail, ensure};
use skep_runtime::{NodeId, member::State};
use std::{collections::BTreeSet, time::Duration};

/// How long after the last fault the views may take: a crash is known after 8 s at the latest, and members that were
/// down are greeted every 5 s, three at a time.
const VIEW_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a card may take to be pulled, after its node is up.
const CARDS_TIMEOUT: Duration = Duration::from_secs(10);
/// How often is looked.
const LOOK_PERIOD: Duration = Duration::from_millis(100);

/// Within [`VIEW_TIMEOUT`] after the last fault every running node sees up exactly the members of its swarm that run
/// and that it reaches, and lists nobody who is not on its roster: no ghosts. Gives how long it took.
pub async fn view_becomes_truth(world: &World) -> Result<Duration> {
    let start = clock::now();
    loop {
        let wrong = differences(world)?;
        let took = clock::now() - start;
        if wrong.is_empty() {
            world.note(&format!("the views are true after {} ms", took.as_millis()));
            return Ok(took);
        }
        if took >= VIEW_TIMEOUT {
            bail!("{} s after the last fault the views are not true: {}", VIEW_TIMEOUT.as_secs(), wrong.join("; "));
        }
        world.pass(LOOK_PERIOD).await;
    }
}

/// While nothing is broken, true views stay true: nobody is suspected for nothing.
pub async fn view_stays_truth(world: &World, time: Duration) -> Result<()> {
    let start = clock::now();
    while clock::now() - start < time {
        world.pass(LOOK_PERIOD).await;
        let wrong = differences(world)?;
        if !wrong.is_empty() {
            bail!("nothing was broken, and yet: {}", wrong.join("; "));
        }
    }
    world.note("the views stayed true");
    Ok(())
}

/// Within [`CARDS_TIMEOUT`] after all are up, every running node has the card of everyone that it sees: what work is
/// placed by.
pub async fn cards_are_known(world: &World) -> Result<()> {
    let start = clock::now();
    loop {
        let mut missing = 0;
        for number in world.running() {
            let picture = world.node(number)?.members().now();
            missing += picture.values().filter(|member| member.card.is_empty()).count();
        }
        if missing == 0 {
            return Ok(());
        }
        let took = clock::now() - start;
        ensure!(took < CARDS_TIMEOUT, "{} s after all are up, {missing} cards are missing", took.as_secs());
        world.pass(LOOK_PERIOD).await;
    }
}

/// At this moment each of these nodes sees all of them up, whatever happens to others.
pub fn these_see_each_other(world: &World, nodes: &[usize]) -> Result<()> {
    these_see(world, nodes, nodes)
}

/// At this moment each of `watchers` sees all of `watched` up, whatever happens to others.
pub fn these_see(world: &World, watchers: &[usize], watched: &[usize]) -> Result<()> {
    for by in watchers {
        let picture = world.node(*by)?.members().now();
        for of in watched {
            let state = picture.get(&world.id(*of)).map(|member| member.state);
            ensure!(state == Some(State::Up), "{by} sees {of} as {state:?}, though it runs and others reach it");
        }
    }
    Ok(())
}

fn differences(world: &World) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    let (running, present) = (world.running(), world.present());
    // Looked at for every pair, ten times a second.
    let others: Vec<(usize, NodeId, bool)> =
        present.into_iter().map(|other| (other, world.id(other), running.contains(&other))).collect();
    let machines: BTreeSet<NodeId> = (0..world.count()).map(|machine| world.id(machine)).collect();
    for number in running {
        let picture = world.node(number)?.members().now();
        for (other, id, runs) in &others {
            // Everyone who is in this machine's swarm, and whether it should see them up.
            let is = world.together(number, *other).then(|| *runs && world.reaches(number, *other));
            let sees = picture.get(id).map(|member| member.state);
            if is != sees.map(|state| state == State::Up) {
                let is = is.map_or("no member", |up| if up { "up" } else { "down" });
                let sees = sees.map_or("no member".into(), |state| format!("{state:?}").to_lowercase());
                wrong.push(format!("{number} sees {other} as {sees}, it is {is}"));
            }
        }
        for ghost in picture.keys().filter(|id| !machines.contains(id)) {
            wrong.push(format!("{number} sees {ghost}, which no machine has"));
        }
    }
    Ok(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy;

    #[tokio::test(start_paused = true)]
    async fn a_member_that_vanished_without_the_worlds_knowledge_is_missed() {
        entropy::seed(7);
        clock::start();
        let mut world = World::new(7, crate::world::Wishes::default(), None).unwrap();
        world.form(2).await.unwrap();
        view_becomes_truth(&world).await.unwrap();
        world.unplug(1);
        let missed = view_stays_truth(&world, VIEW_TIMEOUT).await.unwrap_err().to_string();
        assert!(missed.contains("0 sees 1 as down, it is up"), "{missed}");
    }
}
