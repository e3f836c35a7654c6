//! The mesh itself: machines, what is between them, and the queue of what happens next.

use super::sight::Sight;
use crate::{
    net::Link,
    pace::{Pace, Stalls},
    trace::Fnv,
};
use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use skep_runtime::{NodeId, member::State};
use skep_transport::membership::{Action, Core, Input, Peer, Policy};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque},
    time::Duration,
};

/// Datagrams that a machine's socket holds while nobody reads: Linux's 208 KiB, filled with short ones.
const INBOX_DATAGRAMS_MAX: usize = 256;
/// Machines start within this time, so that their probes are not in step.
const START_SPREAD: Duration = Duration::from_millis(1000);
/// The first run's epoch: 2023, in milliseconds.
const EPOCH_FIRST: u64 = 1_700_000_000_000;
/// How often is looked whether something has come true.
const LOOK_PERIOD: Duration = Duration::from_millis(10);

/// Membership cores and the network between them.
pub struct Mesh {
    seed: u64,
    policy: Policy,
    rng: ChaCha8Rng,
    link: Link,
    machines: Vec<Machine>,
    numbers: BTreeMap<NodeId, usize>,
    queue: BinaryHeap<Reverse<Event>>,
    events: u64,
    now: Duration,
    sight: Sight,
    /// Accusations of runs that have ended.
    accused: u64,
    datagrams: u64,
    digest: Fnv,
}

struct Machine {
    id: NodeId,
    /// `None` while it is down.
    core: Option<Core>,
    runs: u64,
    epoch: u64,
    /// Datagrams pass between machines of the same side alone.
    side: usize,
    pace: Pace,
    stalls: Option<Stalls>,
    inbox: VecDeque<(usize, Bytes)>,
    /// The one wake-up that counts.
    wakes_at: Duration,
}

/// Ordered by time, then by number, which no two share.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    at: Duration,
    number: u64,
    what: What,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Lands { from: usize, to: usize, bytes: Bytes },
    Wakes(usize),
    Starts(usize),
    Stalls(usize),
}

impl Mesh {
    /// Machines that have all started within the first second, with `link` between each two of them.
    pub fn new(seed: u64, size: usize, policy: Policy, link: Link) -> Mesh {
        let machine = |number: usize| Machine {
            id: id(number),
            core: None,
            runs: 0,
            epoch: 0,
            side: 0,
            pace: Pace::STEADY,
            stalls: None,
            inbox: VecDeque::new(),
            wakes_at: Duration::MAX,
        };
        let mut mesh = Mesh {
            seed,
            policy,
            rng: ChaCha8Rng::seed_from_u64(seed),
            link,
            machines: (0..size).map(machine).collect(),
            numbers: (0..size).map(|number| (id(number), number)).collect(),
            queue: BinaryHeap::new(),
            events: 0,
            now: Duration::ZERO,
            sight: Sight::new(size),
            accused: 0,
            datagrams: 0,
            digest: Fnv::default(),
        };
        for number in 0..size {
            let at = mesh.draw(Duration::ZERO, START_SPREAD);
            mesh.push(at, What::Starts(number));
        }
        mesh.run_until(START_SPREAD);
        mesh
    }

    /// Virtual time since the mesh began.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// How many machines there are, running or not.
    pub fn size(&self) -> usize {
        self.machines.len()
    }

    /// A time between these two, from the mesh's seed.
    pub fn draw(&mut self, least: Duration, most: Duration) -> Duration {
        Duration::from_micros(self.rng.random_range(least.as_micros() as u64..=most.as_micros() as u64))
    }

    /// A machine, from the mesh's seed.
    pub fn draw_machine(&mut self) -> usize {
        self.rng.random_range(0..self.machines.len())
    }

