//! One run of a node: composed as the program composes it (`skep::Node`), name for name, on a simulated environment
//! and without the API.
//!
//! The order is the same on purpose: directory, members -> transport -> actors; stop: actors, goodbye, tasks, store.

use crate::{crypto, net::Host, turns::Turns};
use anyhow::{Context as _, Result};
use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime};
use ractor::{Actor, ActorRef};
use skep_actors::{
    Context,
    blob::{self, Blobs},
    event::Events,
    ledger::Ledger,
    ownership::Ownership,
    runtime::{
        Directory, Members, Metrics, NodeId, Swarm, Tasks,
        store::{Medium, Store},
        supervise::{self, Supervisor},
        tasks::Spawner,
    },
    task::{Fences, kept::Keepers, scratch::Scratches},
    tree,
};
use skep_transport::{Env, Identity, Transport, TransportConfig};
use std::{
    collections::BTreeMap,
    future::Future,
    io,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

/// What a node is started with, instead of a configuration and a home.
pub struct Parts {
    /// The name that people see.
    pub name: String,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Its key, which survives restarts.
    pub key: [u8; 32],
    /// Everything random in this run.
    pub seed: [u8; 32],
    /// The wall clock at its start, since 1970.
    pub wall: Duration,
    /// When its machine lets it run.
    pub turns: Arc<Turns>,
    /// Its disk, which survives it.
    pub medium: Arc<Medium>,
    /// Its cable.
    pub host: Host,
    /// A real folder, the world's. Only the models' actor looks at it: it makes its folder in it and lists it.
    pub home: PathBuf,
    /// Whether it shows itself to the neighbourhood and looks for others there.
    pub mdns: bool,
}

/// A running node.
pub struct Node {
    context: Context,
    supervisor: ActorRef<supervise::Message>,
    transport: Weak<Transport>,
    tasks: Tasks,
    quic: Tasks,
}

impl Node {
    /// Starts it. Ready when its actors are.
    pub async fn start(parts: Parts) -> Result<Node> {
        let base = skep_actors::runtime::Env::paced(parts.seed, parts.wall, parts.turns);
        let quic = base.tasks();
        let env =
            Env { base, net: Arc::new(parts.host), quic: Arc::new(Quic(quic.spawner())), crypto: crypto::provider() };
        let identity = Arc::new(Identity::from_seed(parts.key));
        let store = Store::new(Arc::new(parts.medium.open().context("the disk")?))?;
        let id = identity.id();
        let (directory, members, metrics, tasks) =
            (Directory::paced(id, env.base.pace()), Members::new(id), Metrics::default(), env.base.tasks());

        let network = TransportConfig { mdns: parts.mdns, ..TransportConfig::new(parts.name.clone(), parts.listen) };
        let (shared, base) = ((directory.clone(), members.clone()), env.base.clone());
        let transport = Transport::start(network, env, identity, shared.0, shared.1, store.clone()).await?;
        let transport = Arc::new(transport);
        let (alive, swarm): (_, Arc<dyn Swarm>) = (Arc::downgrade(&transport), transport);

        let ledger = Ledger::open(&base, &store, &directory, &members, &swarm, tasks.spawner())?;
        let ownership = Ownership::open(&base, &store, &directory, &members, &ledger)?;
        let known = ledger.clone();
        let blobs = Blobs::within(&parts.home.join(&parts.name), &base, move || blob::needed(&known));
        let events = Events::new(id, &base);
        let context = Context {
            name: parts.name,
            env: base,
            directory,
            members,
            swarm,
            store,
            ledger,
            blobs,
            events,
            ownership,
            metrics,
            tasks: tasks.spawner(),
            models: parts.home.join("models"),
            scratches: Scratches::within(&parts.home),
            home: parts.home,
            exe: None,
            keepers: Keepers::default(),
            stop: Default::default(),
            fences: Fences::default(),
            labels: BTreeMap::new(),
        };
        let (supervisor, _) = Actor::spawn(None, Supervisor, tree::children(&context)).await?;
        Ok(Node { context, supervisor, transport: alive, tasks, quic })
    }

    /// Who it is.
    pub fn id(&self) -> NodeId {
        self.context.directory.id()
    }

    /// Its randomness and its wall clock.
    pub fn env(&self) -> &skep_actors::runtime::Env {
        &self.context.env
    }

    /// The way to every actor, here or elsewhere.
    pub fn directory(&self) -> &Directory {
        &self.context.directory
    }

    /// Who is in the swarm, as it sees it.
    pub fn members(&self) -> &Members {
        &self.context.members
    }

    /// The records that it shares with the others.
    pub fn ledger(&self) -> &Ledger {
        &self.context.ledger
    }

    /// Membership and trust.
    pub fn swarm(&self) -> &dyn Swarm {
        &*self.context.swarm
    }

    /// Says goodbye and closes everything, as `skep` does on a signal. Gives what must be gone soon.
    pub async fn stop(self) -> Weak<Transport> {
        let Node { supervisor, tasks, context, quic, transport } = self;
        let _ = supervisor.call(supervise::Message::Stop, None).await;
        let _ = context.swarm.leave(false).await;
        tasks.stop().await;
        let _ = context.store.close().await;
        drop((context, quic));
        transport
    }

    /// Ends it in the middle of whatever it does. Its cable and its disk are the caller's to cut first. Gives what
    /// must be gone soon.
    pub fn crash(self) -> Weak<Transport> {
        self.supervisor.kill();
        self.transport
    }
}

/// quinn's tokio runtime follows the paused clock already; its tasks have to end with the node.
#[derive(Debug)]
struct Quic(Spawner);

impl Runtime for Quic {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.0.spawn(task);
    }

    fn wrap_udp_socket(&self, _: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "a simulated node has no real socket"))
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}
