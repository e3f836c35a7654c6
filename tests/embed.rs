//! A node inside another program: what it leaves when it is stopped, dropped, or can't start.

#![allow(clippy::unwrap_used, reason = "a failed test panics and says where")]

use skep::{
    Node, StartError,
    runtime::{NodeId, member::State},
};
use std::{net::SocketAddr, path::Path, time::Duration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Longer than anything takes that works, on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

fn any() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn builder(home: &Path) -> skep::Builder {
    Node::builder().home(home).listen(any()).api(any()).mdns(false)
}

fn homes() -> (TempDir, TempDir) {
    (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap())
}

/// Waits until `node` sees `other` so.
async fn sees(node: &Node, other: NodeId, wanted: impl Fn(State) -> bool) {
    let mut changes = node.members().changes();
    let seen = changes.wait_for(|picture| picture.get(&other).is_some_and(|m| wanted(m.state)));
    timeout(PATIENCE, seen).await.expect("in time").unwrap();
}

#[tokio::test]
async fn a_dropped_node_is_gone_for_the_others_and_its_folder_is_free() {
    let (first, second) = homes();
    let alder = builder(first.path()).start().await.unwrap();
    let invite = alder.swarm().invite().await.unwrap();
    let birch = builder(second.path()).join(invite.line).start().await.unwrap();
    let id = birch.id();
    sees(&alder, id, |state| state == State::Up).await;
    let api = birch.api_addr().unwrap();
    let mut idle = TcpStream::connect(api).await.unwrap();
    drop(birch);
    assert!(!second.path().join("node.json").exists(), "it takes its note back");
    sees(&alder, id, |state| state != State::Up).await;
    assert_eq!(timeout(PATIENCE, idle.read(&mut [0; 8])).await.expect("its connections end").unwrap_or(0), 0);
    let again = builder(second.path()).start().await.expect("nothing of the dropped one is left");
    assert_eq!(again.id(), id);
    again.stop().await;
    alder.stop().await;
}

#[tokio::test]
async fn a_start_that_fails_closes_what_it_opened() {
    let (first, second) = homes();
    let alder = builder(first.path()).start().await.unwrap();
    // The API's port is the first that is looked at: nobody hears of a node that can't have it.
    let taken = builder(second.path()).api(alder.api_addr().unwrap()).start().await.err();
    assert!(matches!(taken, Some(StartError::Api(..))), "{taken:?}");
    assert!(!second.path().join("key").exists(), "nothing else was opened");

    let line = alder.swarm().invite().await.unwrap().line;
    let birch = builder(second.path()).join(line.clone()).start().await.unwrap();
    birch.stop().await;
    let third = tempfile::tempdir().unwrap();
    let refused = builder(third.path()).join(line).start().await.err();
    assert!(matches!(refused, Some(StartError::Join(_))), "{refused:?}");
    let cedar = builder(third.path()).start().await.expect("the store and the ports are free again");
    cedar.stop().await;
    alder.stop().await;
}

#[tokio::test]
async fn a_request_in_flight_is_answered_by_a_node_that_stops() {
    let home = tempfile::tempdir().unwrap();
    let node = builder(home.path()).start().await.unwrap();
    let (at, token) = (node.api_addr().unwrap(), std::fs::read_to_string(home.path().join("token")).unwrap());
    let mut stream = TcpStream::connect(at).await.unwrap();
    let body = r#"{"token":"skep1nonsense"}"#;
    let head = format!(
        "POST /api/cluster/join HTTP/1.1\r\nHost: {at}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        token.trim(),
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // It says "continue" when a handler waits for the body: from now on the request is in flight.
    let mut answer = vec![0; 1024];
    let read = stream.read(&mut answer).await.unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 100"));
    let rest = async {
        // The listener closes first; what the request needs is still there.
        while TcpStream::connect(at).await.is_ok() {
            tokio::task::yield_now().await;
        }
        stream.write_all(body.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    };
    let ((), text) = tokio::join!(node.stop(), rest);
    assert!(text.starts_with("HTTP/1.1 400") && text.contains("not an invite"), "{text}");
}