    /// Lets time pass until then.
    pub fn run_until(&mut self, end: Duration) {
        while self.queue.peek().is_some_and(|Reverse(event)| event.at <= end) {
            let Some(Reverse(event)) = self.queue.pop() else { break };
            self.now = event.at;
            match event.what {
                What::Lands { from, to, bytes } => self.land(from, to, bytes),
                What::Wakes(number) if self.machines[number].wakes_at == event.at => self.wake(number),
                What::Wakes(_) => {}
                What::Starts(number) => self.start(number),
                What::Stalls(number) => self.stand_still(number),
            }
        }
        self.now = end;
    }

    /// Lets time pass until something is so, or until `timeout` has passed: then `None`. Gives how long it took.
    pub fn run_while_not(&mut self, timeout: Duration, is_so: impl Fn(&Mesh) -> bool) -> Option<Duration> {
        let start = self.now;
        while !is_so(self) {
            if self.now - start >= timeout {
                return None;
            }
            self.run_until(self.now + LOOK_PERIOD);
        }
        Some(self.now - start)
    }

    /// Every running machine sees as up exactly those that run on its side.
    pub fn is_true(&self) -> bool {
        let all = 0..self.machines.len();
        let runs = |number: usize| self.machines[number].core.is_some();
        all.clone().filter(|viewer| runs(*viewer)).all(|viewer| {
            let mut others = all.clone().filter(|subject| *subject != viewer);
            others.all(|subject| self.sight.sees_up(viewer, subject) == (runs(subject) && self.passes(viewer, subject)))
        })
    }

    /// No running machine sees this one as up.
    pub fn is_missed_by_all(&self, number: usize) -> bool {
        (0..self.machines.len())
            .filter(|viewer| *viewer != number && self.machines[*viewer].core.is_some())
            .all(|viewer| !self.sight.sees_up(viewer, number))
    }

    /// Runs of machines that someone called dead while they ran and could be reached.
    pub fn false_downs(&self) -> usize {
        self.sight.wrongs()
    }

    /// How often a machine was accused by another, rightly or not.
    pub fn accusations(&self) -> u64 {
        self.accused + self.machines.iter().filter_map(|m| m.core.as_ref()).map(Core::accused).sum::<u64>()
    }

    /// Datagrams sent.
    pub fn datagrams(&self) -> u64 {
        self.datagrams
    }

    /// Of all datagrams: their times, ways and contents. Equal for equal seeds.
    pub fn digest(&self) -> u64 {
        self.digest.value()
    }

    /// Ends a machine's run without a word.
    pub fn crash(&mut self, number: usize) {
        let machine = &mut self.machines[number];
        self.accused += machine.core.take().map_or(0, |core| core.accused());
        machine.inbox.clear();
        machine.wakes_at = Duration::MAX;
        self.sight.forget(number);
    }

    /// Begins a machine's next run.
    pub fn start(&mut self, number: usize) {
        let members: BTreeSet<NodeId> = self.numbers.keys().copied().collect();
        let machine = &mut self.machines[number];
        machine.runs += 1;
        machine.epoch = EPOCH_FIRST + self.now.as_millis() as u64;
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream((machine.runs << 32) | (number as u64 + 1));
        let me = Peer { id: machine.id, epoch: machine.epoch };
        machine.core = Some(Core::with_policy(me, rng, self.policy));
        self.input(number, Input::Roster(members, 1));
        self.set_alarm(number);
    }

    /// Changes when a machine runs, from now on.
    pub fn set_pace(&mut self, number: usize, pace: Pace) {
        self.machines[number].pace = pace;
    }

    /// A machine stands still for so long; what it is sent meanwhile, it reads afterwards.
    pub fn freeze(&mut self, number: usize, time: Duration) {
        self.machines[number].pace.freeze(self.now + time);
    }

    /// A machine stands still again and again, from now on.
    pub fn stall(&mut self, number: usize, stalls: Stalls) {
        self.machines[number].stalls = Some(stalls);
        // Not all at once.
        let at = self.now + self.draw(Duration::ZERO, stalls.pause.1);
        self.push(at, What::Stalls(number));
    }

