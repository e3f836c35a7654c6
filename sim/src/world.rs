//! Some machines on one network, the nodes that run on them, and the truth about both.
//!
//! Scenarios act through it, so it knows what every node ought to find out: who runs, who is in whose swarm, who can
//! reach whom. It decides nothing and checks nothing: `scenario` and `property` do.

use crate::{
    clock,
    net::{Host, Link, Network},
    node::{Node, Parts},
    trace::{Sums, Trace},
};
use anyhow::{Context as _, Result, ensure};
use rand::{Rng, RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use skep_runtime::{
    NodeId, Tasks,
    store::{Medium, Tear},
};
use skep_transport::{Identity, Transport};
use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::time::sleep;

/// The wall clock at the world's beginning: 2026-01-01.
const WALL: Duration = Duration::from_secs(1_767_225_600);
/// Where nodes listen, as in production.
const PORT: u16 = 4892;
/// Machines of one world: the hosts of one /24 network.
const MACHINES_MAX: usize = 250;
/// How long a flush may take at most: what a slow SD card needs for a few pages.
const FLUSH_MS_MAX: u64 = 4;

/// All machines, by number.
pub struct World {
    network: Network,
    rng: ChaCha8Rng,
    machines: Vec<Machine>,
    swarms: usize,
    /// Of nodes that ended: nothing of them may live on.
    pub(crate) ended: Vec<Weak<Transport>>,
    home: Home,
    mdns: bool,
    _tasks: Tasks,
}

/// A machine: it outlives the nodes that run on it.
struct Machine {
    name: String,
    at: SocketAddr,
    key: [u8; 32],
    id: NodeId,
    medium: Arc<Medium>,
    node: Option<Node>,
    swarm: usize,
}

impl World {
    /// An empty world in which everything follows from `seed`. Its trace is also written to `text`.
    pub fn new(seed: u64, text: Option<Box<dyn Write + Send>>) -> Result<World> {
        let stream = |number| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(number);
            rng
        };
        let mut rng = stream(1);
        let usual = Link::drawn(&mut rng);
        let network = Network::new(stream(2), usual, Trace::new(text));
        network.note(&format!("seed {seed}: {usual:?}"));
        let tasks = Tasks::new(true);
        tasks.spawn(network.clone().carry());
        let (machines, ended, home) = (Vec::new(), Vec::new(), Home::new()?);
        Ok(World { network, rng, machines, swarms: 0, ended, home, mdns: false, _tasks: tasks })
    }

    /// Machines that are added from now on look for each other.
    pub fn set_mdns(&mut self, mdns: bool) {
        self.mdns = mdns;
    }

    /// Adds a machine and starts its node, a swarm of one. Gives its number.
    pub async fn add(&mut self) -> Result<usize> {
        let number = self.machines.len();
        ensure!(number < MACHINES_MAX, "a world has at most {MACHINES_MAX} machines");
        let mut key = [0; 32];
        self.rng.fill_bytes(&mut key);
        let medium = Medium::new();
        medium.set_flush_delay(Duration::from_millis(self.rng.random_range(0..=FLUSH_MS_MAX)));
        let swarm = self.new_swarm();
        self.machines.push(Machine {
            name: format!("n{number}"),
            at: SocketAddr::new(Ipv4Addr::new(10, 0, 0, number as u8 + 1).into(), PORT),
            key,
            id: Identity::from_seed(key).id(),
            medium,
            node: None,
            swarm,
        });
        self.start(number).await?;
        Ok(number)
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
            medium: machine.medium.clone(),
            host: Host::new(self.network.clone(), machine.at.ip()),
            home: self.home.0.clone(),
            mdns: self.mdns,
        };
        machine.node = Some(Node::start(parts).await.with_context(|| format!("machine {number} starts"))?);
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
        self.ended.push(node.crash());
        Ok(())
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
        Ok(())
    }

    /// Makes one machine a member of another's swarm, by an invite's line or its code.
    pub async fn join(&mut self, number: usize, door: usize) -> Result<()> {
        self.note(&format!("join {number} at {door}"));
        let invite = self.node(door)?.swarm().invite().await.context("the invite")?;
        let by_code = self.rng.random_bool(0.5);
        let text = if by_code { format!("{}@{}", invite.code, self.machines[door].at) } else { invite.line };
        let joined = self.node(number)?.swarm().join(text).await;
        joined.with_context(|| format!("machine {number} joins at {door}"))?;
        self.joined(number, door);
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
        self.machines[number].swarm = self.new_swarm();
        Ok(())
    }

    /// A member takes another off the roster.
    pub async fn evict(&mut self, by: usize, number: usize) -> Result<()> {
        self.note(&format!("{by} evicts {number}"));
        let id = self.id(number);
        self.node(by)?.swarm().evict(id, false).await.with_context(|| format!("machine {by} evicts {number}"))?;
        self.machines[number].swarm = self.new_swarm();
        Ok(())
    }

    /// Lets nothing pass between machines of different groups. A machine in no group is untouched.
    pub fn partition(&self, groups: &[&[usize]]) {
        self.note(&format!("partition {groups:?}"));
        for (i, group) in groups.iter().enumerate() {
            for (from, to) in groups[i + 1..].iter().flat_map(|other| pairs(group, other)) {
                self.network.cut(self.machines[from].at.ip(), self.machines[to].at.ip());
                self.network.cut(self.machines[to].at.ip(), self.machines[from].at.ip());
            }
        }
    }

    /// Lets nothing pass from the machines `from` to the machines `to`; the other direction is untouched.
    pub fn cut(&self, from: &[usize], to: &[usize]) {
        self.note(&format!("cut {from:?} -> {to:?}"));
        for (from, to) in pairs(from, to) {
            self.network.cut(self.machines[from].at.ip(), self.machines[to].at.ip());
        }
    }

    /// Makes the way between two machines, in both directions, a special one.
    pub fn link(&self, one: usize, other: usize, link: Link) {
        self.note(&format!("link {one} {other}: {link:?}"));
        let (one, other) = (self.machines[one].at.ip(), self.machines[other].at.ip());
        self.network.set_link(one, other, link);
        self.network.set_link(other, one, link);
    }

    /// Mends everything that [`World::partition`] and [`World::cut`] did.
    pub fn heal(&self) {
        self.note("heal");
        self.network.heal();
    }

    /// Lets time pass.
    pub async fn pass(&self, time: Duration) {
        sleep(time).await;
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
        self.network.note(what);
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

    /// The machines on which a node runs.
    pub fn running(&self) -> Vec<usize> {
        (0..self.machines.len()).filter(|number| self.machines[*number].node.is_some()).collect()
    }

    /// Truth: whether two machines are members of one swarm.
    pub fn together(&self, one: usize, other: usize) -> bool {
        self.machines[one].swarm == self.machines[other].swarm
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

/// The one real folder of a world: the models' actor makes its own in it. Gone with the world.
struct Home(PathBuf);

impl Home {
    fn new() -> Result<Home> {
        let path = std::env::temp_dir().join(format!("skep-sim-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Home(path))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
