//! The network itself: ports, links, cuts, and the datagrams in flight between them.

use super::{
    Link,
    link::QUEUE_MAX,
    neighbourhood::Neighbourhood,
    socket::{Port, Socket},
};
use crate::trace::{Fate, Sums, Trace};
use futures::stream::{self, BoxStream};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use skep_runtime::NodeId;
use skep_transport::env::Sighting;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// Datagrams in flight; a world that has more is a loop, and loses them.
const FLYING_DATAGRAMS_MAX: usize = 1 << 17;

/// A network. Cheap to clone.
#[derive(Clone)]
pub struct Network(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    wake: Notify,
}

struct State {
    rng: ChaCha8Rng,
    usual: Link,
    links: BTreeMap<(IpAddr, IpAddr), Link>,
    /// Ordered pairs between which nothing passes.
    cuts: BTreeSet<(IpAddr, IpAddr)>,
    /// When the last byte that was sent on this way has passed it.
    busy_until: BTreeMap<(IpAddr, IpAddr), Instant>,
    ports: BTreeMap<SocketAddr, Arc<Port>>,
    neighbourhood: Neighbourhood,
    flying: BinaryHeap<Reverse<Flight>>,
    sent: u64,
    trace: Trace,
}

/// Ordered by arrival, then by sending.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Flight {
    at: Instant,
    number: u64,
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

impl Network {
    /// An empty network whose links are `usual` ones.
    pub fn new(rng: ChaCha8Rng, usual: Link, trace: Trace) -> Network {
        let state = State {
            rng,
            usual,
            links: BTreeMap::new(),
            cuts: BTreeSet::new(),
            busy_until: BTreeMap::new(),
            ports: BTreeMap::new(),
            neighbourhood: Neighbourhood::default(),
            flying: BinaryHeap::new(),
            sent: 0,
            trace,
        };
        Network(Arc::new(Shared { state: Mutex::new(state), wake: Notify::new() }))
    }

    /// Carries datagrams for as long as it is polled.
    pub async fn carry(self) {
        loop {
            let next = self.state().flying.peek().map(|Reverse(flight)| flight.at);
            match next {
                None => self.0.wake.notified().await,
                Some(at) if at > Instant::now() => tokio::select! {
                    biased;
                    () = sleep_until(at) => {}
                    () = self.0.wake.notified() => {}
                },
                Some(_) => self.land(),
            }
        }
    }

    /// Makes the way from one machine to another, in this direction, a special one.
    pub fn set_link(&self, from: IpAddr, to: IpAddr, link: Link) {
        self.state().links.insert((from, to), link);
    }

    /// Cuts the way in this direction. What is in flight still arrives.
    pub fn cut(&self, from: IpAddr, to: IpAddr) {
        self.state().cuts.insert((from, to));
    }

    /// Mends all cuts; the neighbours hear of each other again.
    pub fn heal(&self) {
        let mut state = self.state();
        state.cuts.clear();
        state.neighbourhood.tell(|_, _| true);
    }

    /// Makes all ways usual ones.
    pub fn mend(&self) {
        self.state().links.clear();
    }

    /// Whether datagrams pass in both directions.
    pub fn connects(&self, one: IpAddr, other: IpAddr) -> bool {
        let state = self.state();
        state.passes(one, other) && state.passes(other, one)
    }

    /// Pulls the cable of whatever is bound to `at`: its owner may go on sending, to nobody.
    pub fn unplug(&self, at: SocketAddr) {
        self.state().ports.remove(&at);
    }

    /// Gives whatever is bound to `from` another address. What is under way to the old one is lost.
    pub fn renumber(&self, from: SocketAddr, to: SocketAddr) {
        let mut state = self.state();
        if let Some(port) = state.ports.remove(&from) {
            port.renumber(to);
            state.ports.insert(to, port);
        }
        let State { neighbourhood, cuts, .. } = &mut *state;
        neighbourhood.renumber(from, to, |from, to| !cuts.contains(&(from.ip(), to.ip())));
    }

    /// Writes a line into the trace.
    pub fn note(&self, what: fmt::Arguments<'_>) {
        self.state().trace.note(what);
    }

    /// The trace's last lines, datagrams left out.
    pub fn last_lines(&self) -> String {
        self.state().trace.last()
    }

    /// The trace's numbers so far.
    pub fn sums(&self) -> Sums {
        self.state().trace.sums()
    }

