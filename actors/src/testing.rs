//! A swarm of nodes in one process, for tests of actors: real directories, stores and members, joined by a
//! carrier that calls the other node's directory.
//!
//! Not here: QUIC and membership (transport), faults drawn from a seed (sim). A node here dies by [`Swarm::kill`],
//! loses its links by [`Swarm::cut`] or one of them by [`Swarm::part`], and comes back by [`Swarm::restart`],
//! [`Swarm::heal`] and [`Swarm::meet`].

use crate::{
    Context,
    blob::{self, Blobs},
    event::Events,
    ledger::Ledger,
    ownership::Ownership,
    task::{Fences, kept::Keepers, scratch::Scratches},
};
use futures::future::BoxFuture;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
use skep_runtime::{
    Carrier, Directory, Env, Envelope, Error, Load, Member, Members, Metrics, NodeId, Stream, Tasks, Ticket,
    directory::Arrived,
    member::State,
    store::{self, Kind, Medium, Store, Tear},
    swarm::{self, Finding, Invite, Waiting},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// Bytes in flight on a stream between two nodes: little, so that tests meet push-back.
const PIPE_BYTES: usize = 64 << 10;
/// The wall clock at which simulated nodes start: 2026-01-01.
const WALL: Duration = Duration::from_secs(1_767_225_600);

/// Nodes `0..n`, all up, all seeing each other.
pub struct Swarm {
    mesh: Arc<Mesh>,
    nodes: Vec<Node>,
    real: bool,
    files: bool,
    home: PathBuf,
}

struct Node {
    context: Context,
    medium: Arc<Medium>,
    root: ActorCell,
    /// Dropping it ends the node's tasks.
    _tasks: Tasks,
}

impl Swarm {
    /// `n` simulated nodes: seeded, no thread, no process. For paused time.
    pub async fn new(n: usize) -> Swarm {
        Swarm::build(n, false, false).await
    }

    /// `n` nodes that use this machine: threads and processes. For real time.
    pub async fn of_machine(n: usize) -> Swarm {
        Swarm::build(n, true, false).await
    }

    /// The same, with stores on this machine's disk: for measurements. [`Swarm::kill`] and [`Swarm::restart`] are not for
    /// these.
    pub async fn of_disk(n: usize) -> Swarm {
        Swarm::build(n, true, true).await
    }

    async fn build(n: usize, real: bool, files: bool) -> Swarm {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("skep-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let home = std::env::temp_dir().join(unique);
        let mut swarm = Swarm { mesh: Arc::default(), nodes: Vec::new(), real, files, home };
        for i in 0..n {
            let medium = Medium::new();
            let node = swarm.boot(i, medium, (0..n).map(member)).await;
            swarm.nodes.push(node);
        }
        swarm
    }

    /// What node `i`'s actors are given.
    pub fn context(&self, i: usize) -> &Context {
        &self.nodes[i].context
    }

    /// Node `i`'s key. Keys sort as the numbers do.
    pub fn id(&self, i: usize) -> NodeId {
        id(i)
    }

    /// A supervisor for node `i`'s actors, which lets them fail and doesn't start them again.
    pub fn root(&self, i: usize) -> ActorCell {
        self.nodes[i].root.clone()
    }

    /// Changes what every linked node sees of node `i`: its card, its load.
    pub fn show(&self, i: usize, change: impl Fn(&mut Member)) {
        self.mesh.show(id(i), change);
    }

    /// Cuts node `i` off: calls in flight fail, both sides see each other down.
    pub fn cut(&self, i: usize) {
        let mut peers = self.mesh.lock();
        let cut = id(i);
        if let Some(peer) = peers.get_mut(&cut) {
            peer.link.cancel();
        }
        for (id, peer) in peers.iter() {
            repaint(&peer.members, |other| (*id == cut) != (*other == cut), |m| m.state = State::Down);
        }
    }

    /// Links node `i` again; both sides see each other up.
    pub fn heal(&self, i: usize) {
        let mut peers = self.mesh.lock();
        if let Some(peer) = peers.get_mut(&id(i)) {
            peer.link = CancellationToken::new();
        }
        let linked: Vec<NodeId> = peers.iter().filter(|(_, p)| !p.link.is_cancelled()).map(|(id, _)| *id).collect();
        for peer in linked.iter().filter_map(|id| peers.get(id)) {
            repaint(&peer.members, |id| linked.contains(id), |m| m.state = State::Up);
        }
    }

    /// Nodes `i` and `j` no longer reach each other, though all see both up: as when two members have yet to learn each
    /// other's address.
    pub fn part(&self, i: usize, j: usize) {
        self.mesh.parted().insert((id(i.min(j)), id(i.max(j))));
    }

    /// Nodes `i` and `j` reach each other again.
    pub fn meet(&self, i: usize, j: usize) {
        self.mesh.parted().remove(&(id(i.min(j)), id(i.max(j))));
    }

    /// Node `i` dies as by `kill -9`: links, actors under [`Swarm::root`], tasks and whatever its disk had not flushed.
    pub async fn kill(&mut self, i: usize) {
        self.cut(i);
        let node = &self.nodes[i];
        node.medium.crash(Tear::Clean);
        node.root.kill();
        node.root.wait(None).await.expect("a killed actor ends");
        self.nodes[i]._tasks = Tasks::default();
    }

    /// Node `i` starts again on the disk that [`Swarm::kill`] left. The caller starts its actors.
    pub async fn restart(&mut self, i: usize) {
        let roster = self.nodes[i].context.members.now();
        let medium = self.nodes[i].medium.clone();
        self.nodes[i] = self.boot(i, medium, roster.values().map(|member| Member::clone(member))).await;
        self.heal(i);
    }

    async fn boot(&self, i: usize, medium: Arc<Medium>, roster: impl Iterator<Item = Member>) -> Node {
        let me = id(i);
        let members = Members::new(me);
        members.show(roster.map(|member| (member.id, Some(member))));
        let directory = Directory::new(me);
        directory.connect(Arc::new(Wire { me, mesh: self.mesh.clone() }));
        let peer = Peer { directory: directory.clone(), members: members.clone(), link: CancellationToken::new() };
        self.mesh.lock().insert(me, peer);
        let env = if self.real { Env::machine() } else { Env::seeded([i as u8; 32], WALL) };
        let tasks = env.tasks();
        let home = self.home.join(name(i));
        std::fs::create_dir_all(home.join("models")).expect("the temporary folder can be written");
        let (root, _) = Actor::spawn(None, Root, ()).await.expect("an actor without state starts");
        let store = if self.files {
            store::open(&store::Config::new(Kind::Redb, home.join("store"))).expect("the folder can be written").store
        } else {
            let disk = medium.open().expect("a medium is opened once at a time");
            Store::new(Arc::new(disk)).expect("memory needs no thread")
        };
        let swarm: Arc<dyn skep_runtime::Swarm> = Arc::new(Door { me, mesh: self.mesh.clone() });
        let ledger =
            Ledger::open(&env, &store, &directory, &members, &swarm, tasks.spawner()).expect("memory can be read");
        let ownership = Ownership::open(&env, &store, &directory, &members, &ledger).expect("memory can be read");
        let known = ledger.clone();
        let blobs = Blobs::within(&home, &env, move || blob::needed(&known));
        let events = Events::new(me, &env);
        let context = Context {
            name: name(i),
            env,
            directory,
            members,
            swarm,
            store,
            ledger,
            blobs,
            events,
            ownership,
            metrics: Metrics::default(),
            tasks: tasks.spawner(),
            models: home.join("models"),
            scratches: Scratches::within(&home),
            home,
            exe: None,
            keepers: Keepers::default(),
            stop: Default::default(),
            fences: Fences::default(),
            labels: BTreeMap::new(),
        };
        Node { context, medium, root: root.get_cell(), _tasks: tasks }
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        self.nodes.iter().for_each(|node| node.root.kill());
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

fn id(i: usize) -> NodeId {
    NodeId::from_bytes([i as u8 + 1; 32])
}

fn name(i: usize) -> String {
    format!("n{i}")
}

fn member(i: usize) -> Member {
    Member {
        id: id(i),
        name: name(i),
        state: State::Up,
        addresses: vec![([127, 0, 0, 1], 4893 + i as u16).into()],
        joined_ms: WALL.as_millis() as u64,
        seen_ms: WALL.as_millis() as u64,
        load: Load::default(),
        card: Arc::default(),
    }
}

/// Changes what a node sees of some members.
fn repaint(members: &Members, which: impl Fn(&NodeId) -> bool, change: impl Fn(&mut Member)) {
    let changed = |member: &Arc<Member>| {
        let mut member = Member::clone(member);
        change(&mut member);
        (member.id, Some(member))
    };
    members.show(members.now().values().filter(|member| which(&member.id)).map(changed).collect::<Vec<_>>());
}

/// Everyone's way to everyone.
#[derive(Default)]
struct Mesh {
    peers: Mutex<BTreeMap<NodeId, Peer>>,
    /// Pairs that don't reach each other, the lower key first.
    parted: Mutex<BTreeSet<(NodeId, NodeId)>>,
}

#[derive(Clone)]
struct Peer {
    directory: Directory,
    members: Members,
    /// Cancelled while the node is cut off.
    link: CancellationToken,
}

impl Mesh {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parted(&self) -> MutexGuard<'_, BTreeSet<(NodeId, NodeId)>> {
        self.parted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Both ends of a link that is up.
    fn link(&self, from: NodeId, to: NodeId) -> Result<(Peer, Peer), Error> {
        if self.parted().contains(&(from.min(to), from.max(to))) {
            return Err(Error::LinkDown(to));
        }
        let peers = self.lock();
        let up = |id| peers.get(&id).filter(|p: &&Peer| !p.link.is_cancelled()).cloned();
        up(from).zip(up(to)).ok_or(Error::LinkDown(to))
    }

    fn show(&self, id: NodeId, change: impl Fn(&mut Member)) {
        let peers = self.lock();
        let cut = peers.get(&id).is_none_or(|p| p.link.is_cancelled());
        for (_, peer) in peers.iter().filter(|(other, p)| **other == id || (!cut && !p.link.is_cancelled())) {
            repaint(&peer.members, |other| *other == id, &change);
        }
    }
}

/// One node's carrier.
struct Wire {
    me: NodeId,
    mesh: Arc<Mesh>,
}

impl Carrier for Wire {
    fn tell(&self, node: NodeId, envelope: Envelope) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move { self.mesh.link(self.me, node)?.1.directory.accept(envelope, Box::new(())).map(drop) })
    }

    fn ask(&self, node: NodeId, envelope: Envelope) -> BoxFuture<'_, Result<Vec<u8>, Error>> {
        Box::pin(async move {
            let (near, far) = self.mesh.link(self.me, node)?;
            let arrived: Arrived = far.directory.accept(envelope, Box::new(()))?;
            tokio::select! {
                answer = arrived.reply() => answer.unwrap_or(Err(Error::NoReply)),
                () = near.link.cancelled() => Err(Error::LinkDown(node)),
                () = far.link.cancelled() => Err(Error::LinkDown(node)),
            }
        })
    }

    fn open(&self, node: NodeId, ticket: Ticket) -> BoxFuture<'_, Result<Stream, Error>> {
        Box::pin(async move {
            let (_, far) = self.mesh.link(self.me, node)?;
            let (here, there) = tokio::io::duplex(PIPE_BYTES);
            let stream = |pipe| {
                let (reader, writer) = tokio::io::split::<tokio::io::DuplexStream>(pipe);
                Stream { reader: Box::new(reader), writer: Box::new(writer) }
            };
            far.directory.arrived(self.me, ticket, stream(there))?;
            Ok(stream(here))
        })
    }
}

