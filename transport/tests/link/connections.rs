//! Who is connected to whom: keys, members, closes, restarts.

use super::{
    actors::{Order, at, clerk, say},
    node::{Node, PATIENCE, pair},
};
use bytes::Bytes;
use skep_runtime::{Error, NodeId, Tasks};
use skep_transport::{
    Mesh,
    mesh::{self, Cause, Event, Protocol, Reason},
};
use std::net::SocketAddr;
use tokio::time::timeout;

#[tokio::test]
async fn both_sides_prove_their_keys_and_hear_of_the_connection() {
    let (mut a, mut b) = pair();
    a.mesh.connect(b.id).await.unwrap();
    assert_eq!(a.event().await, Event::Up { peer: b.id, addr: b.mesh.local_addr() });
    assert_eq!(b.event().await, Event::Up { peer: a.id, addr: a.mesh.local_addr() });
    assert!(a.mesh.is_up(&b.id) && b.mesh.is_up(&a.id));
}

#[tokio::test]
async fn whoever_holds_another_key_than_the_dialled_one_is_refused() {
    let (a, b) = pair();
    let other = NodeId::from_bytes([9; 32]);
    a.roster.admit(other);
    a.mesh.learn(other, b.mesh.local_addr());
    assert!(matches!(a.mesh.connect(other).await, Err(mesh::Error::Unreachable(_, _))));
    assert!(matches!(a.mesh.join(b.mesh.local_addr(), Some(other)).await, Err(mesh::Error::WrongKey(_))));
}

#[tokio::test]
async fn a_node_that_is_off_the_roster_on_either_side_is_told_so() {
    let (a, b) = (Node::start(1), Node::start(2));
    a.know(&b);
    assert!(matches!(a.mesh.connect(b.id).await, Err(mesh::Error::NotMember(id)) if id == b.id));
    assert!(matches!(b.mesh.connect(a.id).await, Err(mesh::Error::NotMember(id)) if id == a.id));
    let answer = say(&at(&a.directory, b.id, "clerk"), "hello").await;
    assert!(matches!(answer, Err(Error::Refused(_))), "{answer:?}");
}

#[tokio::test]
async fn a_stranger_speaks_the_join_protocol_with_whoever_it_expects_or_anyone() {
    let (host, stranger) = (Node::start(1), Node::start(2));
    for expected in [None, Some(host.id)] {
        let (who, (mut send, mut recv)) = stranger.mesh.join(host.mesh.local_addr(), expected).await.unwrap();
        assert_eq!(who, host.id);
        send.write_all(b"let me in").await.unwrap();
        send.finish().unwrap();
        assert_eq!(recv.read_to_end(100).await.unwrap(), b"let me in");
    }
}

#[tokio::test]
async fn a_control_stream_reaches_the_other_sides_gate() {
    let (a, b) = pair();
    let (mut send, mut recv) = a.mesh.control(b.id, Protocol::Card).await.unwrap();
    send.write_all(b"card?").await.unwrap();
    send.finish().unwrap();
    assert_eq!(recv.read_to_end(100).await.unwrap(), b"card?");
}

#[tokio::test]
async fn datagrams_wait_for_the_dial_and_arrive_after_the_connection_is_up() {
    let (a, mut b) = pair();
    assert!(a.mesh.datagram(b.id, Bytes::from_static(b"probe")));
    assert!(matches!(b.event().await, Event::Up { peer, .. } if peer == a.id));
    assert_eq!(b.event().await, Event::Datagram { peer: a.id, bytes: Bytes::from_static(b"probe") });
    let largest = Bytes::from(vec![7; Mesh::DATAGRAM_BYTES_MAX]);
    assert!(a.mesh.datagram(b.id, largest.clone()));
    assert_eq!(b.event().await, Event::Datagram { peer: a.id, bytes: largest });
    assert!(!a.mesh.datagram(NodeId::from_bytes([9; 32]), Bytes::new()), "nobody knows where that is");
}

