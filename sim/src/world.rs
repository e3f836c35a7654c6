//! Some machines on one network, the nodes that run on them, and the truth about both.
//!
//! Scenarios act through it, so it knows what every node ought to find out: who runs, who is in whose swarm, who can
//! reach whom. It decides nothing and checks nothing: `scenario` and `property` do.

use crate::{
    clock, log,
    net::{Host, Link, Network},
    node::{Node, Parts},
    timeline::{Shade, Timeline},
    trace::{Sums, Trace},
    turns::Turns,
};
use anyhow::{Context as _, Result, ensure};
use futures::future::join_all;
use rand::{Rng, RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use skep_actors::model::synthetic::{Options, tiny_llama};
use skep_runtime::{
    Members, NodeId, Tasks,
    member::{Picture, State},
    store::{Medium, Tear},
};
use skep_transport::{Identity, Transport};
use std::{
    cell::Cell,
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};
use tempfile::TempDir;
use tokio::time::sleep;

/// The wall clock at the world's beginning: 2026-01-01.
const WALL: Duration = Duration::from_secs(1_767_225_600);
/// Where nodes listen, as in production.
const PORT: u16 = 4892;
/// Machines of one world, and addresses that they have had: a few /24 networks.
const MACHINES_MAX: usize = 1000;
/// How long a flush may take at most: what a slow SD card needs for a few pages.
const FLUSH_MS_MAX: u64 = 4;

/// What whoever starts a run may choose beside the seed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wishes {
    /// How many nodes, if the scenario leaves that open.
    pub nodes: Option<usize>,
    /// How long, in virtual time, if the scenario leaves that open.
    pub until: Option<Duration>,
    /// Whether the nodes' beliefs are wanted as a page.
    pub timeline: bool,
}

/// All machines, by number.
pub struct World {
    network: Network,
    rng: ChaCha8Rng,
    machines: Vec<Machine>,
    swarms: usize,
    addresses: usize,
    /// Of nodes that ended: nothing of them may live on.
    pub(crate) ended: Vec<Weak<Transport>>,
    /// The one real folder of a world: the models' actor makes its own in it. Gone with the world.
    home: TempDir,
    mdns: bool,
    divided: Cell<bool>,
    wishes: Wishes,
    beliefs: Arc<Mutex<Beliefs>>,
    measures: Vec<(String, f64)>,
    tasks: Tasks,
}

/// What is recorded for people to look at.
#[derive(Default)]
struct Beliefs {
    timeline: Timeline,
    /// Whose machine is which.
    keys: Vec<NodeId>,
}

/// A machine: it outlives the nodes that run on it.
struct Machine {
    name: String,
    at: SocketAddr,
    key: [u8; 32],
    id: NodeId,
    medium: Arc<Medium>,
    turns: Arc<Turns>,
    node: Option<Node>,
    swarm: usize,
    /// It was taken off a roster, or took itself off.
    uprooted: bool,
    /// Gone for good.
    retired: bool,
}

