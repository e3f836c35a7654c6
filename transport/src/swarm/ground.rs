//! What all parts of one node's transport stand on: its key, its roster, its open invites, its connections.
//!
//! Every change of the roster that this node decides on passes here, one at a time.

use super::{config::TransportConfig, exchange};
use crate::{
    Env, Identity, Mesh,
    defaults::{JOIN_LOCK_TIMEOUT, KNOCKERS_MAX, KNOCKERS_PER_ADDRESS_MAX, PUSH_TIMEOUT},
    join::{Outline, book::Book, knock::Lobby},
    membership::{Peer, Pulse, cards},
    mesh::Visitors,
    roster::{Invalid, Keeper, Membership, Record, Roster, tidy_name},
};
use futures::{FutureExt, future::join_all};
use skep_runtime::{Load, Members, NodeId, member::State, store::Store, swarm::Error, tasks::Spawner};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock},
};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::timeout,
};

/// What the driver is told.
pub(super) enum Command {
    /// This node's load.
    Load(Load),
    /// This node's card changed.
    Card,
    /// A member was met on a stream.
    Met(Box<exchange::Greeting>),
    /// The exchange that this node began with this member has ended; whether they met.
    Exchanged(NodeId, bool),
    /// An exchange that this member began has failed: what it said may be lost.
    Unmet(NodeId),
    /// This member refuses this node and shows no eviction that holds.
    Unexplained(NodeId),
    /// Where this node may be reached now.
    Reached(Vec<SocketAddr>),
    /// A member's card was pulled, or could not be.
    Pulled(NodeId, Option<cards::Card>),
    /// Say goodbye in gossip, then tell.
    Leave(oneshot::Sender<()>),
    /// Try members that don't answer: there is a new address.
    Reach,
}

/// The common ground of one node.
pub(super) struct Ground {
    pub(super) env: Env,
    pub(super) identity: Arc<Identity>,
    pub(super) config: TransportConfig,
    pub(super) store: Store,
    pub(super) keeper: Keeper,
    pub(super) members: Members,
    pub(super) spawner: Spawner,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) card: cards::Own,
    /// This run, and its word on itself; the driver keeps it current.
    pub(super) own: RwLock<(Peer, Pulse)>,
    /// The epochs under which this node knows the others.
    pub(super) epochs: RwLock<BTreeMap<NodeId, u64>>,
    /// Members that gossip says are up and whose addresses are not known here, at most [`exchange::HINTS_MAX`].
    pub(super) lacks: RwLock<Vec<NodeId>>,
    /// Members that were told over their present connection where the others are.
    pub(super) told: RwLock<BTreeSet<NodeId>>,
    /// Woken when an owner approved of someone.
    pub(super) approvals: Notify,
    /// Places for those who knock here.
    pub(super) knockers: Arc<Visitors>,
    mesh: OnceLock<Mesh>,
    book: Mutex<Book>,
    lobby: Mutex<Lobby>,
    /// Held while this node is about to change its swarm, or to admit someone into it: not both at once.
    changing: tokio::sync::Mutex<()>,
}

/// The parts of a [`Ground`].
pub(super) struct Parts {
    pub(super) env: Env,
    pub(super) identity: Arc<Identity>,
    pub(super) config: TransportConfig,
    pub(super) store: Store,
    pub(super) keeper: Keeper,
    pub(super) members: Members,
    pub(super) spawner: Spawner,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) me: Peer,
    pub(super) pulse: Pulse,
}

impl Ground {
    pub(super) fn new(parts: Parts) -> Arc<Ground> {
        let Parts { env, identity, config, store, keeper, members, spawner, commands, me, pulse } = parts;
        Arc::new(Ground {
            book: Mutex::new(Book::new(config.invite_valid)),
            env,
            identity,
            config,
            store,
            keeper,
            members,
            spawner,
            commands,
            card: cards::Own::default(),
            own: RwLock::new((me, pulse)),
            epochs: RwLock::default(),
            lacks: RwLock::default(),
            told: RwLock::default(),
            approvals: Notify::new(),
            knockers: Visitors::new(KNOCKERS_MAX, KNOCKERS_PER_ADDRESS_MAX),
            mesh: OnceLock::new(),
            lobby: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        })
    }

