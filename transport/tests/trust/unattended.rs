//! Machines that share a swarm key and nobody's hands.

use crate::node::{Node, PATIENCE};
use skep_runtime::{Swarm, member::State};
use skep_transport::join::Secret;
use tokio::time::timeout;

fn key() -> Option<Secret> {
    Some(Secret::new("a swarm key for tests only").unwrap())
}

async fn start(seed: u8) -> Node {
    Node::start_with(seed, |config| config.swarm_key = key()).await
}

#[tokio::test]
async fn machines_with_one_key_become_one_swarm_without_hands() {
    let mut nodes = Vec::new();
    for seed in 1..=5 {
        nodes.push(start(seed).await);
    }
    for a in &nodes {
        nodes.iter().filter(|b| b.id != a.id).for_each(|b| a.sees(b));
    }
    for node in &nodes {
        node.sees_so_many(5).await;
    }
}

#[tokio::test]
async fn two_swarms_with_one_key_merge_when_they_meet() {
    let (a, b, c, d) = (start(1).await, start(2).await, start(3).await, start(4).await);
    a.sees(&b);
    c.sees(&d);
    b.sees(&a);
    d.sees(&c);
    a.sees_so_many(2).await;
    c.sees_so_many(2).await;
    for (x, y) in [(&a, &c), (&b, &c), (&c, &a), (&d, &a), (&c, &b), (&d, &b)] {
        x.sees(y);
    }
    for node in [&a, &b, &c, &d] {
        node.sees_so_many(4).await;
    }
}

#[tokio::test]
async fn another_key_admits_nobody_and_leaves_the_owner_to_approve() {
    let a = start(1).await;
    let other = Some(Secret::new("quite another key for tests").unwrap());
    let b = Node::start_with(2, |config| config.swarm_key = other).await;
    a.sees(&b);
    b.sees(&a);
    let knocked = async {
        while a.transport.waiting().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, knocked).await.unwrap();
    assert_eq!(a.members.now().len(), 1);
    assert_eq!(a.members.get(&a.id).unwrap().state, State::Up);
}
