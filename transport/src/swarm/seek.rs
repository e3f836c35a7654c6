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
    visit,
};
use crate::{
    defaults::{KNOCK_TIMEOUT, KNOCKS_MAX, SEEK_PAUSE, SEEK_PERIOD, SETTLE, SIGHTED_MAX, STATIC_PEER_PERIOD},
    env::Sighting,
};
use futures::{StreamExt, future::join_all, stream::BoxStream};
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
pub(super) struct Sighted(Arc<Mutex<BTreeMap<NodeId, Seen>>>);

/// Where one node was seen.
#[derive(Debug, Clone)]
struct Seen {
    addresses: BTreeSet<SocketAddr>,
    heard: Instant,
}

impl Sighted {
    /// The addresses at which `id` was seen.
    pub(super) fn addresses(&self, id: &NodeId) -> Vec<SocketAddr> {
        self.lock().get(id).map(|seen| seen.addresses.iter().copied().collect()).unwrap_or_default()
    }

    fn add(&self, id: NodeId, addr: SocketAddr) {
        let (mut all, heard) = (self.lock(), Instant::now());
        if all.len() >= SIGHTED_MAX && !all.contains_key(&id) {
            // Names cost nothing to invent, and whoever is there is heard again.
            let oldest = all.iter().min_by_key(|(_, seen)| seen.heard).map(|(id, _)| *id);
            oldest.map(|id| all.remove(&id));
        }
        let seen = all.entry(id).or_insert_with(|| Seen { addresses: BTreeSet::new(), heard });
        seen.heard = heard;
        if seen.addresses.len() < ADDRESSES_MAX {
            seen.addresses.insert(addr);
        }
    }

    fn remove(&self, id: &NodeId, addr: &SocketAddr) {
        let mut seen = self.lock();
        if let Some(known) = seen.get_mut(id) {
            known.addresses.remove(addr);
            if known.addresses.is_empty() {
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
        self.lock().iter().filter_map(|(id, seen)| seen.addresses.first().map(|addr| (*id, *addr))).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The seeker of one node.
pub(super) struct Seeker {
    ground: Arc<Ground>,
    sighted: Sighted,
    /// When a door may be tried again.
    pause: BTreeMap<NodeId, Instant>,
    /// When a door was tried last: the others come first.
    tried: BTreeMap<NodeId, Instant>,
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
            tried: BTreeMap::new(),
            knocking: BTreeSet::new(),
            nonces: BTreeMap::new(),
            next_static: Instant::now(),
            done,
        };
        ground.spawner.spawn(seeker.run(sightings, ended));
    }

    async fn run(mut self, sightings: BoxStream<'static, Sighting>, mut ended: mpsc::Receiver<NodeId>) {
        // Discovery may end before the node does; known addresses are tried nevertheless.
        let mut sightings = sightings.fuse();
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
        let up = self.ground.members.is_up(&id);
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
        let sighted: BTreeMap<NodeId, SocketAddr> = self.sighted.all().into_iter().collect();
        self.tried.retain(|id, _| sighted.contains_key(id));
        let mut strangers: Vec<(NodeId, SocketAddr)> = sighted
            .into_iter()
            .filter(|(id, _)| !roster.contains(id) && !roster.is_evicted(id))
            .filter(|(id, _)| !self.pause.contains_key(id) && !self.knocking.contains(id))
            .collect();
        // Who has waited longest comes first, so that no crowd of invented names keeps a real one waiting for ever.
        strangers.sort_by_key(|(id, _)| self.tried.get(id).copied());
        strangers.truncate(VISITS_MAX);
        let keyless = match self.ground.config.swarm_key {
            Some(_) => self.visits(strangers).await,
            None => strangers,
        };
        for (id, addr) in keyless {
            if self.ground.alone() && self.knocking.len() < KNOCKS_MAX {
                self.knock(id, addr);
            }
        }
    }

    /// Tries the swarm's key at these doors, all at once: most of them may be nobody. Gives those with another key, or
    /// none, whose owners may still approve.
    async fn visits(&mut self, doors: Vec<(NodeId, SocketAddr)>) -> Vec<(NodeId, SocketAddr)> {
        self.tried.extend(doors.iter().map(|(id, _)| (*id, Instant::now())));
        let visits = doors.into_iter().map(|(id, addr)| {
            let ground = self.ground.clone();
            async move {
                let visit = async {
                    let at = visit::open(&ground, addr, Some(id)).await?;
                    visit::by_key(&ground, at).await
                };
                (id, addr, timeout(VISIT_TIMEOUT, visit).await.unwrap_or(Err(Error::Timeout)))
            }
        });
        let mut keyless = Vec::new();
        for (id, addr, ended) in join_all(visits).await {
            let Err(error) = ended else { continue };
            tracing::debug!(door = ?id, %addr, %error, "not by the swarm key");
            self.sighted.forget_wrong(&id, &addr, &error);
            self.pause.insert(id, Instant::now() + SEEK_PAUSE);
            if matches!(error, Error::Refused(_)) {
                keyless.push((id, addr));
            }
        }
        keyless
    }

    /// Knocks in the background: it takes as long as people take, and after a while others have their turn.
    fn knock(&mut self, id: NodeId, addr: SocketAddr) {
        if self.nonces.len() >= SIGHTED_MAX {
            self.nonces.clear();
        }
        let nonce = *self.nonces.entry(id).or_insert_with(|| self.ground.env.base.bytes());
        self.knocking.insert(id);
        self.tried.insert(id, Instant::now());
        self.pause.insert(id, Instant::now() + SEEK_PERIOD);
        let (ground, sighted, done) = (self.ground.clone(), self.sighted.clone(), self.done.clone());
        self.ground.spawner.spawn(async move {
            let knock = async {
                let at = visit::open(&ground, addr, Some(id)).await?;
                visit::knock(&ground, at, nonce).await
            };
            if let Err(error) = timeout(KNOCK_TIMEOUT, knock).await.unwrap_or(Err(Error::Timeout)) {
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
        let answers = join_all(ask).await;
        for (addr, answer) in answers {
            match answer {
                Ok(id) => self.saw(Sighting::Here(id, addr)),
                Err(error) => tracing::debug!(%addr, %error, "no answer at a static peer"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_crowd_of_invented_names_does_not_keep_a_real_one_out() {
        let name = |n: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&n.to_be_bytes());
            NodeId::from_bytes(bytes)
        };
        let (sighted, addr) = (Sighted::default(), SocketAddr::from(([10, 0, 0, 1], 9)));
        for n in 0..SIGHTED_MAX {
            sighted.add(name(n), addr);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        // One of them is heard again, so it is another that goes.
        sighted.add(name(0), addr);
        tokio::time::advance(Duration::from_millis(1)).await;
        sighted.add(name(SIGHTED_MAX), addr);
        assert_eq!(sighted.addresses(&name(SIGHTED_MAX)), [addr]);
        assert_eq!(sighted.addresses(&name(0)), [addr]);
        assert!(sighted.addresses(&name(1)).is_empty());
        assert_eq!(sighted.all().len(), SIGHTED_MAX);
    }
}