    pub(super) fn bind(&self, at: SocketAddr) -> io::Result<Arc<Socket>> {
        let mut state = self.state();
        if state.ports.contains_key(&at) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let port = Port::new(at);
        state.ports.insert(at, port.clone());
        Ok(Arc::new(Socket { network: self.clone(), port }))
    }

    pub(super) fn unbind(&self, port: &Arc<Port>) {
        let mut state = self.state();
        if state.is_plugged(port) {
            state.ports.remove(&port.at());
        }
    }

    pub(super) fn discover(&self, at: SocketAddr, node: NodeId) -> BoxStream<'static, Sighting> {
        let mut state = self.state();
        let State { neighbourhood, cuts, .. } = &mut *state;
        let sightings = neighbourhood.show(at, node, |from, to| !cuts.contains(&(from.ip(), to.ip())));
        let shown = Shown(self.clone());
        Box::pin(stream::unfold((sightings, shown), |(mut sightings, shown)| async move {
            Some((sightings.recv().await?, (sightings, shown)))
        }))
    }

    pub(super) fn send(&self, port: &Arc<Port>, to: SocketAddr, bytes: &[u8]) {
        let mut state = self.state();
        if !state.is_plugged(port) {
            return;
        }
        let from = port.at();
        let link = state.link(from.ip(), to.ip());
        let (fate, passed) = state.fate(&link, (from.ip(), to.ip()), bytes.len());
        let now = Instant::now();
        let copies = match fate {
            Fate::Arrives => 1,
            Fate::Twice => 2,
            Fate::Lost | Fate::Cut | Fate::TooLong => 0,
        };
        let jitter_us = link.jitter.as_micros() as u64;
        let delays: Vec<Duration> = (0..copies)
            .map(|_| {
                let late = Duration::from_micros(state.rng.random_range(0..=jitter_us));
                // tokio's timers know whole milliseconds and round up: a few bytes must not cost a whole one.
                Duration::from_millis((passed - now + link.latency + late).as_millis() as u64)
            })
            .collect();
        state.trace.datagram(from, to, bytes, fate, &delays);
        for at in delays.into_iter().map(|delay| now + delay) {
            state.sent += 1;
            let sooner = state.flying.peek().is_none_or(|Reverse(first)| at < first.at);
            let flight = Flight { at, number: state.sent, from, to, bytes: bytes.to_vec() };
            state.flying.push(Reverse(flight));
            if sooner {
                self.0.wake.notify_one();
            }
        }
    }

    fn land(&self) {
        let mut state = self.state();
        let Some(Reverse(Flight { from, to, bytes, .. })) = state.flying.pop() else { return };
        let port = state.ports.get(&to).cloned();
        if port.is_none() {
            state.trace.unheard(from, to, bytes.len());
        }
        // The reader that this wakes may be about to send.
        drop(state);
        if let Some(port) = port {
            port.deliver(from, bytes);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_plugged(&self, port: &Arc<Port>) -> bool {
        self.ports.get(&port.at()).is_some_and(|own| Arc::ptr_eq(own, port))
    }

    fn passes(&self, from: IpAddr, to: IpAddr) -> bool {
        !self.cuts.contains(&(from, to))
    }

    fn link(&self, from: IpAddr, to: IpAddr) -> Link {
        self.links.get(&(from, to)).copied().unwrap_or(self.usual)
    }

    /// What becomes of a datagram that is sent now, and when its last byte has left.
    fn fate(&mut self, link: &Link, way: (IpAddr, IpAddr), bytes: usize) -> (Fate, Instant) {
        let now = Instant::now();
        if !self.passes(way.0, way.1) {
            return (Fate::Cut, now);
        }
        if bytes > link.mtu_bytes {
            return (Fate::TooLong, now);
        }
        let free = self.busy_until.get(&way).map_or(now, |busy| now.max(*busy));
        if free - now > QUEUE_MAX || self.flying.len() >= FLYING_DATAGRAMS_MAX {
            return (Fate::Lost, now);
        }
        let passed = free + link.time_of(bytes);
        self.busy_until.insert(way, passed);
        let fate = match () {
            () if self.rng.random_bool(link.loss) => Fate::Lost,
            () if self.rng.random_bool(link.duplication) => Fate::Twice,
            () => Fate::Arrives,
        };
        (fate, passed)
    }
}

/// A beacon is shown for as long as this lives, which ends after its reader.
struct Shown(Network);

impl Drop for Shown {
    fn drop(&mut self) {
        self.0.state().neighbourhood.hide();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quinn::{
        AsyncUdpSocket,
        udp::{RecvMeta, Transmit},
    };
    use rand::SeedableRng;
    use skep_runtime::Tasks;
    use std::{future::poll_fn, io::IoSliceMut, net::Ipv4Addr};
    use tokio::time::timeout;

    const SECOND: Duration = Duration::from_secs(1);

    /// A network with this link, its carrier, and two sockets on it.
    fn two(usual: Link) -> (Network, Tasks, Arc<Socket>, Arc<Socket>) {
        let network = Network::new(ChaCha8Rng::seed_from_u64(7), usual, Trace::new(None));
        let tasks = Tasks::simulated(None);
        tasks.spawn(network.clone().carry());
        let at = |host| SocketAddr::new(Ipv4Addr::new(10, 0, 0, host).into(), 1);
        let (one, two) = (network.bind(at(1)).unwrap(), network.bind(at(2)).unwrap());
        (network, tasks, one, two)
    }

    fn send(from: &Socket, to: &Socket, bytes: &[u8]) {
        let destination = to.port.at();
        let transmit = Transmit { destination, ecn: None, contents: bytes, segment_size: None, src_ip: None };
        from.try_send(&transmit).unwrap();
    }

    /// The next datagram within a second.
    async fn next(at: &Socket) -> Option<Vec<u8>> {
        let mut buffer = [0; 2000];
        let read = poll_fn(|cx| {
            let mut meta = [RecvMeta::default()];
            at.poll_recv(cx, &mut [IoSliceMut::new(&mut buffer)], &mut meta).map(|read| read.map(|_| meta[0].len))
        });
        let bytes = timeout(SECOND, read).await.ok()?.unwrap();
        Some(buffer[..bytes].to_vec())
    }

    #[tokio::test(start_paused = true)]
    async fn a_datagram_takes_the_links_time() {
        let (_network, _tasks, one, two) = two(Link { latency: Duration::from_millis(5), ..Link::WIRED });
        let start = Instant::now();
        send(&one, &two, b"hello");
        assert_eq!(next(&two).await.unwrap(), b"hello");
        assert_eq!(start.elapsed(), Duration::from_millis(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_lets_nothing_pass_in_its_direction_alone() {
        let (network, _tasks, one, two) = two(Link::WIRED);
        network.cut(one.port.at().ip(), two.port.at().ip());
        send(&one, &two, b"there");
        send(&two, &one, b"back");
        assert_eq!((next(&two).await, next(&one).await), (None, Some(b"back".to_vec())));
        network.heal();
        send(&one, &two, b"there");
        assert!(next(&two).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_link_carries_one_datagram_after_the_other_and_loses_what_would_wait_too_long() {
        let link = Link { bytes_per_second: 100_000, ..Link::WIRED };
        let (_network, _tasks, one, two) = two(link);
        let start = Instant::now();
        // Each takes 10 ms; 200 ms wait at most, beside the one on its way.
        for _ in 0..30 {
            send(&one, &two, &[0; 1000]);
        }
        let mut came = 0;
        while next(&two).await.is_some() {
            came += 1;
        }
        assert_eq!(came, 21);
        assert_eq!(start.elapsed() - SECOND, link.latency + Duration::from_millis(210));
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_with_another_address_is_reached_there_alone() {
        let (network, _tasks, one, two) = two(Link::WIRED);
        let (old, new) = (two.port.at(), SocketAddr::new(Ipv4Addr::new(10, 0, 0, 9).into(), 1));
        network.renumber(old, new);
        send(&one, &two, b"there");
        assert_eq!(next(&two).await.unwrap(), b"there");
        let lost = Transmit { destination: old, ecn: None, contents: b"old", segment_size: None, src_ip: None };
        one.try_send(&lost).unwrap();
        assert_eq!(next(&two).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_long_for_the_link_vanishes() {
        let (_network, _tasks, one, two) = two(Link { mtu_bytes: 1252, ..Link::WIRED });
        send(&one, &two, &[0; 1253]);
        assert!(next(&two).await.is_none());
        send(&one, &two, &[0; 1252]);
        assert!(next(&two).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn an_unplugged_socket_sends_to_nobody_and_its_address_is_free() {
        let (network, _tasks, one, two) = two(Link::WIRED);
        network.unplug(one.port.at());
        send(&one, &two, b"hello");
        assert!(next(&two).await.is_none());
        let again = network.bind(one.port.at()).unwrap();
        drop(one);
        send(&two, &again, b"hello");
        assert!(next(&again).await.is_some(), "the old socket's end must not unplug the new one");
    }
}
