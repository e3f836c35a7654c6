//! A guest: an ordinary `ractor_cluster` program, in a process of its own, attaches to a node on its machine,
//! publishes an actor to the swarm and calls one that another node published.
//!
//! `cargo run --example guest` starts two nodes, and itself once more as the guest of the second.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use anyhow::{Context, bail, ensure};
use ractor::{Actor, ActorProcessingErr, ActorRef, Message as _, RpcReplyPort, call_t, message::SerializedMessage, pg};
use ractor_cluster::{
    NodeEventSubscription, NodeServer, NodeServerMessage, RactorClusterMessage, node::NodeServerSessionInformation,
};
use skep::{
    Node,
    runtime::{Reach, Wire},
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::AsyncReadExt,
    process::Command,
    sync::{mpsc, oneshot},
};

/// How long either side waits for the other, in milliseconds.
const PATIENCE_MS: u64 = 5_000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [door, cookie] => guest(door, cookie).await,
        _ => nodes().await,
    }
}

// ---- The actor that both sides have one of: a message as ractor_cluster wants it, answers as `Wire` ----

struct Greeter(String);

#[derive(RactorClusterMessage)]
enum Greeting {
    #[rpc]
    Hello(Wire<String>, RpcReplyPort<Wire<String>>),
}

impl Actor for Greeter {
    type Msg = Greeting;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Greeting>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<Greeting>, message: Greeting, (): &mut ()) -> Result<(), ActorProcessingErr> {
        let Greeting::Hello(Wire(who), reply) = message;
        // Whoever asked may have stopped waiting: that is no failure of ours.
        let _ = reply.send(Wire(format!("hello {who}, says {} in process {}", self.0, std::process::id())));
        Ok(())
    }
}

// ---- The nodes: alder publishes an actor of its own, birch has a door ----

async fn nodes() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let node = |name: &str| Node::builder().home(folder.path().join(name)).name(name).listen(any).mdns(false).no_api();
    let alder = node("alder").start().await?;
    let birch = node("birch").guests(any).join(alder.swarm().invite().await?.line).start().await?;
    // Published for guests; what is not, they can't call.
    alder.directory().spawn_within(Reach::Guests, "greeter", Greeter("alder".into()), (), None).await?;

    let door = birch.door().context("birch has a door")?;
    // The cookie itself goes on no command line: the guest is told where it lies.
    let mut guest = Command::new(std::env::current_exe()?)
        .arg(door.addr().to_string())
        .arg(folder.path().join("birch").join("guest"))
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    door.published().wait_for(|names| names.contains("visitor")).await?;
    // From its own node and from another: the same call.
    for node in [&alder, &birch] {
        let visitor = node.directory().at::<Greeting>(birch.id(), "visitor");
        let hello = Wire(node.context().name.clone());
        println!("{}", visitor.ask(Duration::from_millis(PATIENCE_MS), |to| Greeting::Hello(hello, to)).await?);
    }

    // The guest goes when its input ends.
    drop(guest.stdin.take());
    ensure!(guest.wait().await?.success(), "the guest failed");
    birch.stop().await;
    alder.stop().await;
    Ok(())
}

// ---- The guest: five steps ----

/// What a node's gateway understands (`skep_transport::guest::Message`): plain strings, numbers and bytes, so that a
/// guest needs no crate of ours. The first byte of an answer is 0, or says what went wrong; a text follows then.
#[derive(RactorClusterMessage)]
enum Gateway {
    #[rpc]
    Ask { node: String, name: String, variant: String, args: Vec<u8>, deadline_ms: u64, reply: RpcReplyPort<Vec<u8>> },
    #[rpc]
    Nodes(RpcReplyPort<String>),
}

async fn guest(door: &str, cookie: &str) -> anyhow::Result<()> {
    // 1. A server with the node's cookie and a name that no other guest has, on loopback.
    let (cookie, name) = (std::fs::read_to_string(cookie)?, format!("guest-{}", std::process::id()));
    let server = NodeServer::new(0, cookie.trim().into(), name.clone(), name, None, None);
    let (server, _) = Actor::spawn(None, server.with_listen_addr(Ipv4Addr::LOCALHOST.into()), ()).await?;

    // 2. Connect it to the door; the session is ready, or is gone: a wrong cookie.
    let (ready, mut session) = mpsc::unbounded_channel();
    let subscription = Box::new(Session(ready));
    server.cast(NodeServerMessage::SubscribeToEvents { id: "guest".into(), subscription })?;
    ractor_cluster::client_connect(&server, door).await?;
    ensure!(session.recv().await == Some(true), "the door is closed: is the cookie the node's?");

    // 3. The gateway is there now; its group is the node's id.
    let scope = "skep/gateway".to_owned();
    let node = pg::which_scoped_groups(&scope).pop().context("no gateway")?;
    let gateway: ActorRef<Gateway> = pg::get_scoped_members(&scope, &node).pop().context("no gateway")?.into();

    // 4. Publish: join the node's scope under the name. Every node of the swarm may call it from now on.
    let (visitor, _) = Actor::spawn(None, Greeter("a guest".into()), ()).await?;
    pg::join_scoped(format!("skep/published/{node}"), "visitor".into(), vec![visitor.get_cell()]);

    // 5. Call: pack the message by its own derive, and send the bytes with an address.
    let nodes = call_t!(gateway, Gateway::Nodes, PATIENCE_MS)?;
    let alder = nodes.lines().find_map(|line| line.strip_suffix(" alder")).context("alder is not up")?;
    let (port, answer) = oneshot::channel();
    let Ok(SerializedMessage::Call { variant, args, reply: back, .. }) =
        Greeting::Hello(Wire("guest".into()), port.into()).serialize()
    else {
        bail!("only calls have an answer")
    };
    let ask = |reply| Gateway::Ask {
        node: alder.into(),
        name: "greeter".into(),
        variant,
        args,
        deadline_ms: PATIENCE_MS,
        reply,
    };
    let patience = Duration::from_millis(2 * PATIENCE_MS);
    match gateway.call(ask, Some(patience)).await?.success_or(anyhow::anyhow!("the node did not answer"))?.split_first()
    {
        Some((0, bytes)) => back.send(bytes.to_vec())?,
        Some((_, why)) => bail!("{}", String::from_utf8_lossy(why)),
        None => bail!("an empty answer"),
    }
    println!("{}", answer.await?.0);

    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    Ok(())
}

/// Tells when the session is ready (`true`) or gone (`false`).
struct Session(mpsc::UnboundedSender<bool>);

impl NodeEventSubscription for Session {
    fn node_session_opened(&self, _: NodeServerSessionInformation) {}

    fn node_session_authenticated(&self, _: NodeServerSessionInformation) {}

    fn node_session_ready(&self, _: NodeServerSessionInformation) {
        let _ = self.0.send(true);
    }

    fn node_session_disconnected(&self, _: NodeServerSessionInformation) {
        let _ = self.0.send(false);
    }
}
