//! An actor of one's own, published on one node and called from another as if it were here.
//!
//! `cargo run --example own_actor`

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use ractor_cluster_derive::RactorClusterMessage;
use skep::{Node, runtime::Wire};
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

/// Counts words.
struct Counter;

/// What it understands. Every argument and answer crosses nodes as `Wire`, which takes any serde type.
#[derive(RactorClusterMessage)]
enum Message {
    /// How many words, and how many in all so far.
    #[rpc]
    Count(Wire<String>, RpcReplyPort<Wire<(usize, usize)>>),
}

impl Actor for Counter {
    type Msg = Message;
    type State = usize;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Message>, (): ()) -> Result<usize, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        total: &mut usize,
    ) -> Result<(), ActorProcessingErr> {
        let Message::Count(Wire(text), reply) = message;
        let words = text.split_whitespace().count();
        *total += words;
        // Whoever asked may have stopped waiting: that is no failure of ours.
        let _ = reply.send(Wire((words, *total)));
        Ok(())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let node = |name: &str| Node::builder().home(folder.path().join(name)).name(name).listen(any).mdns(false).no_api();
    let alder = node("alder").start().await?;
    let birch = node("birch").join(alder.swarm().invite().await?.line).start().await?;

    birch.directory().spawn("counter", Counter, (), None).await?;
    let counter = alder.directory().at::<Message>(birch.id(), "counter");
    for text in ["the skep hums", "and every bee knows its way"] {
        let (words, total) = counter.ask(Duration::from_secs(5), |to| Message::Count(Wire(text.into()), to)).await?;
        println!("{words} words, {total} in all, counted on {}", counter.node());
    }

    birch.stop().await;
    alder.stop().await;
    Ok(())
}