    /// Cuts the network: the first `count` machines are on one side, the others on the other.
    pub fn partition(&mut self, count: usize) {
        self.machines.iter_mut().enumerate().for_each(|(number, machine)| machine.side = usize::from(number >= count));
    }

    /// Mends the network.
    pub fn heal(&mut self) {
        self.machines.iter_mut().for_each(|machine| machine.side = 0);
    }

    fn land(&mut self, from: usize, to: usize, bytes: Bytes) {
        let machine = &mut self.machines[to];
        if machine.core.is_none() {
            return;
        }
        let runs_at = machine.pace.next(self.now);
        if runs_at > self.now || !machine.inbox.is_empty() {
            if machine.inbox.len() < INBOX_DATAGRAMS_MAX {
                machine.inbox.push_back((from, bytes));
            }
            self.set_alarm(to);
        } else {
            self.input(to, Input::Packet(id(from), bytes));
            self.set_alarm(to);
        }
    }

    /// A machine does what is due. Its timers go first though what lies in its inbox may answer them: a machine that
    /// stood still can't know the order, and this is the harder one.
    fn wake(&mut self, number: usize) {
        self.machines[number].wakes_at = Duration::MAX;
        let machine = &mut self.machines[number];
        if machine.pace.next(self.now) == self.now {
            if machine.core.as_ref().is_some_and(|core| core.wake_at() <= self.now) {
                self.input(number, Input::Tick);
            }
            while let Some((from, bytes)) = self.machines[number].inbox.pop_front() {
                self.input(number, Input::Packet(id(from), bytes));
            }
        }
        self.set_alarm(number);
    }

    fn stand_still(&mut self, number: usize) {
        let Some(Stalls { pause, time }) = self.machines[number].stalls else { return };
        let (time, pause) = (self.draw(time.0, time.1), self.draw(pause.0, pause.1));
        self.freeze(number, time);
        self.push(self.now + time + pause, What::Stalls(number));
    }

    fn set_alarm(&mut self, number: usize) {
        let machine = &mut self.machines[number];
        let Some(core) = &machine.core else { return };
        let wanted = if machine.inbox.is_empty() { core.wake_at().max(self.now) } else { self.now };
        let at = machine.pace.next(wanted);
        if at < machine.wakes_at {
            machine.wakes_at = at;
            self.push(at, What::Wakes(number));
        }
    }

    fn input(&mut self, number: usize, input: Input) {
        let Some(core) = &mut self.machines[number].core else { return };
        for action in core.handle(self.now, input) {
            match action {
                Action::Send(to, bytes) => self.send(number, self.numbers[&to], bytes),
                Action::State(subject, state) => self.saw(number, self.numbers[&subject], state),
                Action::Pulse(_) | Action::Unknown(_) => {}
            }
        }
    }

    fn saw(&mut self, viewer: usize, subject: usize, state: State) {
        self.sight.set(viewer, subject, state);
        let machine = &self.machines[subject];
        let known = self.machines[viewer].core.as_ref().and_then(|core| core.known(&machine.id));
        let Some(known) = known.filter(|_| state == State::Down) else { return };
        // News of an earlier run's end may come late, and is true.
        if machine.core.is_some() && known.epoch >= machine.epoch && self.passes(viewer, subject) {
            self.sight.wrong(subject, known.epoch);
        }
    }

    fn send(&mut self, from: usize, to: usize, bytes: Bytes) {
        self.datagrams += 1;
        self.digest.add(&(self.now.as_nanos() as u64).to_le_bytes());
        self.digest.add(&((from as u64) << 32 | to as u64).to_le_bytes());
        self.digest.add(&bytes);
        if !self.passes(from, to) || self.rng.random_bool(self.link.loss) {
            return;
        }
        let copies = 1 + usize::from(self.rng.random_bool(self.link.duplication));
        for _ in 0..copies {
            let at = self.now + self.link.latency + self.draw(Duration::ZERO, self.link.jitter);
            self.push(at, What::Lands { from, to, bytes: bytes.clone() });
        }
    }