/// Membership without gossip: what is announced is known at once. It has no way in.
struct Door {
    me: NodeId,
    mesh: Arc<Mesh>,
}

fn no_way_in<T: Send + 'static>() -> BoxFuture<'static, Result<T, swarm::Error>> {
    Box::pin(std::future::ready(Err(swarm::Error::Refused("this swarm lives in a test: nobody joins it".into()))))
}

impl skep_runtime::Swarm for Door {
    fn swarm_id(&self) -> [u8; 32] {
        [0; 32]
    }

    fn announce(&self, card: Vec<u8>) {
        let card = Arc::new(card);
        self.mesh.show(self.me, |m| m.card = card.clone());
    }

    fn report(&self, load: Load) {
        self.mesh.show(self.me, |m| m.load = load);
    }

    fn invite(&self) -> BoxFuture<'_, Result<Invite, swarm::Error>> {
        no_way_in()
    }

    fn opens(&self, _: &str) -> bool {
        false
    }

    fn join(&self, _: String) -> BoxFuture<'_, Result<(), swarm::Error>> {
        no_way_in()
    }

    fn waiting(&self) -> Vec<Waiting> {
        Vec::new()
    }

    fn approve(&self, _: String) -> BoxFuture<'_, Result<NodeId, swarm::Error>> {
        no_way_in()
    }

    fn evict(&self, id: NodeId, _: bool) -> BoxFuture<'_, Result<(), swarm::Error>> {
        Box::pin(async move {
            for peer in self.mesh.lock().values() {
                peer.members.show([(id, None)]);
            }
            Ok(())
        })
    }

    fn leave(&self, _: bool) -> BoxFuture<'_, Result<(), swarm::Error>> {
        self.mesh.show(self.me, |m| m.state = State::Left);
        Box::pin(std::future::ready(Ok(())))
    }

    fn sign(&self, context: &str, bytes: &[u8]) -> [u8; 64] {
        signature(&self.me, context, bytes)
    }

    fn signed(&self, signer: &NodeId, context: &str, bytes: &[u8], given: &[u8; 64]) -> bool {
        signature(signer, context, bytes) == *given
    }

    fn diagnose(&self) -> BoxFuture<'_, Vec<Finding>> {
        Box::pin(std::future::ready(Vec::new()))
    }
}

/// What stands for a signature here: anyone could make it, and nobody in a test does.
fn signature(signer: &NodeId, context: &str, bytes: &[u8]) -> [u8; 64] {
    use sha2::{Digest, Sha512};
    Sha512::new()
        .chain_update(signer.as_bytes())
        .chain_update(context)
        .chain_update([0])
        .chain_update(bytes)
        .finalize()
        .into()
}

/// Supervises and lets fail.
struct Root;

/// Nothing can be said to a [`Root`].
enum Never {}

impl ractor::Message for Never {}

impl Actor for Root {
    type Msg = Never;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Never>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Never>,
        _: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}
