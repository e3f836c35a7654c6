//! A node whose cable can be pulled and whose disk outlives it.

use futures::{channel::mpsc, stream::BoxStream};
use quinn::{AsyncUdpSocket, UdpPoller, udp};
use skep_runtime::{
    Directory, Member, Members, NodeId, Swarm,
    member::State,
    store::{Medium, Store, Tear},
};
use skep_transport::{
    Env, Identity, Transport, TransportConfig,
    env::{Beacon, Net, Sighting},
};
use std::{
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::timeout;

/// Longer than anything takes that works, on a machine with much else to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Node {
    pub(crate) transport: Transport,
    pub(crate) members: Members,
    pub(crate) id: NodeId,
    seed: u8,
    medium: Arc<Medium>,
    pulled: Arc<AtomicBool>,
    show: mpsc::UnboundedSender<Sighting>,
}

impl Node {
    pub(crate) async fn start(seed: u8) -> Node {
        Node::start_with(seed, |_| {}).await
    }

    pub(crate) async fn start_with(seed: u8, choose: impl FnOnce(&mut TransportConfig)) -> Node {
        Node::start_on(seed, Medium::new(), choose).await
    }

    async fn start_on(seed: u8, medium: Arc<Medium>, choose: impl FnOnce(&mut TransportConfig)) -> Node {
        let mut config = TransportConfig::new(format!("node{seed}"), SocketAddr::from(([127, 0, 0, 1], 0)));
        choose(&mut config);
        let pulled = Arc::new(AtomicBool::new(false));
        let (show, sightings) = mpsc::unbounded();
        let cable = Cable { pulled: pulled.clone(), lan: Env::machine().net, sightings: Mutex::new(Some(sightings)) };
        let env = Env { net: Arc::new(cable), ..Env::machine() };
        let identity = Arc::new(Identity::from_seed([seed; 32]));
        let id = identity.id();
        let members = Members::new(id);
        let store = Store::new(Arc::new(medium.open().unwrap())).unwrap();
        let transport =
            Transport::start(config, env, identity, Directory::new(id), members.clone(), store).await.unwrap();
        Node { transport, members, id, seed, medium, pulled, show }
    }

    /// Dies without a word, as by a power cut.
    pub(crate) fn kill(self) -> Dead {
        self.pulled.store(true, Ordering::Relaxed);
        self.medium.crash(Tear::Clean);
        Dead { seed: self.seed, medium: self.medium }
    }

    /// Stops with a goodbye.
    pub(crate) async fn stop(self) -> Dead {
        self.transport.stop().await;
        self.medium.crash(Tear::Clean);
        Dead { seed: self.seed, medium: self.medium }
    }

    /// What discovery would tell this node.
    pub(crate) fn sees(&self, other: &Node) {
        self.show.unbounded_send(Sighting::Here(other.id, other.transport.local_addr())).unwrap();
    }

    pub(crate) fn pull_cable(&self) {
        self.pulled.store(true, Ordering::Relaxed);
    }

    pub(crate) fn plug_in(&self) {
        self.pulled.store(false, Ordering::Relaxed);
    }

    pub(crate) fn at(&self) -> SocketAddr {
        self.transport.local_addr()
    }

    /// Waits until this node sees `other` so.
    pub(crate) async fn sees_as(&self, other: NodeId, state: State) {
        self.sees_when(other, |m| m.state == state).await;
    }

    pub(crate) async fn sees_when(&self, other: NodeId, holds: impl Fn(&Member) -> bool) {
        let mut changes = self.members.changes();
        let seen = changes.wait_for(|picture| picture.get(&other).is_some_and(|member| holds(member)));
        if timeout(PATIENCE, seen).await.is_err() {
            panic!("node{} sees {:#?}", self.seed, self.members.now());
        }
    }

    pub(crate) async fn sees_so_many(&self, size: usize) {
        let mut changes = self.members.changes();
        let seen = changes.wait_for(|picture| picture.len() == size && picture.values().all(|m| m.state == State::Up));
        if timeout(PATIENCE, seen).await.is_err() {
            panic!("node{} sees {:#?}", self.seed, self.members.now());
        }
    }

    pub(crate) async fn does_not_know(&self, other: NodeId) {
        let mut changes = self.members.changes();
        timeout(PATIENCE, changes.wait_for(|picture| !picture.contains_key(&other))).await.unwrap().unwrap();
    }

    /// Joins `other` by the line of an invite.
    pub(crate) async fn joins(&self, other: &Node) {
        let invite = other.transport.invite().await.unwrap();
        self.transport.join(invite.line).await.unwrap();
    }
}

/// What is left of a node: its key and its disk.
pub(crate) struct Dead {
    seed: u8,
    medium: Arc<Medium>,
}

impl Dead {
    pub(crate) async fn restart(self) -> Node {
        self.restart_with(|_| {}).await
    }

    pub(crate) async fn restart_with(self, choose: impl FnOnce(&mut TransportConfig)) -> Node {
        Node::start_on(self.seed, self.medium, choose).await
    }
}

/// A swarm of `size`, all of whom see each other.
pub(crate) async fn swarm(size: u8) -> Vec<Node> {
    let mut nodes = vec![Node::start(1).await];
    for seed in 2..=size {
        let node = Node::start(seed).await;
        node.joins(&nodes[0]).await;
        nodes.push(node);
    }
    for node in &nodes {
        node.sees_so_many(usize::from(size)).await;
    }
    nodes
}

/// The machine's sockets behind a switch, and discovery by the test's hand.
struct Cable {
    pulled: Arc<AtomicBool>,
    lan: Arc<dyn Net>,
    sightings: Mutex<Option<mpsc::UnboundedReceiver<Sighting>>>,
}

impl Net for Cable {
    fn bind(&self, at: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(Arc::new(Socket { inner: self.lan.bind(at)?, pulled: self.pulled.clone() }))
    }

    fn discover(&self, _: Beacon) -> BoxStream<'static, Sighting> {
        let sightings = self.sightings.lock().unwrap().take();
        sightings.map_or_else(|| Box::pin(futures::stream::pending()) as BoxStream<'static, Sighting>, |s| Box::pin(s))
    }
}

#[derive(Debug)]
struct Socket {
    inner: Arc<dyn AsyncUdpSocket>,
    pulled: Arc<AtomicBool>,
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &udp::Transmit<'_>) -> io::Result<()> {
        if self.pulled.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [udp::RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let received = self.inner.poll_recv(cx, bufs, meta);
            match received {
                Poll::Ready(Ok(_)) if self.pulled.load(Ordering::Relaxed) => {}
                other => return other,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}