impl World {
    /// An empty world in which everything follows from `seed`. Its trace is also written to `text`.
    pub fn new(seed: u64, wishes: Wishes, text: Option<Box<dyn Write + Send>>) -> Result<World> {
        let stream = |number| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(number);
            rng
        };
        let mut rng = stream(1);
        let usual = Link::drawn(&mut rng);
        let network = Network::new(stream(2), usual, Trace::new(text));
        log::write_to(&network);
        network.note(format_args!("seed {seed}: {usual:?}"));
        let tasks = Tasks::simulated(None);
        tasks.spawn(network.clone().carry());
        // Named by the process: what is drawn in this thread is drawn alike in others that play this seed.
        let home = tempfile::Builder::new().prefix(&format!("skep-sim-{}-", std::process::id())).tempdir()?;
        Ok(World {
            network,
            rng,
            machines: Vec::new(),
            swarms: 0,
            addresses: 0,
            ended: Vec::new(),
            home,
            mdns: false,
            divided: Cell::new(false),
            wishes,
            beliefs: Arc::default(),
            measures: Vec::new(),
            tasks,
        })
    }

    /// What was asked for beside the seed.
    pub fn wishes(&self) -> Wishes {
        self.wishes
    }

    /// Machines that are added from now on look for each other.
    pub fn set_mdns(&mut self, mdns: bool) {
        self.mdns = mdns;
    }

    /// Adds a machine and starts its node, a swarm of one. Gives its number.
    pub async fn add(&mut self) -> Result<usize> {
        let mut key = [0; 32];
        self.rng.fill_bytes(&mut key);
        let medium = Medium::new();
        medium.set_flush_delay(Duration::from_millis(self.rng.random_range(0..=FLUSH_MS_MAX)));
        let swarm = self.new_swarm();
        self.place(key, medium, swarm).await
    }

    /// Adds a machine that is a copy of another, key and disk included, as a cloned virtual machine is.
    pub async fn add_clone(&mut self, of: usize) -> Result<usize> {
        let Machine { key, medium, swarm, .. } = &self.machines[of];
        let (key, medium, swarm) = (*key, medium.copy(), *swarm);
        self.place(key, medium, swarm).await
    }

    async fn place(&mut self, key: [u8; 32], medium: Arc<Medium>, swarm: usize) -> Result<usize> {
        let number = self.machines.len();
        let name = format!("n{number}");
        let (at, turns, id) = (self.new_address()?, Arc::new(Turns::all(&name)), Identity::from_seed(key).id());
        self.machines.push(Machine {
            name,
            at,
            key,
            id,
            medium,
            turns,
            node: None,
            swarm,
            uprooted: false,
            retired: false,
        });
        self.beliefs().keys.push(id);
        self.start(number).await?;
        Ok(number)
    }

    fn new_address(&mut self) -> Result<SocketAddr> {
        let number = self.addresses;
        ensure!(number < MACHINES_MAX, "a world has at most {MACHINES_MAX} addresses");
        self.addresses += 1;
        Ok(SocketAddr::new(Ipv4Addr::new(10, 0, (number / 250) as u8, (number % 250) as u8 + 1).into(), PORT))
    }

    /// Adds `count` machines that form one swarm: each is invited by one that is in it.
    pub async fn form(&mut self, count: usize) -> Result<()> {
        let first = self.add().await?;
        for _ in 1..count {
            let next = self.add().await?;
            let door = self.rng.random_range(first..next);
            self.join(next, door).await?;
        }
        Ok(())
    }

    /// Starts the node of a machine on which none runs.
    pub async fn start(&mut self, number: usize) -> Result<()> {
        self.note(&format!("start {number}"));
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let machine = &mut self.machines[number];
        ensure!(machine.node.is_none(), "a node runs on machine {number}");
        let parts = Parts {
            name: machine.name.clone(),
            listen: machine.at,
            key: machine.key,
            seed,
            wall: WALL + clock::now(),
            turns: machine.turns.clone(),
            medium: machine.medium.clone(),
            host: Host::new(self.network.clone(), machine.at.ip()),
            home: self.home.path().to_owned(),
            mdns: self.mdns,
        };
        let node = Node::start(parts).await.with_context(|| format!("machine {number} starts"))?;
        let members = node.members().clone();
        machine.node = Some(node);
        self.beliefs().timeline.truth(clock::now(), number, Shade::Up);
        // Also if nobody will look: a task more would be another run.
        self.tasks.spawn(watch(number, members, self.beliefs.clone()));
        Ok(())
    }

    /// Ends a node in the middle of what it does: first its cable, so that it can't say anything, then itself, and
    /// the disk keeps what was flushed and perhaps a torn end.
    pub fn crash(&mut self, number: usize) -> Result<()> {
        self.note(&format!("crash {number}"));
        let tear = Tear::At(self.rng.next_u64());
        let machine = &mut self.machines[number];
        let node = machine.node.take().context("no node runs there")?;
        self.network.unplug(machine.at);
        machine.medium.crash(tear);
        log::ended(&machine.name);
        self.ended.push(node.crash());
        self.beliefs().timeline.truth(clock::now(), number, Shade::Down);
        Ok(())
    }

    /// Lets the node of a machine run in one of `every` turns; 1 is always.
    pub fn slow(&mut self, number: usize, every: u32) {
        self.divide(&format!("slow {number}: one turn in {every}"));
        let own = self.rng.random_range(0..every.max(1));
        self.machines[number].turns.set(every, own);
    }

    /// A machine sleeps: its node does nothing for this time, and does not know it.
    pub fn sleep(&self, number: usize, time: Duration) {
        self.divide(&format!("sleep {number}: {} ms", time.as_millis()));
        self.machines[number].turns.sleep(time);
    }

    /// A machine gets another address while its node runs, as from a DHCP server.
    pub fn renumber(&mut self, number: usize) -> Result<()> {
        let to = self.new_address()?;
        self.divide(&format!("renumber {number}: {to}"));
        let machine = &mut self.machines[number];
        self.network.renumber(machine.at, to);
        machine.at = to;
        Ok(())
    }

    /// The disk of a machine has this much room left, from now on; `None` is as much as it wants.
    pub fn fill_disk(&self, number: usize, room_bytes: Option<u64>) {
        self.note(&format!("room on the disk of {number}: {room_bytes:?} bytes"));
        let medium = &self.machines[number].medium;
        medium.set_capacity_bytes(room_bytes.map(|room| medium.live_bytes() + room));
    }

    /// The disk of a machine, to be looked at and damaged.
    pub fn medium(&self, number: usize) -> &Arc<Medium> {
        &self.machines[number].medium
    }

    /// A machine gets another disk: one that was set aside, or an export.
    pub fn replace_medium(&mut self, number: usize, medium: Arc<Medium>) {
        self.note(&format!("another disk for {number}"));
        self.machines[number].medium = medium;
    }

    /// Lays a small model with drawn weights into the folder that all nodes find their models in: a stream of tokens
    /// that follows from the seed, computed by the real engine. Nodes that start later have it. Gives its name.
    pub fn plant_model(&mut self) -> Result<&'static str> {
        let folder = self.home.path().join("models");
        std::fs::create_dir_all(&folder)?;
        let options = Options { layers: 6, hidden: 32, heads: 2, kv_heads: 1, feed_forward: 64, ..Options::default() };
        tiny_llama(folder.join("tiny.gguf"), self.rng.next_u64(), &options)?;
        self.note("a model is planted");
        Ok("tiny")
    }

    /// Pulls a machine's cable behind the world's back: what properties must notice.
    #[cfg(test)]
    pub(crate) fn unplug(&self, number: usize) {
        self.network.unplug(self.machines[number].at);
    }

    /// Stops a node in order: it says goodbye.
    pub async fn stop(&mut self, number: usize) -> Result<()> {
        self.note(&format!("stop {number}"));
        let node = self.machines[number].node.take().context("no node runs there")?;
        self.ended.push(node.stop().await);
        self.beliefs().timeline.truth(clock::now(), number, Shade::Left);
        Ok(())
    }

    /// Makes one machine a member of another's swarm, by an invite's line or its code.
    pub async fn join(&mut self, number: usize, door: usize) -> Result<()> {
        self.ask_to_join(number, door).await?;
        self.joined(number, door);
        Ok(())
    }

    /// The same, and what comes of it is the caller's to find out.
    pub async fn ask_to_join(&mut self, number: usize, door: usize) -> Result<()> {
        self.note(&format!("join {number} at {door}"));
        let invite = self.node(door)?.swarm().invite().await.context("the invite")?;
        let by_code = self.rng.random_bool(0.5);
        let text = if by_code { format!("{}@{}", invite.code, self.machines[door].at) } else { invite.line };
        let joined = self.node(number)?.swarm().join(text).await;
        joined.with_context(|| format!("machine {number} joins at {door}"))
    }

    /// Makes many machines members of the swarms of their doors at the same time, each by an invite of its own.
    pub async fn join_together(&mut self, joins: &[(usize, usize)]) -> Result<()> {
        self.note(&format!("join, all at once: {joins:?}"));
        let mut visits = Vec::new();
        for (number, door) in joins {
            let invite = self.node(*door)?.swarm().invite().await.context("the invite")?;
            let join = self.node(*number)?.swarm().join(invite.line);
            visits.push(async move { join.await.with_context(|| format!("machine {number} joins at {door}")) });
        }
        join_all(visits).await.into_iter().collect::<Result<Vec<()>>>()?;
        joins.iter().for_each(|(number, door)| self.joined(*number, *door));
        Ok(())
    }

    /// Notes that a machine is in another's swarm: for scenarios that have brought it there themselves.
    pub fn joined(&mut self, number: usize, door: usize) {
        self.machines[number].swarm = self.machines[door].swarm;
    }

    /// A node takes itself off the roster and becomes a swarm of one.
    pub async fn leave(&mut self, number: usize) -> Result<()> {
        self.note(&format!("leave {number}"));
        self.node(number)?.swarm().leave(true).await.with_context(|| format!("machine {number} leaves"))?;
        self.evicted(number);
        Ok(())
    }

    /// A member takes another off the roster.
    pub async fn evict(&mut self, by: usize, number: usize) -> Result<()> {
        self.note(&format!("{by} evicts {number}"));
        let id = self.id(number);
        self.node(by)?.swarm().evict(id, false).await.with_context(|| format!("machine {by} evicts {number}"))?;
        self.evicted(number);
        Ok(())
    }

    /// Notes that a machine is out of its swarm: for scenarios that learnt it themselves.
    pub fn evicted(&mut self, number: usize) {
        self.machines[number].swarm = self.new_swarm();
        self.machines[number].uprooted = true;
    }

    /// Lets nothing pass between machines of different groups. A machine in no group is untouched.
    pub fn partition(&self, groups: &[&[usize]]) {
        self.divide(&format!("partition {groups:?}"));
        for (i, group) in groups.iter().enumerate() {
            for (from, to) in groups[i + 1..].iter().flat_map(|other| pairs(group, other)) {
                self.network.cut(self.machines[from].at.ip(), self.machines[to].at.ip());
                self.network.cut(self.machines[to].at.ip(), self.machines[from].at.ip());
            }
        }
    }

    /// Lets nothing pass from the machines `from` to the machines `to`; the other direction is untouched.
    pub fn cut(&self, from: &[usize], to: &[usize]) {
        self.divide(&format!("cut {from:?} -> {to:?}"));
        for (from, to) in pairs(from, to) {
            self.network.cut(self.machines[from].at.ip(), self.machines[to].at.ip());
        }
    }

    /// Makes the way between two machines, in both directions, a special one.
    pub fn link(&self, one: usize, other: usize, link: Link) {
        self.link_one_way(one, other, link);
        self.link_one_way(other, one, link);
    }

    /// Makes the way from one machine to another, in this direction alone, a special one.
    pub fn link_one_way(&self, from: usize, to: usize, link: Link) {
        self.divide(&format!("link {from} > {to}: {link:?}"));
        self.network.set_link(self.machines[from].at.ip(), self.machines[to].at.ip(), link);
    }

    /// Mends everything that [`World::partition`] and [`World::cut`] did.
    pub fn heal(&self) {
        self.note("heal");
        self.network.heal();
    }

    /// Makes every link a usual one, and every machine as fast as it can be. Who sleeps goes on sleeping.
    pub fn mend(&mut self) {
        self.note("all links and machines are as usual");
        self.network.mend();
        self.machines.iter().for_each(|machine| machine.turns.set(1, 0));
    }

    /// Somebody opens every laptop.
    pub fn wake(&mut self) {
        self.note("all machines are awake");
        self.machines.iter().for_each(|machine| machine.turns.wake());
    }

    /// Lets time pass.
    pub async fn pass(&self, time: Duration) {
        sleep(time).await;
    }

    /// Lets some time pass, this much at most.
    pub async fn pass_up_to(&mut self, most: Duration) {
        let time = self.rng.random_range(0..=most.as_millis() as u64);
        self.pass(Duration::from_millis(time)).await;
    }

    /// What scenarios draw from.
    pub fn rng(&mut self) -> &mut ChaCha8Rng {
        &mut self.rng
    }

    /// All machines, in an order that is drawn.
    pub fn shuffled(&mut self) -> Vec<usize> {
        let mut all: Vec<usize> = (0..self.machines.len()).collect();
        all.shuffle(&mut self.rng);
        all
    }

    /// Writes a line into the trace.
    pub fn note(&self, what: &str) {
        self.network.note(format_args!("== {what}"));
        self.beliefs().timeline.event(clock::now(), what);
    }

    /// Measures something; many runs together show how it is spread.
    pub fn measure(&mut self, what: &str, value: f64) {
        self.note(&format!("{what}: {value}"));
        self.measures.push((what.to_owned(), value));
    }

    /// What was measured.
    pub fn measures(&self) -> &[(String, f64)] {
        &self.measures
    }

    /// The trace's last lines, datagrams left out.
    pub fn last_lines(&self) -> String {
        self.network.last_lines()
    }

    /// What was believed, as a page.
    pub fn timeline_page(&self, title: &str) -> String {
        self.beliefs().timeline.page(title, clock::now())
    }

    fn beliefs(&self) -> MutexGuard<'_, Beliefs> {
        locked(&self.beliefs)
    }

    /// The run's numbers so far.
    pub fn sums(&self) -> Sums {
        self.network.sums()
    }

    /// The node that runs on a machine.
    pub fn node(&self, number: usize) -> Result<&Node> {
        self.machines[number].node.as_ref().with_context(|| format!("no node runs on machine {number}"))
    }

    /// The key of a machine.
    pub fn id(&self, number: usize) -> NodeId {
        self.machines[number].id
    }

    /// The name of a machine.
    pub fn name(&self, number: usize) -> &str {
        &self.machines[number].name
    }

    /// How many machines there are.
    pub fn count(&self) -> usize {
        self.machines.len()
    }

    /// A machine is gone for good: nobody has to know anything about it.
    pub fn retire(&mut self, number: usize) {
        self.note(&format!("retire {number}"));
        self.machines[number].retired = true;
    }

    /// The machines that are not gone for good.
    pub fn present(&self) -> Vec<usize> {
        (0..self.machines.len()).filter(|number| !self.machines[*number].retired).collect()
    }

    /// The machines on which a node runs.
    pub fn running(&self) -> Vec<usize> {
        (0..self.machines.len()).filter(|number| self.machines[*number].node.is_some()).collect()
    }

    /// Somebody who lives may be taken for dead from now on.
    fn divide(&self, how: &str) {
        self.note(how);
        self.divided.set(true);
    }

    /// Truth: whether somebody who lived could ever be taken for dead. While machines only crash, stop and start, nobody
    /// can.
    pub fn was_divided(&self) -> bool {
        self.divided.get()
    }

    /// Truth: whether two machines are members of one swarm.
    pub fn together(&self, one: usize, other: usize) -> bool {
        self.machines[one].swarm == self.machines[other].swarm
    }

    /// Truth: whether a machine was once taken off a roster: what others wrote there it has left behind.
    pub fn was_uprooted(&self, number: usize) -> bool {
        self.machines[number].uprooted
    }

    /// Truth: whether a machine is a swarm of one.
    pub fn is_alone(&self, number: usize) -> bool {
        self.machines.iter().filter(|machine| machine.swarm == self.machines[number].swarm).count() == 1
    }

    /// Truth: whether datagrams pass between two machines, in both directions.
    pub fn reaches(&self, one: usize, other: usize) -> bool {
        one == other || self.network.connects(self.machines[one].at.ip(), self.machines[other].at.ip())
    }

    fn new_swarm(&mut self) -> usize {
        self.swarms += 1;
        self.swarms
    }
}

