//! A node's transport as its owner holds it: start, ask, stop.

use super::{
    config::{StartError, TransportConfig},
    doctor,
    door::Door,
    driver::{self, Driver},
    exchange,
    ground::{Command, Ground, Parts},
    seek::{Seeker, Sighted},
    visit,
};
use crate::{
    Env, Identity, Mesh,
    defaults::{ADDRESSES_PERIOD, COMMANDS_MAX, JOIN_SEEN_TIMEOUT, PUSH_TIMEOUT},
    discovery,
    env::Beacon,
    identity::Signature,
    join::{
        Line,
        book::INVITES_MAX,
        code::{CODE_CHARS, Code},
        invite::{ADDRESSES_MAX, Invitation},
    },
    membership::{Core, Peer},
    roster::{Keeper, Roster},
};
use futures::future::{BoxFuture, join_all};
use skep_runtime::{
    Directory, Load, Members, NodeId, Swarm, Tasks,
    member::State,
    store::Store,
    swarm::{Error, Finding, Invite, Waiting},
};
use std::{net::SocketAddr, sync::Arc};
use tokio::{sync::mpsc, time::timeout};

/// One node's transport: it runs until it is stopped or dropped. Dropping says no goodbye.
pub struct Transport {
    ground: Arc<Ground>,
    mesh: Mesh,
    sighted: Sighted,
    tasks: Tasks,
}

impl Transport {
    /// Listens, connects `directory` to the other nodes, keeps `members` current from now on. The roster is in
    /// `store`; a node without one founds a swarm of one.
    pub async fn start(
        config: TransportConfig,
        env: Env,
        identity: Arc<Identity>,
        directory: Directory,
        members: Members,
        store: Store,
    ) -> Result<Transport, StartError> {
        let me = Peer { id: identity.id(), epoch: env.base.now_ms() };
        let founded = Roster::found(&identity, &config.name, env.base.now_ms(), env.base.bytes());
        let keeper = Keeper::open(store.clone(), me.id, founded).await?;
        let tasks = env.base.tasks();
        let core = Core::new(me, env.base.rng());
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let ground = Ground::new(Parts {
            env: env.clone(),
            identity: identity.clone(),
            config,
            store,
            keeper,
            members,
            spawner: tasks.spawner(),
            commands,
            me,
            pulse: core.pulse(),
        });
        let (mesh, incoming) = Mesh::start(&env, &identity, directory, Door::new(&ground), ground.config.listen)?;
        ground.connect(mesh.clone());
        let listening = discovery::reachable(mesh.local_addr(), env.base.simulated()).await;
        let driver = Driver::new(ground.clone(), mesh.clone(), core, listening);
        tasks.spawn(driver.run(incoming, inbox));
        // An invite names the addresses of the moment that it is made in.
        let (listens, simulated, told) = (mesh.clone(), env.base.simulated(), ground.clone());
        tasks.spawn(async move {
            loop {
                tokio::time::sleep(ADDRESSES_PERIOD).await;
                let addresses = discovery::reachable(listens.local_addr(), simulated).await;
                let _ = told.commands.send(Command::Reached(addresses)).await;
            }
        });
        let sighted = Sighted::default();
        let beacon = Beacon { node: me.id, port: mesh.local_addr().port(), swarm: discovery::NEIGHBOURHOOD.to_owned() };
        let sightings =
            if ground.config.mdns { env.net.discover(beacon) } else { Box::pin(futures::stream::pending()) };
        Seeker::spawn(&ground, sighted.clone(), sightings);
        Ok(Transport { ground, mesh, sighted, tasks })
    }

    /// Who this is.
    pub fn id(&self) -> NodeId {
        self.ground.me()
    }

    /// Where the socket listens; the port is the real one.
    pub fn local_addr(&self) -> SocketAddr {
        self.mesh.local_addr()
    }

    /// The connections, for whoever measures or tests them.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// Says goodbye to everyone and stops. Bounded by the goodbye's and the tasks' time-outs.
    pub async fn stop(self) {
        self.goodbye().await;
        self.tasks.stop().await;
    }

    async fn goodbye(&self) {
        let gossip = timeout(PUSH_TIMEOUT, driver::leave(&self.ground));
        let _ = gossip.await;
        self.mesh.shutdown().await;
    }

    async fn open_invite(&self) -> Result<Invite, Error> {
        let base = &self.ground.env.base;
        let random: [[u8; 8]; CODE_CHARS] = std::array::from_fn(|_| base.bytes());
        let (secret, now_ms) = (base.bytes(), self.ground.now_ms());
        let (code, expires_ms) = {
            let mut book = self.ground.book();
            let code = Code::from_random(random.map(u64::from_le_bytes), &book.taken(now_ms)).ok_or_else(|| {
                Error::Refused(format!(
                    "{INVITES_MAX} invites are open on this machine: wait until one is used or its ten minutes are \
                     over, invite from another member, or give unattended machines a swarm key"
                ))
            })?;
            let expires_ms = book.open(secret, code.clone(), now_ms);
            (code, expires_ms)
        };
        let addresses = self.ground.addresses().into_iter().take(ADDRESSES_MAX).collect();
        let line = Line { inviter: self.ground.me(), addresses, secret };
        Ok(Invite { line: line.text(), code: code.text(), addresses: line.addresses, expires_ms })
    }

