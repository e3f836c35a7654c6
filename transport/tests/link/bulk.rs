//! Streams beside the link: tickets, ends, and what they do to calls.

use super::{
    actors::{at, clerk, say},
    node::{Node, PATIENCE, pair},
};
use skep_runtime::{Error, Stream};
use skep_transport::{
    defaults::{BULK_STREAMS_MAX, STREAM_BYTES_MAX},
    mesh::Protocol,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
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
async fn control_goes_on_beside_as_many_streams_as_bulk_may_have() {
    let (a, b) = pair();
    let mut quiet = Vec::new();
    for _ in 0..BULK_STREAMS_MAX {
        quiet.push(opened(&a, &b).await);
    }
    let (mut send, mut recv) = timeout(PATIENCE, a.mesh.control(b.id, Protocol::Card)).await.unwrap().unwrap();
    send.write_all(b"still there?").await.unwrap();
    send.finish().unwrap();
    assert_eq!(timeout(PATIENCE, recv.read_to_end(100)).await.unwrap().unwrap(), b"still there?");
    // One more waits for a place, and gets that of one that ends.
    let ticket = skep_runtime::Env::machine().ticket();
    let expected = b.directory.expect(a.id, ticket).unwrap();
    let (more, ()) = tokio::join!(a.directory.open(b.id, ticket), async { drop(quiet.pop()) });
    assert!(more.is_ok() && expected.opened().await.is_ok());
}

#[tokio::test]
async fn calls_go_on_beside_bulk_and_beside_streams_that_nobody_reads() {
    let (a, b) = pair();
    clerk(&b.directory, "clerk").await;
    let mut unread = Vec::new();
    for _ in 0..16 {
        let (mut near, far) = opened(&a, &b).await;
        // As much as the other side's window takes, and half of it again, which stays on the way.
        let mut flood = Box::pin(async move {
            let _ = near.writer.write_all(&vec![0; STREAM_BYTES_MAX as usize * 3 / 2]).await;
            near
        });
        assert!(futures::poll!(flood.as_mut()).is_pending());
        unread.push((flood, far));
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
        for _ in 0..50 {
            say(&clerk, "hello").await.unwrap();
        }
    };
    // None of it waits for those that nobody reads, which would be for ever.
    let floods = futures::future::join_all(unread.iter_mut().map(|(flood, _)| flood));
    let work = async { tokio::join!(writing, reading, calling) };
    let ((), bytes, ()) = tokio::select! {
        done = timeout(PATIENCE, work) => done.unwrap(),
        _ = floods => panic!("nobody reads them"),
    };
    assert_eq!(bytes, 16 << 20);
}
