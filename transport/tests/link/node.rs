//! A node with nothing but a mesh, and a gate that the test opens.

use futures::future::BoxFuture;
use skep_runtime::{Carrier, Directory, Envelope, Error, NodeId, Stream, Tasks, Ticket};
use skep_transport::{
    Env, Identity, Mesh,
    link::Link,
    mesh::{Event, Gate, Incoming, Protocol, Streams},
};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};
use tokio::time::timeout;

/// Longer than anything takes that works, on a machine with much else to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Who is a member, as one node sees it. Strangers and control streams get back what they send.
#[derive(Default)]
pub(crate) struct Roster(Mutex<BTreeSet<NodeId>>);

impl Roster {
    pub(crate) fn admit(&self, id: NodeId) {
        self.0.lock().unwrap().insert(id);
    }
}

impl Gate for Roster {
    fn is_member(&self, who: &NodeId) -> bool {
        self.0.lock().unwrap().contains(who)
    }

    fn joiner(&self, _: NodeId, _: SocketAddr, streams: Streams) -> BoxFuture<'static, ()> {
        Box::pin(echo(streams))
    }

    fn control(&self, _: NodeId, _: Protocol, streams: Streams) -> BoxFuture<'static, ()> {
        Box::pin(echo(streams))
    }
}

async fn echo((mut send, mut recv): Streams) {
    let said = recv.read_to_end(1024).await.unwrap_or_default();
    let _ = send.write_all(&said).await;
}

pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) mesh: Mesh,
    pub(crate) incoming: Incoming,
    pub(crate) directory: Directory,
    pub(crate) roster: Arc<Roster>,
}

impl Node {
    /// A node whose key follows from `seed`, on any port.
    pub(crate) fn start(seed: u8) -> Node {
        Node::start_at(seed, SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    pub(crate) fn start_at(seed: u8, listen: SocketAddr) -> Node {
        let identity = Identity::from_seed([seed; 32]);
        let (directory, roster) = (Directory::new(identity.id()), Arc::new(Roster::default()));
        let (mesh, incoming) =
            Mesh::start(&Env::machine(), &identity, directory.clone(), roster.clone(), listen).unwrap();
        Node { id: identity.id(), mesh, incoming, directory, roster }
    }

    /// Lets this node know that `other` is a member, and where.
    pub(crate) fn know(&self, other: &Node) {
        self.roster.admit(other.id);
        self.mesh.learn(other.id, other.mesh.local_addr());
    }

    /// The next event, in time.
    pub(crate) async fn event(&mut self) -> Event {
        timeout(PATIENCE, self.incoming.next()).await.expect("an event in time").expect("a running mesh")
    }
}

/// Two nodes that know each other; the first has the lower key.
pub(crate) fn pair() -> (Node, Node) {
    let (a, b) = (Node::start(1), Node::start(2));
    let (a, b) = if a.id < b.id { (a, b) } else { (b, a) };
    a.know(&b);
    b.know(&a);
    (a, b)
}

/// Two directories with a link over a pipe, for paused time. The tasks are the link's owners.
pub(crate) fn piped() -> (Directory, Directory, Link, Tasks) {
    let ids = [NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32])];
    let [a, b] = ids.map(Directory::new);
    let tasks = Tasks::default();
    let (near, far) = tokio::io::duplex(1 << 20);
    let link = |directory: &Directory, peer, pipe| {
        let (reader, writer) = tokio::io::split::<tokio::io::DuplexStream>(pipe);
        let link = Link::start(&tasks.spawner(), directory.clone(), peer, reader, writer, &[]);
        let wire = Arc::new(Wire::default());
        wire.0.set(link.clone()).unwrap_or_else(|_| unreachable!("it is new"));
        directory.connect(wire);
        link
    };
    let near = link(&a, ids[1], near);
    link(&b, ids[0], far);
    (a, b, near, tasks)
}

/// One link as the way to the one other node.
#[derive(Default)]
struct Wire(OnceLock<Link>);

impl Carrier for Wire {
    fn tell(&self, _: NodeId, envelope: Envelope) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.0.get().unwrap().tell(envelope))
    }

    fn ask(&self, _: NodeId, envelope: Envelope) -> BoxFuture<'_, Result<Vec<u8>, Error>> {
        Box::pin(self.0.get().unwrap().ask(envelope))
    }

    fn open(&self, node: NodeId, _: Ticket) -> BoxFuture<'_, Result<Stream, Error>> {
        Box::pin(async move { Err(Error::LinkDown(node)) })
    }
}
