//! The task that drives membership: it feeds [`Core`] with packets, time and hints, carries out its actions, and
//! alone writes the picture that everyone reads.

use super::{
    addresses,
    doubt::{self, Doubts},
    exchange,
    exchange::Greeting,
    face::Face,
    ground::{Command, Ground},
};
use crate::{
    Mesh,
    defaults::{CARD_PAUSE, COMPARED_MAX, EXCHANGE_PAUSE, HINTS_PAUSE},
    membership::{Action, Core, Input, Pulse, cards, cards::Card},
    mesh::{Cause, Event, Incoming, Protocol, Reason},
    roster::{Roster, SwarmId},
};
use skep_runtime::{Member, NodeId, member::State};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};

/// How long a member that was just reached may take to say its first words, which hold its card, until that is asked for.
const FIRST_WORDS_PAUSE: Duration = Duration::from_secs(1);
/// How often silent connections are looked for: calls wait for what one of them doesn't deliver.
const SILENCE_PERIOD: Duration = Duration::from_millis(500);
/// How often what is overdue (cards, exchanges) is looked at for every member.
const CHORES_PERIOD: Duration = Duration::from_secs(1);
/// How far ahead of this machine's a member's clock may be.
const CLOCKS_APART_MAX_MS: u64 = 24 * 3_600_000;
/// How long gossip's goodbye may take to leave the socket before connections close.
const LEAVE_PAUSE: Duration = Duration::from_millis(50);
/// How long to look at least: foca's far-away timers are not worth a longer sleep.
const SLEEP_MAX: Duration = Duration::from_secs(3600);
/// The pause before a swarm of one that the disk refused is founded again.
const ALONE_PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Driver {
    ground: Arc<Ground>,
    mesh: Mesh,
    core: Core,
    start: Instant,
    faces: BTreeMap<NodeId, Face>,
    /// Addresses as they are on the disk.
    saved: BTreeMap<NodeId, Vec<SocketAddr>>,
    doubts: Doubts,
    /// When a member may be asked for addresses again, and who was asked last.
    hints_after: Instant,
    hinted: Option<NodeId>,
    /// Whose roster was compared last because gossip said that it differs.
    compared: Option<NodeId>,
    own_addresses: Vec<SocketAddr>,
    swarm: SwarmId,
    /// Members that the picture shows as they were.
    stale: BTreeSet<NodeId>,
    /// The same for those of whom nothing changed but how busy they are and when they were heard: that can wait for
    /// [`CHORES_PERIOD`].
    aged: BTreeSet<NodeId>,
    /// Members of whom something was heard that may be a reason to pull a card or to exchange greetings.
    touched: BTreeSet<NodeId>,
}

impl Driver {
    pub(super) fn new(ground: Arc<Ground>, mesh: Mesh, core: Core, own_addresses: Vec<SocketAddr>) -> Driver {
        let saved = addresses::load(&ground.store);
        for (id, addresses) in &saved {
            // The first is the best one: the book puts what it learned last in front.
            addresses.iter().rev().for_each(|addr| mesh.learn(*id, *addr));
        }
        // Who was evicted while this node was down still has addresses on the disk.
        let stale: BTreeSet<NodeId> = saved.keys().copied().collect();
        let (start, swarm) = (Instant::now(), ground.keeper.now().swarm());
        let mut driver = Driver {
            ground,
            mesh,
            core,
            start,
            faces: BTreeMap::new(),
            saved,
            doubts: Doubts::default(),
            hints_after: start,
            hinted: None,
            compared: None,
            own_addresses,
            swarm,
            stale,
            aged: BTreeSet::new(),
            touched: BTreeSet::new(),
        };
        // The picture is complete before anyone can ask for it.
        driver.roster_changed();
        driver.settle();
        driver
    }