    /// Connects the ground to the mesh, once: the mesh needs the gate first, which stands on the ground.
    pub(super) fn connect(&self, mesh: Mesh) {
        assert!(self.mesh.set(mesh).is_ok(), "a ground is connected once");
    }

    /// The mesh. Before it stands nobody can call: strangers and members come through it.
    pub(super) fn mesh(&self) -> Result<&Mesh, Error> {
        self.mesh.get().ok_or_else(|| Error::Refused("this node is still starting".to_owned()))
    }

    pub(super) fn me(&self) -> NodeId {
        self.identity.id()
    }

    /// The name to show for this node.
    pub(super) fn name(&self) -> String {
        tidy_name(&self.config.name)
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.env.base.now_ms()
    }

    /// The open invites into the swarm that this node is in now.
    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.of(self.keeper.now().swarm());
        book
    }

    /// Those who wait for the swarm that this node is in now.
    pub(super) fn lobby(&self) -> MutexGuard<'_, Lobby> {
        let mut lobby = self.lobby.lock().unwrap_or_else(PoisonError::into_inner);
        lobby.of(self.keeper.now().swarm());
        lobby
    }

    /// This node's swarm in a few words.
    pub(super) fn outline(&self) -> Outline {
        let roster = self.keeper.now();
        let members = u16::try_from(roster.members().len()).unwrap_or(u16::MAX);
        Outline { swarm: roster.swarm(), members, founded_ms: roster.founded_ms() }
    }

    /// Whether this node is a swarm of one.
    pub(super) fn alone(&self) -> bool {
        self.keeper.now().members().len() == 1
    }

    /// The others that answer now.
    pub(super) fn up(&self) -> Vec<NodeId> {
        let up = self.members.up();
        up.into_iter().map(|m| m.id).filter(|id| *id != self.me()).collect()
    }

    /// Nobody else changes swarms through this node while the guard is held.
    pub(super) async fn change(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, Error> {
        let busy = || Error::Refused("this machine is joining a swarm just now: try again".to_owned());
        timeout(JOIN_LOCK_TIMEOUT, self.changing.lock()).await.map_err(|_| busy())
    }

    /// Makes `who` a member of this node's swarm, which has to be `outline`'s still, and tells the others before
    /// the welcome goes out. Gives the roster to welcome it with.
    pub(super) async fn admit(&self, who: NodeId, name: &str, outline: Outline) -> Result<Vec<Record>, Error> {
        let _one = self.change().await?;
        let roster = self.keeper.now();
        if roster.swarm() != outline.swarm {
            return Err(Error::Refused("this machine has just gone over to another swarm: try again".to_owned()));
        }
        if !roster.contains(&who) {
            let now_ms = self.now_ms();
            let record = self.keeper.state(&self.identity, |roster, key| roster.admit(key, who, name, now_ms)).await?;
            tracing::info!(member = ?who, name, "admitted");
            self.push(vec![record]).await;
        }
        self.lobby().remove(&who);
        Ok(self.keeper.now().records().cloned().collect())
    }

    /// Goes over to the swarm that `door` welcomed this node into.
    pub(super) async fn adopt(&self, records: Vec<Record>, door: NodeId, expected: Outline) -> Result<(), Error> {
        let roster = Roster::from_records(records).map_err(|e| Error::Refused(e.to_string()))?;
        if roster.swarm() != expected.swarm || !roster.contains(&self.me()) || !roster.contains(&door) {
            return Err(Error::Refused("it sent a roster that doesn't have both of us on it".to_owned()));
        }
        self.go_over(roster).await?;
        tracing::info!(members = self.keeper.now().members().len(), "joined a swarm");
        Ok(())
    }

    /// Leaves the others for another roster, and tells them if they answer; the rest learn it when they ask
    /// ([`crate::join::Message::WhyNot`]).
    async fn go_over(&self, roster: Roster) -> Result<(), Error> {
        let old = self.keeper.now();
        let departure = match old.depart(&self.identity, self.now_ms()) {
            Ok(departure) if old.members().len() > 1 => Some(departure),
            Ok(_) | Err(Invalid::NoMember) => None,
            Err(error) => {
                tracing::warn!(%error, "left without telling the others");
                None
            }
        };
        let told = departure.iter().flat_map(|record| self.up().into_iter().map(move |id| (id, record.clone())));
        let tells = told.map(|(id, record)| timeout(PUSH_TIMEOUT, exchange::tell_only(self, id, record)));
        let farewell = join_all(tells.collect::<Vec<_>>()).map(drop);
        // Who was evicted may be the last one that knows it: members that were away ask it why it refuses them.
        let departure = departure.or_else(|| old.why_evicted(&self.me()).into_iter().next());
        self.keeper.replace(roster, departure, farewell).await
    }

    /// Becomes a new swarm of one.
    pub(super) async fn found(&self) -> Result<(), Error> {
        let roster = Roster::found(&self.identity, &self.config.name, self.now_ms(), self.env.base.bytes());
        self.go_over(roster).await
    }

    /// Becomes a swarm of one after others took this node off their roster, unless it is in another swarm meanwhile.
    pub(super) async fn go_on_alone(&self) -> Result<(), Error> {
        // Whoever holds the lock is in a conversation that ends by its own deadlines.
        let _one = self.changing.lock().await;
        if self.keeper.now().contains(&self.me()) {
            return Ok(());
        }
        self.found().await
    }

    /// Hands records to everyone who answers. Gives how many have them now, this node included.
    pub(super) async fn push(&self, records: Vec<Record>) -> usize {
        let others = self.up();
        let pushes = others.into_iter().map(|id| timeout(PUSH_TIMEOUT, exchange::offer(self, id, records.clone())));
        1 + join_all(pushes).await.into_iter().filter(|result| matches!(result, Ok(Ok(_)))).count()
    }

    /// What this node says to a member that it meets, and that lacks the addresses of `sought`.
    pub(super) fn greeting(&self, to: &NodeId, sought: &[NodeId]) -> exchange::Greeting {
        let (peer, pulse) = *self.own.read().unwrap_or_else(PoisonError::into_inner);
        let known_as = self.epochs.read().unwrap_or_else(PoisonError::into_inner).get(to).copied().unwrap_or(0);
        let picture = self.members.now();
        let sought: BTreeSet<NodeId> = sought.iter().copied().collect();
        let others = picture.values().filter(|m| m.id != peer.id && m.id != *to && !m.addresses.is_empty());
        let (first, rest): (Vec<_>, Vec<_>) = others.partition(|m| sought.contains(&m.id));
        // Who was told already over this connection asks for those that it lacks.
        let first_words = self.told.write().unwrap_or_else(PoisonError::into_inner).insert(*to);
        let fresh = rest.into_iter().filter(|m| first_words && m.state == State::Up);
        let others = first.into_iter().chain(fresh);
        exchange::Greeting {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            id: peer.id,
            epoch: peer.epoch,
            pulse,
            card: first_words.then(|| self.card.now()),
            name: self.name(),
            addresses: self.addresses(),
            others: others.take(exchange::HINTS_MAX).map(|m| (m.id, m.addresses.clone())).collect(),
            lacks: self.lacks.read().unwrap_or_else(PoisonError::into_inner).clone(),
            known_as,
            digest: self.keeper.now().digest(),
        }
    }

    /// What this member was told is void: its connection is new, or the words didn't reach it.
    pub(super) fn untold(&self, id: &NodeId) {
        self.told.write().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// Where this node may be reached, as far as it knows.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.members.get(&self.me()).map(|m| m.addresses.clone()).unwrap_or_default()
    }

    /// The member of this key.
    pub(super) fn membership(&self, id: &NodeId) -> Option<Membership> {
        self.keeper.now().members().get(id).cloned()
    }
}