    async fn accept_invite(&self, text: &str) -> Result<(), Error> {
        let invitation = Invitation::parse(text).ok_or(Error::BadInvite)?;
        let members = self.ground.keeper.now().members().len();
        if members > 1 {
            // A script or a unit file says it again at each start: what it asks for is so already.
            return if self.welcomed_by(&invitation) { Ok(()) } else { Err(Error::AlreadyMember(members)) };
        }
        match invitation {
            Invitation::Line(line) => {
                let also = self.sighted.addresses(&line.inviter);
                visit::by_line(&self.ground, &line, &also).await
            }
            Invitation::Code(code, host) => visit::by_code(&self.ground, code, &host).await,
        }
    }

    /// Whether who invites is of this node's swarm.
    fn welcomed_by(&self, invitation: &Invitation) -> bool {
        match invitation {
            Invitation::Line(line) => self.ground.membership(&line.inviter).is_some(),
            Invitation::Code(_, host) => {
                let stands_there =
                    |at: SocketAddr| self.ground.members.now().values().any(|m| m.addresses.contains(&at));
                host.parse().is_ok_and(stands_there)
            }
        }
    }

    /// Approves, then waits a little: if the other owner has approved as well, it is done when this returns.
    async fn admit_waiting(&self, code: &str) -> Result<NodeId, Error> {
        let mut changes = self.ground.members.changes();
        let id = self.ground.lobby().approve(code, self.ground.now_ms())?;
        self.ground.approvals.notify_waiters();
        let together = changes.wait_for(|picture| picture.get(&id).is_some_and(|m| m.state == State::Up));
        let _ = timeout(JOIN_SEEN_TIMEOUT / 2, together).await;
        Ok(id)
    }

    async fn take_off(&self, id: NodeId, force: bool) -> Result<(), Error> {
        if id == self.ground.me() {
            return Err(Error::Oneself);
        }
        if self.ground.membership(&id).is_none() {
            return Err(Error::NoSuchNode(id.to_string()));
        }
        let of = self.ground.keeper.now().members().len();
        let asks = self
            .ground
            .up()
            .into_iter()
            .map(|peer| timeout(PUSH_TIMEOUT, exchange::offer(&self.ground, peer, Vec::new())));
        let up = 1 + join_all(asks).await.into_iter().filter(|answer| matches!(answer, Ok(Ok(_)))).count();
        if !force && up * 2 <= of {
            return Err(Error::NoMajority { up, of });
        }
        let (identity, now_ms) = (&self.ground.identity, self.ground.now_ms());
        let record = self.ground.keeper.now().evict(identity, id, now_ms).map_err(|e| Error::Refused(e.to_string()))?;
        // It is told while it can still be: with the change of this node's roster its connections close.
        let told = self.ground.up().into_iter().filter(|peer| *peer == id);
        let told = told.map(|peer| timeout(PUSH_TIMEOUT, exchange::tell_only(&self.ground, peer, record.clone())));
        join_all(told).await;
        self.ground.keeper.merge(vec![record.clone()]).await?;
        self.ground.push(vec![record]).await;
        tracing::info!(member = ?id, force, "evicted");
        Ok(())
    }

    async fn go(&self, forget: bool) -> Result<(), Error> {
        if !forget {
            self.goodbye().await;
            return Ok(());
        }
        let _one = self.ground.change().await?;
        self.ground.found().await
    }
}

impl Swarm for Transport {
    fn swarm_id(&self) -> [u8; 32] {
        self.ground.keeper.now().swarm().0
    }

    fn announce(&self, card: Vec<u8>) {
        let floor = self.ground.own.read().unwrap_or_else(std::sync::PoisonError::into_inner).0.epoch;
        if self.ground.card.change(card, floor).is_some() {
            // If the driver is behind, it finds the new card by itself.
            let _ = self.ground.commands.try_send(Command::Card);
        }
    }

    fn report(&self, load: Load) {
        // A report that finds the queue full is replaced by the next.
        let _ = self.ground.commands.try_send(Command::Load(load));
    }

    fn invite(&self) -> BoxFuture<'_, Result<Invite, Error>> {
        Box::pin(self.open_invite())
    }

    fn opens(&self, line: &str) -> bool {
        let ours = Line::parse(line).filter(|line| line.inviter == self.ground.me());
        ours.is_some_and(|line| self.ground.book().lets_in(&line.secret, self.ground.now_ms()))
    }

    fn join(&self, invite: String) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move { self.accept_invite(&invite).await })
    }

    fn waiting(&self) -> Vec<Waiting> {
        self.ground.lobby().waiting(self.ground.now_ms())
    }

    fn approve(&self, code: String) -> BoxFuture<'_, Result<NodeId, Error>> {
        Box::pin(async move { self.admit_waiting(&code).await })
    }

    fn sign(&self, context: &str, bytes: &[u8]) -> [u8; 64] {
        *self.ground.identity.sign(context, bytes).as_bytes()
    }

    fn signed(&self, signer: &NodeId, context: &str, bytes: &[u8], signature: &[u8; 64]) -> bool {
        Signature::from_bytes(*signature).verify(signer, context, bytes).is_ok()
    }

    fn evict(&self, id: NodeId, force: bool) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.take_off(id, force))
    }

    fn leave(&self, forget: bool) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.go(forget))
    }

    fn diagnose(&self) -> BoxFuture<'_, Vec<Finding>> {
        Box::pin(doctor::diagnose(&self.ground))
    }
}