#[tokio::test]
async fn a_closed_connection_fails_the_calls_in_flight_at_once_and_is_dialled_again() {
    let (mut a, mut b) = pair();
    clerk(&b.directory, "clerk").await;
    let clerk = at(&a.directory, b.id, "clerk");
    say(&clerk, "hello").await.unwrap();
    for reason in [Reason::Down, Reason::Evicted] {
        let (waiting, ()) = tokio::join!(clerk.ask(PATIENCE, Order::Never), async {
            say(&clerk, "hello").await.unwrap();
            a.mesh.close(&b.id, reason);
        });
        assert_eq!(waiting, Err(Error::LinkDown(b.id)));
        assert_eq!(say(&clerk, "again").await.as_deref(), Ok("again!"));
    }
    for _ in 0..2 {
        assert!(matches!(a.event().await, Event::Up { .. }));
        assert_eq!(a.event().await, Event::Down { peer: b.id, cause: Cause::Closed });
    }
    assert!(matches!(b.event().await, Event::Up { .. }));
    assert!(matches!(b.event().await, Event::Down { cause: Cause::Lost(_), .. }));
    assert!(matches!(b.event().await, Event::Up { .. }));
    assert_eq!(b.event().await, Event::Down { peer: a.id, cause: Cause::NotMember });
}

#[tokio::test]
async fn a_peer_that_closes_fails_our_calls_in_flight_at_once() {
    let (a, b) = pair();
    clerk(&b.directory, "clerk").await;
    let clerk = at(&a.directory, b.id, "clerk");
    let (waiting, ()) = tokio::join!(clerk.ask(PATIENCE * 10, Order::Never), async {
        say(&clerk, "hello").await.unwrap();
        b.mesh.close(&a.id, Reason::Down);
    });
    assert_eq!(waiting, Err(Error::LinkDown(b.id)));
}

#[tokio::test]
async fn a_node_that_shuts_down_says_goodbye_and_can_do_nothing_more() {
    let (mut a, b) = pair();
    a.mesh.connect(b.id).await.unwrap();
    assert!(matches!(a.event().await, Event::Up { .. }));
    timeout(PATIENCE, b.mesh.shutdown()).await.unwrap();
    assert_eq!(a.event().await, Event::Down { peer: b.id, cause: Cause::Goodbye });
    assert!(matches!(b.mesh.connect(a.id).await, Err(mesh::Error::Stopped)));
    timeout(PATIENCE, b.mesh.shutdown()).await.expect("twice does no harm");
}

#[tokio::test]
async fn dropping_the_last_mesh_closes_everything() {
    let (mut a, b) = pair();
    a.mesh.connect(b.id).await.unwrap();
    assert!(matches!(a.event().await, Event::Up { .. }));
    let id = b.id;
    drop(b);
    assert_eq!(a.event().await, Event::Down { peer: id, cause: Cause::Goodbye });
}

/// Starts node 2 in a runtime of its own, connects `a` to it, and stops it between two polls: nothing is said to
/// anyone. Returns where it listened.
async fn crashed_peer(a: &mut Node) -> SocketAddr {
    let process = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let b = process.spawn(async { Node::start(2) }).await.unwrap();
    a.know(&b);
    b.know(a);
    a.mesh.connect(b.id).await.unwrap();
    assert!(matches!(a.event().await, Event::Up { .. }));
    Tasks::default().spawner().compute(move || process.shutdown_timeout(PATIENCE)).await.unwrap();
    b.mesh.local_addr()
}

#[tokio::test]
async fn a_node_that_crashed_and_is_back_on_its_port_is_connected_again() {
    let mut a = Node::start(1);
    let addr = crashed_peer(&mut a).await;
    let b = Node::start_at(2, addr);
    b.know(&a);
    b.mesh.connect(a.id).await.unwrap();
    assert!(matches!(a.event().await, Event::Down { .. }));
    assert!(matches!(a.event().await, Event::Up { .. }));
}

#[tokio::test]
async fn a_node_that_crashed_and_is_back_elsewhere_is_connected_again_when_its_old_self_stays_silent() {
    let mut a = Node::start(1);
    crashed_peer(&mut a).await;
    let b = Node::start(2);
    b.know(&a);
    b.mesh.connect(a.id).await.unwrap();
    assert!(matches!(a.event().await, Event::Down { .. }));
    assert!(matches!(a.event().await, Event::Up { .. }));
    assert_eq!(a.mesh.addresses(&b.id)[0], b.mesh.local_addr());
}
