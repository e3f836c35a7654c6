//! Trust: whose messages reach an actor.

use crate::{World, clock};
use anyhow::{Result, bail};
use futures::future::join_all;
use skep_actors::node::{self, Message};
use skep_transport::defaults::CONNECT_TIMEOUT;
use std::time::Duration;

/// How long an ask may take: two dials, and a few lost packets.
const ASK_TIMEOUT: Duration = Duration::from_secs(8);
/// How long a dial that was begun before the last fault was mended may still go on, and a call with it.
const MEND_TIMEOUT: Duration = CONNECT_TIMEOUT;
/// The pause before a member is asked again.
const ASK_PAUSE: Duration = Duration::from_millis(250);

/// Where nothing was ever broken, a node's actors answer every member of its swarm that sees it up, at the first call,
/// and nobody else, ever.
pub async fn only_members_are_obeyed_at_once(world: &World) -> Result<()> {
    obeyed(world, Duration::ZERO).await
}

/// A node's actors answer every member of its swarm that reaches it, [`MEND_TIMEOUT`] after it sees it up at the
/// latest, and nobody else, ever.
pub async fn only_members_are_obeyed(world: &World) -> Result<()> {
    obeyed(world, MEND_TIMEOUT).await
}

/// Nobody who is off a node's roster is obeyed by it: not even who does not know yet that it was evicted, and dials with a
/// key and a roster that were good once. Holds at any moment, also while nobody's view is true.
pub async fn outsiders_are_refused(world: &World) -> Result<()> {
    let running = world.running();
    let mut pairs = Vec::new();
    for from in &running {
        let strangers = running.iter().filter(|to| !world.together(*from, **to) && world.reaches(*from, **to));
        for to in strangers {
            // One takes the other for a member still, and not the other way round.
            let (theirs, its) = (world.node(*from)?.members(), world.node(*to)?.members());
            if theirs.get(&world.id(*to)).is_some() && its.get(&world.id(*from)).is_none() {
                pairs.push((*from, *to));
            }
        }
    }
    world.note(&format!("outsiders dial: {pairs:?}"));
    join_all(pairs.into_iter().map(|(from, to)| rightly(world, from, to, Duration::ZERO))).await.into_iter().collect()
}

async fn obeyed(world: &World, patience: Duration) -> Result<()> {
    let running = world.running();
    let pairs = running.iter().flat_map(|from| running.iter().map(move |to| (*from, *to)));
    let pairs = pairs.filter(|(from, to)| from != to && world.reaches(*from, *to));
    let start = clock::now();
    join_all(pairs.map(|(from, to)| rightly(world, from, to, patience))).await.into_iter().collect::<Result<()>>()?;
    world.note(&format!("members are obeyed, others are not; it took {} ms", (clock::now() - start).as_millis()));
    Ok(())
}

async fn rightly(world: &World, from: usize, to: usize, patience: Duration) -> Result<()> {
    let status = world.node(from)?.directory().at::<Message>(world.id(to), node::NAME);
    let start = clock::now();
    loop {
        match (status.ask(ASK_TIMEOUT, Message::Status).await, world.together(from, to)) {
            (Ok(status), true) if status.id == world.id(to) => return Ok(()),
            (Ok(_), true) => bail!("{from} asked {to} and another node answered"),
            (Ok(_), false) => bail!("{to} obeyed {from}, which is not on its roster"),
            (Err(_), false) => return Ok(()),
            (Err(error), true) if clock::now() - start >= patience => {
                bail!("{from} and {to} are members of one swarm, and {to} does not answer: {error}")
            }
            (Err(_), true) => world.pass(ASK_PAUSE).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{entropy, property, world::Wishes};

    #[tokio::test(start_paused = true)]
    async fn a_node_that_obeys_who_was_evicted_is_found() {
        entropy::seed(7);
        clock::start();
        let mut world = World::new(7, Wishes::default(), None).unwrap();
        world.form(2).await.unwrap();
        property::view_becomes_truth(&world).await.unwrap();
        rightly(&world, 0, 1, Duration::ZERO).await.unwrap();
        // Nobody told the nodes.
        world.evicted(1);
        let found = rightly(&world, 1, 0, Duration::ZERO).await.unwrap_err().to_string();
        assert!(found.contains("obeyed"), "{found}");
    }
}