    fn passes(&self, from: usize, to: usize) -> bool {
        self.machines[from].side == self.machines[to].side
    }

    fn push(&mut self, at: Duration, what: What) {
        self.events += 1;
        self.queue.push(Reverse(Event { at, number: self.events, what }));
    }
}

/// Machine number `number`'s key.
fn id(number: usize) -> NodeId {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&(number as u64 + 1).to_be_bytes());
    NodeId::from_bytes(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LOSSY: Link = Link { jitter: Duration::from_millis(5), loss: 0.05, duplication: 0.01, ..Link::WIRED };

    fn formed(seed: u64, size: usize) -> Mesh {
        let mut mesh = Mesh::new(seed, size, Policy::LIFEGUARD, LOSSY);
        assert!(mesh.run_while_not(30 * SECOND, Mesh::is_true).is_some(), "it forms");
        mesh
    }

    /// All that a mesh can go through.
    fn story(seed: u64) -> (u64, u64) {
        let mut mesh = formed(seed, 10);
        mesh.set_pace(1, Pace::every(Duration::from_millis(20), 3, 1));
        mesh.freeze(2, SECOND);
        mesh.crash(3);
        mesh.run_until(mesh.now() + 10 * SECOND);
        mesh.start(3);
        mesh.partition(5);
        mesh.run_until(mesh.now() + 20 * SECOND);
        mesh.heal();
        mesh.run_until(mesh.now() + 20 * SECOND);
        assert!(mesh.is_true());
        (mesh.digest(), mesh.datagrams())
    }

    #[test]
    fn a_seed_always_tells_the_same_story_and_another_seed_another() {
        assert_eq!(story(7), story(7));
        assert_ne!(story(7), story(8));
    }

    #[test]
    fn a_crash_is_missed_by_all_and_a_restart_is_seen() {
        let mut mesh = formed(1, 10);
        mesh.crash(4);
        assert!(!mesh.is_true());
        let took = mesh.run_while_not(20 * SECOND, |mesh| mesh.is_missed_by_all(4)).unwrap();
        assert!(took < 8 * SECOND, "{took:?}");
        mesh.start(4);
        assert!(mesh.run_while_not(20 * SECOND, Mesh::is_true).is_some());
        assert_eq!(mesh.false_downs(), 0);
    }

    #[test]
    fn each_side_of_a_partition_misses_the_other_and_both_find_together() {
        let mut mesh = formed(2, 10);
        mesh.partition(4);
        assert!(!mesh.is_true());
        assert!(mesh.run_while_not(60 * SECOND, Mesh::is_true).is_some());
        mesh.heal();
        assert!(mesh.run_while_not(30 * SECOND, Mesh::is_true).is_some());
    }

    #[test]
    fn a_machine_that_stands_still_too_long_is_called_dead_and_that_is_counted_once() {
        let mut mesh = formed(3, 10);
        mesh.freeze(6, 15 * SECOND);
        assert!(mesh.run_while_not(14 * SECOND, |mesh| mesh.is_missed_by_all(6)).is_some());
        assert_eq!(mesh.false_downs(), 1);
        assert!(mesh.run_while_not(30 * SECOND, Mesh::is_true).is_some());
    }

    #[test]
    fn a_starved_machine_accuses_no_less_in_plain_swim_than_under_lifeguard() {
        let accusations = |policy| {
            let mut mesh = Mesh::new(4, 10, policy, LOSSY);
            (0..5).for_each(|n| mesh.set_pace(n, Pace::every(Duration::from_millis(50), 8, n as u32)));
            mesh.run_until(200 * SECOND);
            mesh.accusations()
        };
        assert!(accusations(Policy::LIFEGUARD) < accusations(Policy::PLAIN));
    }
}