fn pairs(some: &[usize], others: &[usize]) -> Vec<(usize, usize)> {
    some.iter().flat_map(|one| others.iter().map(|other| (*one, *other))).collect()
}

fn locked(beliefs: &Mutex<Beliefs>) -> MutexGuard<'_, Beliefs> {
    beliefs.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Records what a node believes, for as long as it runs.
async fn watch(by: usize, members: Members, beliefs: Arc<Mutex<Beliefs>>) {
    let mut changes = members.changes();
    drop(members);
    let mut before = Picture::default();
    loop {
        let picture = changes.borrow_and_update().clone();
        // Most changes are how busy somebody is, which no row shows.
        let unchanged = states(&before).eq(states(&picture));
        before = picture.clone();
        let shade = |id: &NodeId| match picture.get(id).map(|member| member.state) {
            Some(State::Up) => Shade::Up,
            Some(State::Down) => Shade::Down,
            Some(State::Left) => Shade::Left,
            None => Shade::None,
        };
        if !unchanged {
            locked(&beliefs).note(by, shade);
        }
        if changes.changed().await.is_err() {
            break;
        }
    }
    // Nobody runs there any more who could believe anything.
    locked(&beliefs).note(by, |_| Shade::None);
}

fn states(picture: &Picture) -> impl Iterator<Item = (NodeId, State)> {
    picture.iter().map(|(id, member)| (*id, member.state))
}

impl Beliefs {
    fn note(&mut self, by: usize, shade: impl Fn(&NodeId) -> Shade) {
        for (of, id) in self.keys.iter().enumerate() {
            self.timeline.belief(clock::now(), by, of, shade(id));
        }
    }
}
