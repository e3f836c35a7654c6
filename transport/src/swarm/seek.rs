//! Looking for company: whom discovery shows, where static peers are, and what a node does about them.
//!
//! - Members: their addresses are learned.
//! - With a swarm key: the node visits who is no member and goes over to the better swarm
//!   ([`Outline::beats`](crate::join::Outline::beats)), so all that hold the key end up in one; of two loners the
//!   one that was founded later moves. No hands.
//! - Without, and alone: the node knocks, at a few doors, until an owner approves on both screens. Of two loners
//!   that see each other, again only one knocks; the other one lists it.
//! - Neither: nothing. A swarm never goes looking for strangers.

use super::{
    ground::{Command, Ground},
    visit::{self, Ended},
};
use crate::{
    defaults::{KNOCKS_MAX, SEEK_PAUSE, SEEK_PERIOD, SETTLE, SIGHTED_MAX, STATIC_PEER_PERIOD},
    env::Sighting,
};
use futures::{StreamExt, stream::BoxStream};
use skep_runtime::{NodeId, member::State, swarm::Error};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};

/// Addresses remembered of one node that is no member.
const ADDRESSES_MAX: usize = 8;
/// Doors that are visited in one round.
const VISITS_MAX: usize = 4;
/// How long a visit by key may take in all.
const VISIT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(15);

/// Nodes that discovery shows and that are no members. Shared with `skep join`, which may use their addresses.
#[derive(Debug, Clone, Default)]
pub(super) struct Sighted(Arc<Mutex<BTreeMap<NodeId, BTreeSet<SocketAddr>>>>);

impl Sighted {
    /// The addresses at which `id` was seen.
    pub(super) fn addresses(&self, id: &NodeId) -> Vec<SocketAddr> {
        self.lock().get(id).map(|a| a.iter().copied().collect()).unwrap_or_default()
    }

    fn add(&self, id: NodeId, addr: SocketAddr) {
        let mut seen = self.lock();
        if seen.len() >= SIGHTED_MAX && !seen.contains_key(&id) {
            return;
        }
        let addresses = seen.entry(id).or_default();
        if addresses.len() < ADDRESSES_MAX {
            addresses.insert(addr);
        }
    }

    fn remove(&self, id: &NodeId, addr: &SocketAddr) {
        let mut seen = self.lock();
        if let Some(addresses) = seen.get_mut(id) {
            addresses.remove(addr);
            if addresses.is_empty() {
                seen.remove(id);
            }
        }
    }

    /// Someone else stands there now.
    fn forget_wrong(&self, id: &NodeId, addr: &SocketAddr, error: &Error) {
        if *error == Error::WrongPeer {
            self.remove(id, addr);
        }
    }

