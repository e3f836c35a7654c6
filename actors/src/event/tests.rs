//! The bus, within one node and between two.

use super::{
    Event, Events, Heard, Subscription, What,
    bus::EVENTS_MAX,
    start,
    what::{Failure, Missed},
};
use crate::testing::Swarm;
use skep_runtime::{Env, NodeId};
use std::{sync::Arc, time::Duration};
use tokio::time::{advance, timeout};

const PATIENCE: Duration = Duration::from_secs(60);

fn word(text: &str) -> What {
    What::Error(Failure { detail: text.into() })
}

fn bus() -> Events {
    Events::new(NodeId::from_bytes([1; 32]), &Env::seeded([1; 32], Duration::ZERO))
}

async fn heard(subscription: &mut Subscription) -> Arc<Event> {
    match timeout(PATIENCE, subscription.next()).await.expect("something is heard") {
        Heard::Event(event) => event,
        Heard::Missed(count) => panic!("{count} were missed"),
    }
}

/// The next event that is no machine's load.
async fn said(subscription: &mut Subscription) -> (NodeId, What) {
    loop {
        let event = heard(subscription).await;
        if !matches!(event.what, What::NodeUpdated(_)) {
            return (event.node, event.what.clone());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn everyone_who_listens_hears_it_and_nothing_is_made_for_nobody() {
    let events = bus();
    events.publish(|| unreachable!("nobody listens"));
    let (mut one, mut other) = (events.subscribe(), events.subscribe());
    events.publish(|| word("a"));
    assert_eq!(heard(&mut one).await.what, word("a"));
    assert_eq!(heard(&mut other).await.what, word("a"));
    drop((one, other));
    events.publish(|| unreachable!("nobody listens any more"));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_too_slow_is_told_how_much_it_missed_and_nobody_waits_for_it() {
    let events = bus();
    let mut slow = events.subscribe();
    for n in 0..EVENTS_MAX + 7 {
        events.publish(|| word(&n.to_string()));
    }
    assert_eq!(slow.next().await, Heard::Missed(7));
    assert_eq!(heard(&mut slow).await.what, word("7"));
}

/// Two nodes with their EventsActors.
async fn pair() -> Swarm {
    let swarm = Swarm::new(2).await;
    for i in 0..2 {
        start(swarm.context(i), swarm.root(i)).await.expect("it starts");
    }
    swarm
}

#[tokio::test(start_paused = true)]
async fn what_happens_on_one_node_is_heard_on_the_other_and_once() {
    let swarm = pair().await;
    let (here, there) = (swarm.context(0), swarm.context(1));
    let (mut near, mut far) = (here.events.subscribe(), there.events.subscribe());
    assert!(here.events.reach(&here.members, PATIENCE).await.is_empty());
    assert!(there.events.reach(&there.members, PATIENCE).await.is_empty());
    there.events.publish(|| word("from there"));
    here.events.publish(|| word("from here"));
    // Each hears both, with whose they are; neither comes back to where it is from.
    let of = |i: usize, text: &str| (swarm.id(i), word(text));
    let mut all = vec![said(&mut near).await, said(&mut near).await, said(&mut far).await, said(&mut far).await];
    all.sort_by_key(|(node, _)| *node);
    let twice = |event: (NodeId, What)| [event.clone(), event];
    assert_eq!(all, [twice(of(0, "from here")), twice(of(1, "from there"))].concat());
    assert!(timeout(PATIENCE / 2, said(&mut near)).await.is_err(), "nothing is told twice");
}

#[tokio::test(start_paused = true)]
async fn each_node_sees_the_machines_for_itself() {
    let swarm = pair().await;
    let here = swarm.context(0);
    let mut near = here.events.subscribe();
    here.events.reach(&here.members, PATIENCE).await;
    swarm.cut(1);
    let (node, what) = said(&mut near).await;
    assert_eq!((node, what.name()), (swarm.id(0), "node_offline"));
}

#[tokio::test(start_paused = true)]
async fn a_link_that_was_down_is_told_of_and_used_again() {
    let swarm = pair().await;
    let (here, there) = (swarm.context(0), swarm.context(1));
    let mut near = here.events.subscribe();
    here.events.reach(&here.members, PATIENCE).await;
    swarm.cut(1);
    assert_eq!(said(&mut near).await.1.name(), "node_offline");
    advance(Duration::from_secs(1)).await;
    swarm.heal(1);
    // Its card may be looked at before it is followed again.
    assert!(here.events.reach(&here.members, PATIENCE).await.is_empty());
    there.events.publish(|| word("again"));
    loop {
        match said(&mut near).await {
            (node, What::Error(_)) => break assert_eq!(node, swarm.id(1)),
            (_, What::Missed(Missed { from, .. })) => assert_eq!(from, swarm.id(1)),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_to_which_nobody_listens_is_followed_by_none() {
    let swarm = pair().await;
    let (here, there) = (swarm.context(0), swarm.context(1));
    let near = here.events.subscribe();
    assert!(here.events.reach(&here.members, PATIENCE).await.is_empty());
    drop(near);
    tokio::time::sleep(Duration::from_secs(30)).await;
    there.events.publish(|| unreachable!("nobody listens, here or there"));
    // Whoever comes later is told again.
    let mut near = here.events.subscribe();
    assert!(here.events.reach(&here.members, PATIENCE).await.is_empty());
    there.events.publish(|| word("b"));
    assert_eq!(said(&mut near).await, (swarm.id(1), word("b")));
}
