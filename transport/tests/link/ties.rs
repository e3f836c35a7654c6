//! Both dial at once: one connection is left, and no call is lost.

use super::{
    actors::{at, clerk, say},
    node::{Node, pair},
};
use futures::future::join_all;
use skep_transport::mesh::{Cause, Event, Reason};

#[tokio::test]
async fn a_simultaneous_dial_ends_in_one_connection_and_loses_no_call() {
    for _ in 0..20 {
        let (mut a, mut b) = pair();
        clerk(&a.directory, "clerk").await;
        clerk(&b.directory, "clerk").await;
        let (to_a, to_b) = (at(&b.directory, a.id, "clerk"), at(&a.directory, b.id, "clerk"));
        let calls = (0..20).flat_map(|_| [say(&to_a, "hello"), say(&to_b, "hello")]);
        for answer in join_all(calls).await {
            assert_eq!(answer.as_deref(), Ok("hello!"));
        }
        // Closing it by hand is the next thing that happens: there was no second one.
        a.mesh.close(&b.id, Reason::Down);
        assert!(matches!(a.event().await, Event::Up { .. }));
        assert_eq!(a.event().await, Event::Down { peer: b.id, cause: Cause::Closed });
        assert!(matches!(b.event().await, Event::Up { .. }));
        assert!(matches!(b.event().await, Event::Down { .. }));
    }
}

#[tokio::test]
async fn three_nodes_that_all_dial_at_once_are_all_connected() {
    let nodes = [Node::start(1), Node::start(2), Node::start(3)];
    for (i, node) in nodes.iter().enumerate() {
        clerk(&node.directory, "clerk").await;
        nodes.iter().enumerate().filter(|(j, _)| *j != i).for_each(|(_, other)| node.know(other));
    }
    let calls = nodes.iter().flat_map(|from| nodes.iter().filter(|to| to.id != from.id).map(move |to| (from, to)));
    let answers =
        join_all(calls.map(|(from, to)| async move { say(&at(&from.directory, to.id, "clerk"), "hello").await })).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}