    fn all(&self) -> Vec<(NodeId, SocketAddr)> {
        self.lock().iter().filter_map(|(id, addresses)| addresses.first().map(|addr| (*id, *addr))).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, BTreeSet<SocketAddr>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The seeker of one node.
pub(super) struct Seeker {
    ground: Arc<Ground>,
    sighted: Sighted,
    /// When a door may be tried again.
    pause: BTreeMap<NodeId, Instant>,
    /// Doors at which this node knocks now, with the nonce of each knock, so that digits stay when it comes again.
    knocking: BTreeSet<NodeId>,
    nonces: BTreeMap<NodeId, [u8; 32]>,
    next_static: Instant,
    done: mpsc::Sender<NodeId>,
}

impl Seeker {
    pub(super) fn spawn(ground: &Arc<Ground>, sighted: Sighted, sightings: BoxStream<'static, Sighting>) {
        let (done, ended) = mpsc::channel(KNOCKS_MAX);
        let seeker = Seeker {
            ground: ground.clone(),
            sighted,
            pause: BTreeMap::new(),
            knocking: BTreeSet::new(),
            nonces: BTreeMap::new(),
            next_static: Instant::now(),
            done,
        };
        ground.spawner.spawn(seeker.run(sightings, ended));
    }

    async fn run(mut self, mut sightings: BoxStream<'static, Sighting>, mut ended: mpsc::Receiver<NodeId>) {
        let mut rounds = interval_at(Instant::now() + SETTLE, SEEK_PERIOD);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.peers().await;
        loop {
            tokio::select! {
                biased;
                Some(sighting) = sightings.next() => self.saw(sighting),
                Some(door) = ended.recv() => {
                    self.knocking.remove(&door);
                }
                _ = rounds.tick() => self.round().await,
            }
        }
    }

    fn saw(&mut self, sighting: Sighting) {
        let roster = self.ground.keeper.now();
        match sighting {
            Sighting::Here(id, _) if id == self.ground.me() => {}
            Sighting::Here(id, addr) => {
                self.sighted.add(id, addr);
                if roster.contains(&id) {
                    self.learn(id, addr);
                }
            }
            Sighting::Gone(id, addr) => self.sighted.remove(&id, &addr),
        }
    }

    fn learn(&self, id: NodeId, addr: SocketAddr) {
        let up = self.ground.members.get(&id).is_some_and(|m| m.state == State::Up);
        let Ok(mesh) = self.ground.mesh() else { return };
        // An address that works isn't pushed aside by a hint.
        if !up || mesh.addresses(&id).is_empty() {
            mesh.learn(id, addr);
            let _ = self.ground.commands.try_send(Command::Reach);
        }
    }

    async fn round(&mut self) {
        let now = Instant::now();
        self.pause.retain(|_, until| *until > now);
        let missing = self.ground.members.now().values().any(|m| m.state != State::Up);
        if now >= self.next_static && (missing || self.ground.alone()) {
            self.peers().await;
        }
        let roster = self.ground.keeper.now();
        let strangers: Vec<(NodeId, SocketAddr)> = self
            .sighted
            .all()
            .into_iter()
            .filter(|(id, _)| !roster.contains(id) && !roster.is_evicted(id))
            .filter(|(id, _)| !self.pause.contains_key(id) && !self.knocking.contains(id))
            .collect();
        for (id, addr) in strangers.into_iter().take(VISITS_MAX) {
            self.stranger(id, addr).await;
        }
    }

    async fn stranger(&mut self, id: NodeId, addr: SocketAddr) {
        let mut keyless = self.ground.config.swarm_key.is_none();
        if !keyless {
            match timeout(VISIT_TIMEOUT, self.by_key(id, addr)).await {
                Ok(Ok(Ended::Joined)) => return,
                Ok(Ok(Ended::Stayed)) => {}
                Ok(Err(error)) => {
                    tracing::debug!(door = ?id, %addr, %error, "not by the swarm key");
                    self.sighted.forget_wrong(&id, &addr, &error);
                    // Another key, or none there: its owner may still approve.
                    keyless = matches!(error, Error::Refused(_));
                    self.pause.insert(id, Instant::now() + SEEK_PAUSE);
                }
                Err(_) => {
                    self.pause.insert(id, Instant::now() + SEEK_PAUSE);
                }
            }
        }
        if keyless && self.ground.alone() && self.knocking.len() < KNOCKS_MAX {
            self.knock(id, addr);
        }
    }

    async fn by_key(&self, id: NodeId, addr: SocketAddr) -> Result<Ended, Error> {
        let at = visit::open(&self.ground, addr, Some(id)).await?;
        visit::by_key(&self.ground, at).await
    }

    /// Knocks in the background: it may take as long as people take.
    fn knock(&mut self, id: NodeId, addr: SocketAddr) {
        if self.nonces.len() >= SIGHTED_MAX {
            self.nonces.clear();
        }
        let nonce = *self.nonces.entry(id).or_insert_with(|| self.ground.env.base.bytes());
        self.knocking.insert(id);
        self.pause.insert(id, Instant::now() + SEEK_PERIOD);
        let (ground, sighted, done) = (self.ground.clone(), self.sighted.clone(), self.done.clone());
        self.ground.spawner.spawn(async move {
            let knock = async {
                let at = visit::open(&ground, addr, Some(id)).await?;
                visit::knock(&ground, at, nonce).await
            };
            if let Err(error) = knock.await {
                tracing::debug!(door = ?id, %addr, %error, "knocked in vain");
                sighted.forget_wrong(&id, &addr, &error);
            }
            let _ = done.send(id).await;
        });
    }

    /// Asks who stands at the static peers' addresses.
    async fn peers(&mut self) {
        self.next_static = Instant::now() + STATIC_PEER_PERIOD;
        let known: BTreeSet<SocketAddr> = self
            .ground
            .members
            .up()
            .into_iter()
            .filter(|m| m.id != self.ground.me())
            .filter_map(|m| m.addresses.first().copied())
            .collect();
        let ask = self.ground.config.peers.iter().filter(|addr| !known.contains(addr)).map(|addr| async {
            // Opening the door and going away again tells whose it is.
            let at = visit::open(&self.ground, *addr, None).await;
            (*addr, at.map(|at| at.door))
        });
        let answers = futures::future::join_all(ask).await;
        for (addr, answer) in answers {
            match answer {
                Ok(id) => self.saw(Sighting::Here(id, addr)),
                Err(error) => tracing::debug!(%addr, %error, "no answer at a static peer"),
            }
        }
    }
}