    /// Runs until the mesh ends or its owner stops.
    pub(super) async fn run(mut self, mut incoming: Incoming, mut commands: mpsc::Receiver<Command>) {
        let mut rosters = self.ground.keeper.changes();
        let mut chores = interval(CHORES_PERIOD);
        let mut silence = interval(SILENCE_PERIOD);
        chores.set_missed_tick_behavior(MissedTickBehavior::Delay);
        silence.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let wake = self.start + self.core.wake_at().min(self.start.elapsed() + SLEEP_MAX);
            // In an order, so that a seed replays a run. What others can send without end comes last, and what can't
            // be put off (evictions, probes) first: it is rare, and so keeps nobody waiting.
            tokio::select! {
                biased;
                changed = rosters.changed() => match changed {
                    Ok(()) => self.roster_changed(),
                    Err(_) => return,
                },
                () = sleep_until(wake) => self.input(Input::Tick, None),
                _ = silence.tick() => self.mesh.close_silent(),
                _ = chores.tick() => self.chores(),
                command = commands.recv() => match command {
                    Some(command) => self.command(command).await,
                    None => return,
                },
                event = incoming.next() => match event {
                    Some(event) => self.event(event),
                    None => return,
                },
            }
            self.settle();
        }
    }

    async fn command(&mut self, command: Command) {
        match command {
            Command::Load(load) => {
                self.input(Input::Load(load), None);
                self.stale.insert(self.ground.me());
            }
            Command::Card => self.own_card(),
            Command::Met(greeting) => self.met(*greeting),
            Command::Exchanged(id, met) => {
                if !met {
                    self.ground.untold(&id);
                }
                self.face(id, |face| face.exchanged(met, Instant::now()));
            }
            Command::Unmet(id) => self.face(id, |face| face.wants_exchange = true),
            Command::Unexplained(id) => self.doubts.unexplained(id, Instant::now()),
            Command::Pulled(id, card) => self.pulled(id, card),
            Command::Reached(addresses) => {
                if addresses != self.own_addresses {
                    tracing::info!(?addresses, "this machine has other addresses now");
                    self.own_addresses = addresses;
                    self.stale.insert(self.ground.me());
                }
            }
            Command::Reach => {
                // The picture shows addresses, and who can be reached by them.
                self.stale.extend(self.faces.keys());
                self.input(Input::Reach, None);
            }
            Command::Leave(done) => {
                self.input(Input::Leave, None);
                tokio::time::sleep(LEAVE_PAUSE).await;
                let _: Result<(), ()> = done.send(());
            }
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Datagram { peer, bytes } => self.input(Input::Packet(peer, bytes), Some(peer)),
            Event::Up { peer, addr } => {
                tracing::debug!(?peer, %addr, "connected");
                self.ground.untold(&peer);
                // One side is enough, and both know which.
                let first = self.ground.me() < peer;
                self.face(peer, |face| {
                    face.wants_exchange |= first;
                    (face.exchange_after, face.exchanges_failed) = (None, 0);
                    face.pull_after = Some(Instant::now() + FIRST_WORDS_PAUSE);
                });
            }
            Event::Down { peer, cause } => {
                tracing::debug!(?peer, ?cause, "disconnected");
                match cause {
                    Cause::Goodbye => self.input(Input::Goodbye(peer), None),
                    Cause::Lost(_) => self.input(Input::Lost(peer), None),
                    Cause::NotMember => {
                        tracing::warn!(?peer, "a member says that this node is not one: it will be asked why");
                        self.doubts.refused(peer);
                    }
                    Cause::Closed => {}
                }
            }
        }
    }

    fn met(&mut self, greeting: Greeting) {
        let id = greeting.id;
        if !self.ground.keeper.now().contains(&id) || id == self.ground.me() {
            return;
        }
        let (name, now_ms) = (crate::roster::tidy_name(&greeting.name), self.ground.now_ms());
        // The address that works stays in front: these are only more to try.
        for addr in greeting.addresses.iter().rev().filter(|addr| !addr.ip().is_unspecified() && addr.port() != 0) {
            self.mesh.learn(id, *addr);
        }
        let roster = self.ground.keeper.now();
        let mut news = false;
        for (other, addresses) in &greeting.others {
            if roster.contains(other) && *other != self.ground.me() && self.mesh.is_lost(other) {
                addresses.iter().rev().for_each(|addr| self.mesh.learn(*other, *addr));
                self.stale.insert(*other);
                news = true;
            }
        }
        if news {
            self.input(Input::Reach, None);
        }
        self.face(id, |face| {
            face.name = Some(name);
            face.seen_ms = now_ms;
            face.has_card(greeting.card.clone());
        });
        // Runs are counted by clocks: nobody can know this one under a number that its clock will never reach.
        let ahead_max = now_ms.saturating_add(CLOCKS_APART_MAX_MS);
        if greeting.known_as <= ahead_max {
            self.input(Input::KnownAs(greeting.known_as), None);
        }
        if greeting.epoch > ahead_max || greeting.pulse.stamp > ahead_max {
            tracing::warn!(member = ?id, "its clock is more than a day ahead of this machine's: it is not believed");
            return;
        }
        self.input(Input::Met(greeting.peer(), greeting.pulse), None);
        self.input(Input::Tick, None);
    }

    fn roster_changed(&mut self) {
        let roster = self.ground.keeper.now();
        let members: BTreeSet<NodeId> = roster.members().keys().copied().collect();
        let gone: Vec<NodeId> = self.faces.keys().filter(|id| !members.contains(id)).copied().collect();
        if !members.contains(&self.ground.me()) {
            self.alone_again();
            return;
        }
        for id in gone {
            self.faces.remove(&id);
            self.mesh.forget(&id);
            self.ground.untold(&id);
            self.stale.insert(id);
        }
        self.close_others(&roster);
        for id in &members {
            self.faces.entry(*id).or_default();
        }
        self.stale.extend(&members);
        self.touched.extend(&members);
        if std::mem::replace(&mut self.swarm, roster.swarm()) != roster.swarm() {
            self.input(Input::Renew, None);
        }
        self.input(Input::Roster(members, start_of(&roster)), None);
        self.input(Input::Tick, None);
    }

    /// Closes whatever connection there is to who is no member, known here or not.
    fn close_others(&self, roster: &Roster) {
        for id in self.mesh.connected().into_iter().filter(|id| !roster.contains(id)) {
            self.mesh.close(&id, Reason::Evicted);
        }
    }

    /// This node was taken off the roster by others: it goes on as a swarm of one.
    fn alone_again(&mut self) {
        tracing::warn!("this node was taken off the roster; it is a swarm of one now");
        let ground = self.ground.clone();
        self.ground.spawner.spawn(async move {
            // Until then it is nobody's member and dials those that refuse it: a full disk has room again some day.
            while let Err(error) = ground.go_on_alone().await {
                tracing::warn!(%error, "could not go on alone yet");
                tokio::time::sleep(ALONE_PAUSE).await;
            }
        });
    }

    fn own_card(&mut self) {
        let version = self.ground.card.now().version;
        if version != self.core.pulse().card {
            self.input(Input::Card(version), None);
            self.stale.insert(self.ground.me());
        }
    }

    fn pulled(&mut self, id: NodeId, card: Option<Card>) {
        let Some(face) = self.faces.get_mut(&id) else { return };
        face.pulling = false;
        self.touched.insert(id);
        if face.has_card(card) {
            self.stale.insert(id);
        } else {
            // It has no newer one: what others said of it was wrong, or will be true in a moment.
            face.pull_after = Some(Instant::now() + CARD_PAUSE);
        }
    }

    fn input(&mut self, input: Input, from: Option<NodeId>) {
        for action in self.core.handle(self.start.elapsed(), input) {
            match action {
                Action::Send(to, bytes) => {
                    self.mesh.datagram(to, bytes);
                }
                Action::State(id, state) => self.state(id, state),
                Action::Pulse(pulse) => self.heard(pulse),
                Action::Unknown(id) => {
                    tracing::debug!(?id, "gossip knows a member that the roster doesn't");
                    if let Some(from) = from {
                        self.face(from, |face| face.wants_exchange = true);
                    }
                }
            }
        }
    }

    fn state(&mut self, id: NodeId, state: State) {
        let now_ms = self.ground.now_ms();
        let known = self.core.known(&id).map_or(0, |peer| peer.epoch);
        self.ground.epochs.write().unwrap_or_else(PoisonError::into_inner).insert(id, known);
        let Some(face) = self.faces.get_mut(&id) else { return };
        if face.state != Some(state) {
            tracing::info!(member = ?id, ?state, "membership");
        }
        face.state = Some(state);
        match state {
            State::Up => {
                face.seen_ms = now_ms;
                if !self.mesh.is_up(&id) {
                    face.pull_after = None;
                }
            }
            // Calls to it fail at once instead of waiting for its connection to time out.
            State::Down | State::Left => self.mesh.close(&id, Reason::Down),
        }
        self.stale.insert(id);
        self.touched.insert(id);
    }

    fn heard(&mut self, pulse: Pulse) {
        let now_ms = self.ground.now_ms();
        let mine = self.core.pulse().roster;
        let Some(face) = self.faces.get_mut(&pulse.node) else { return };
        // Whether it takes work decides where work goes: that is shown at once.
        let turned = face.load.draining != pulse.load.draining;
        face.load = pulse.load;
        face.seen_ms = now_ms;
        if pulse.card > face.card_heard {
            face.card_heard = pulse.card;
            self.touched.insert(pulse.node);
        }
        face.heard_roster(pulse.roster == mine, Instant::now());
        if turned { &mut self.stale } else { &mut self.aged }.insert(pulse.node);
    }

    fn chores(&mut self) {
        self.close_others(&self.ground.keeper.now());
        self.own_card();
        self.doubt();
        self.hints();
        self.compare();
        self.stale.append(&mut self.aged);
        self.touched.extend(self.faces.keys());
    }

    /// Members that don't answer may have evicted this node while it could not be told.
    fn doubt(&mut self) {
        if cfg!(feature = "mutant-join-once") {
            return;
        }
        let me = self.ground.me();
        let silent = |id: &NodeId, face: &Face| {
            *id != me && face.state != Some(State::Up) && !face.addresses.is_empty() && !self.mesh.is_up(id)
        };
        let silent = self.faces.iter().filter(|(id, face)| silent(id, face)).map(|(id, _)| *id);
        for id in self.doubts.due(silent, Instant::now()) {
            let ground = self.ground.clone();
            self.ground.spawner.spawn(async move {
                if let Err(error) = doubt::resolve(&ground, id).await {
                    tracing::debug!(peer = ?id, %error, "a member refuses this node");
                    let _ = ground.commands.send(Command::Unexplained(id)).await;
                }
            });
        }
    }

    /// Asks a connected member, each in turn, where those are that gossip says are up and that can't be dialled from
    /// here: they were never met, or both sides have moved since.
    fn hints(&mut self) {
        let now = Instant::now();
        if self.hints_after > now {
            return;
        }
        let lacks: Vec<NodeId> = self.lacking().take(exchange::HINTS_MAX).collect();
        let lacking = !lacks.is_empty();
        *self.ground.lacks.write().unwrap_or_else(PoisonError::into_inner) = lacks;
        if !lacking {
            return;
        }
        let connected: Vec<NodeId> = self.faces.keys().filter(|id| self.mesh.is_up(id)).copied().collect();
        let next = connected.iter().find(|id| Some(**id) > self.hinted).or(connected.first()).copied();
        let Some(next) = next else { return };
        (self.hints_after, self.hinted) = (now + HINTS_PAUSE, Some(next));
        self.face(next, |face| face.wants_exchange = true);
    }

    /// Members that are up by hearsay and that can't be dialled.
    fn lacking(&self) -> impl Iterator<Item = NodeId> {
        let lost = |(id, face): &(&NodeId, &Face)| face.state == Some(State::Up) && self.mesh.is_lost(id);
        self.faces.iter().filter(lost).map(|(id, _)| *id)
    }

    /// Picks some of the members whose rosters differ from this node's, each in turn.
    fn compare(&mut self) {
        let now = Instant::now();
        let differ = |(id, face): (&NodeId, &Face)| face.differs(now).then_some(*id);
        let differing: Vec<NodeId> = self.faces.iter().filter_map(differ).collect();
        let (before, after): (Vec<NodeId>, Vec<NodeId>) =
            differing.into_iter().partition(|id| Some(*id) <= self.compared);
        for id in after.into_iter().chain(before).take(COMPARED_MAX) {
            self.compared = Some(id);
            self.face(id, |face| face.wants_exchange = true);
        }
    }

    /// Exchanges greetings and compares rosters with a member, if there is a reason and it is time.
    fn exchange(&mut self, id: NodeId) {
        let now = Instant::now();
        let Some(face) = self.faces.get_mut(&id).filter(|_| id != self.ground.me()) else { return };
        if face.exchanging || !face.wants_exchange || face.exchange_after.is_some_and(|at| at > now) {
            return;
        }
        if !self.mesh.is_up(&id) && !face.answers() {
            return;
        }
        face.wants_exchange = false;
        face.exchanging = true;
        face.exchange_after = Some(now + EXCHANGE_PAUSE);
        face.differs_since = None;
        let ground = self.ground.clone();
        self.ground.spawner.spawn(async move {
            let met = exchange::offer(&ground, id, Vec::new()).await;
            if let Err(error) = &met {
                tracing::debug!(peer = ?id, %error, "no exchange");
            }
            let _ = ground.commands.send(Command::Exchanged(id, met.is_ok())).await;
        });
    }

    /// Pulls the card of a member that has a newer one than what is here, or reaches it first: it will say.
    fn pull(&mut self, id: NodeId) {
        let Some(face) = self.faces.get_mut(&id) else { return };
        let due = face.pull_after.is_none_or(|at| at <= Instant::now());
        if !face.answers() || face.pulling || !due || face.card_heard <= face.card.version {
            return;
        }
        face.pulling = true;
        let (ground, mesh) = (self.ground.clone(), self.mesh.clone());
        self.ground.spawner.spawn(async move {
            let pull = async {
                if !mesh.is_up(&id) {
                    mesh.connect(id).await.ok()?;
                    return None;
                }
                let (to, mut from) = mesh.control(id, Protocol::Card).await.ok()?;
                let card = cards::pull(&mut from).await.ok();
                drop(to);
                card
            };
            let card = timeout(CARD_PAUSE, pull).await.ok().flatten();
            let _ = ground.commands.send(Command::Pulled(id, card)).await;
        });
    }

    fn face(&mut self, id: NodeId, change: impl FnOnce(&mut Face)) {
        if let Some(face) = self.faces.get_mut(&id) {
            change(face);
            self.stale.insert(id);
            self.touched.insert(id);
        }
    }

    /// After each input: what others read is brought up to date, and what became due is started.
    fn settle(&mut self) {
        for id in std::mem::take(&mut self.touched) {
            self.pull(id);
            self.exchange(id);
        }
        let own = (self.core.me(), self.core.pulse());
        let mut shown = self.ground.own.write().unwrap_or_else(PoisonError::into_inner);
        if *shown != own {
            *shown = own;
        }
        drop(shown);
        self.paint();
    }

    /// Shows everyone who changed as they are now.
    fn paint(&mut self) {
        if self.stale.is_empty() {
            return;
        }
        let (me, roster, shown) = (self.ground.me(), self.ground.keeper.now(), self.ground.members.now());
        let stale = std::mem::take(&mut self.stale);
        for id in &stale {
            self.aged.remove(id);
            if let Some(face) = self.faces.get_mut(id) {
                face.addresses = self.mesh.addresses(id);
                // Who couldn't be dialled may answer now.
                self.touched.insert(*id);
            }
        }
        let own = || Face {
            state: Some(State::Up),
            name: Some(self.ground.name()),
            addresses: self.own_addresses.clone(),
            // Our own "seen" is always now, which is no news.
            seen_ms: shown.get(&me).map_or_else(|| self.ground.now_ms(), |member| member.seen_ms),
            load: self.core.pulse().load,
            card: self.ground.card.now(),
            ..Face::default()
        };
        let member = |id: &NodeId| {
            let membership = roster.members().get(id)?;
            let face = if *id == me { own() } else { self.faces.get(id).cloned().unwrap_or_default() };
            Some(Member {
                id: *id,
                name: face.name.clone().unwrap_or_else(|| membership.name.clone()),
                state: if *id == me { State::Up } else { face.shown() },
                addresses: face.addresses,
                joined_ms: membership.joined_ms,
                seen_ms: face.seen_ms,
                load: face.load,
                card: face.card.bytes,
            })
        };
        let changes: Vec<_> = stale.iter().map(|id| (*id, member(id))).collect();
        drop(shown);
        self.ground.members.show(changes);
        self.save_addresses(&stale);
    }

    /// Keeps the addresses of these members on the disk, where they changed. Who has none now keeps the old ones,
    /// unless it is no member any more.
    fn save_addresses(&mut self, of: &BTreeSet<NodeId>) {
        let me = self.ground.me();
        let mut changed: BTreeMap<NodeId, Vec<SocketAddr>> = BTreeMap::new();
        for id in of.iter().filter(|id| **id != me) {
            match self.faces.get(id) {
                Some(face) if !face.addresses.is_empty() && self.saved.get(id) != Some(&face.addresses) => {
                    self.saved.insert(*id, face.addresses.clone());
                    changed.insert(*id, face.addresses.clone());
                }
                None if self.saved.remove(id).is_some() => drop(changed.insert(*id, Vec::new())),
                Some(_) | None => {}
            }
        }
        if !changed.is_empty() {
            self.ground.spawner.spawn(addresses::save(self.ground.store.clone(), changed));
        }
    }
}

/// The first bytes of a roster's digest: enough to notice a difference.
pub(super) fn start_of(roster: &Roster) -> u64 {
    u64::from_le_bytes(*roster.digest().first_chunk().expect("a digest has 32 bytes"))
}

/// Asks the driver to say goodbye in gossip, and waits until it has.
pub(super) async fn leave(ground: &Ground) {
    let (done, said) = oneshot::channel();
    if ground.commands.send(Command::Leave(done)).await.is_ok() {
        let _ = said.await;
    }
}
