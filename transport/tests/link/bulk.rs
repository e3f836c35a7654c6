//! Streams beside the link: tickets, ends, and what they do to calls.

use super::{
    actors::{at, clerk, say},
    node::{Node, PATIENCE, pair},
};
use skep_runtime::{Error, Stream};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};

/// Opens a stream from `a` to `b` with a fresh ticket.
async fn opened(a: &Node, b: &Node) -> (Stream, Stream) {
    let expected = b.directory.expect(a.id, skep_runtime::Env::machine().ticket()).unwrap();
    let ticket = expected.ticket();
    let (near, far) = tokio::join!(a.directory.open(b.id, ticket), expected.opened());
    (near.unwrap(), far.unwrap())
}

#[tokio::test]
async fn bytes_go_both_ways_and_each_direction_ends_by_itself() {
    let (a, b) = pair();
    let (mut near, mut far) = opened(&a, &b).await;
    near.writer.write_all(b"question").await.unwrap();
    near.writer.shutdown().await.unwrap();
    let mut heard = Vec::new();
    far.reader.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"question");
    far.writer.write_all(b"answer").await.unwrap();
    far.writer.shutdown().await.unwrap();
    heard.clear();
    near.reader.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"answer");
}

#[tokio::test]
async fn a_writer_that_is_dropped_before_its_end_leaves_no_whole_looking_half() {
    let (a, b) = pair();
    let (mut near, mut far) = opened(&a, &b).await;
    near.writer.write_all(b"half").await.unwrap();
    drop(near.writer);
    assert!(far.reader.read_to_end(&mut Vec::new()).await.is_err());
}

#[tokio::test]
async fn a_ticket_works_once_and_for_its_peer_alone() {
    let (a, b) = pair();
    let c = Node::start(3);
    c.know(&b);
    b.know(&c);
    let expected = b.directory.expect(a.id, skep_runtime::Env::machine().ticket()).unwrap();
    let ticket = expected.ticket();
    assert!(matches!(c.directory.open(b.id, ticket).await, Err(Error::Refused(_))), "it is another node's");
    assert!(a.directory.open(b.id, ticket).await.is_ok());
    assert!(expected.opened().await.is_ok());
    assert!(matches!(a.directory.open(b.id, ticket).await, Err(Error::Refused(_))), "it was used");
}

#[tokio::test]
async fn calls_go_on_beside_bulk_and_beside_streams_that_nobody_reads() {
    let (a, b) = pair();
    clerk(&b.directory, "clerk").await;
    let mut unread = Vec::new();
    for _ in 0..16 {
        let (mut near, far) = opened(&a, &b).await;
        // Until the other side's window is full.
        let block = vec![0; 64 << 10];
        while timeout(Duration::from_millis(20), near.writer.write_all(&block)).await.is_ok() {}
        unread.push((near, far));
    }
    let (mut near, mut far) = opened(&a, &b).await;
    let writing = async {
        let block = vec![1; 64 << 10];
        for _ in 0..256 {
            near.writer.write_all(&block).await.unwrap();
        }
        near.writer.shutdown().await.unwrap();
    };
    let reading = async {
        let mut read = Vec::new();
        far.reader.read_to_end(&mut read).await.unwrap()
    };
    let calling = async {
        let clerk = at(&a.directory, b.id, "clerk");
        let mut slowest = Duration::ZERO;
        for _ in 0..50 {
            let start = Instant::now();
            say(&clerk, "hello").await.unwrap();
            slowest = slowest.max(start.elapsed());
        }
        slowest
    };
    let ((), bytes, slowest) = timeout(PATIENCE, async { tokio::join!(writing, reading, calling) }).await.unwrap();
    assert_eq!(bytes, 16 << 20);
    assert!(slowest < Duration::from_secs(2), "a call took {slowest:?}");
}
