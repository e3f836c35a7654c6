//! What a node takes from outside and needs no socket for: randomness and the wall clock.
//!
//! Production takes them from the machine, simulation from a seed. There is no clock trait: tokio's time *is*
//! the clock, and the simulation pauses it. The network half of the environment is `transport`'s.

use crate::{Tasks, Ticket, pace::Pace, trace::Trace};
use rand::{Rng, SeedableRng, TryRng, rngs::SysRng};
use rand_chacha::ChaCha8Rng;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;
use uuid::Uuid;

/// The seam between a node and the world, as far as it needs no socket. Cheap to clone.
#[derive(Clone)]
pub struct Env {
    inner: Arc<Inner>,
}

struct Inner {
    /// `None`: every stream is seeded by the operating system.
    seed: Option<[u8; 32]>,
    streams: AtomicU64,
    shared: Mutex<ChaCha8Rng>,
    wall: Wall,
    pace: Option<Arc<dyn Pace>>,
}

/// What the wall clock is read from.
enum Wall {
    /// The machine's, each time: it goes on while the machine sleeps, and is put right now and then.
    Machine,
    /// It was `at` since 1970 at `start`, and goes on with tokio's time.
    Seeded { at: Duration, start: Instant },
}

impl Wall {
    fn now(&self) -> Duration {
        match self {
            #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the machine's wall clock")]
            Wall::Machine => std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default(),
            Wall::Seeded { at, start } => *at + start.elapsed(),
        }
    }
}

impl Env {
    /// The machine's: randomness of the operating system, its wall clock.
    pub fn machine() -> Env {
        Env::build(None, Wall::Machine, None)
    }

    /// A simulated one: everything follows from `seed`; the wall clock starts at `wall` since 1970.
    pub fn seeded(seed: [u8; 32], wall: Duration) -> Env {
        Env::build(Some(seed), Wall::Seeded { at: wall, start: Instant::now() }, None)
    }

    /// The same on a machine that lets the node run at this pace.
    pub fn paced(seed: [u8; 32], wall: Duration, pace: Arc<dyn Pace>) -> Env {
        Env::build(Some(seed), Wall::Seeded { at: wall, start: Instant::now() }, Some(pace))
    }

    fn build(seed: Option<[u8; 32]>, wall: Wall, pace: Option<Arc<dyn Pace>>) -> Env {
        let shared = Mutex::new(stream(seed, 0));
        Env { inner: Arc::new(Inner { seed, streams: AtomicU64::new(1), shared, wall, pace }) }
    }

    /// The owner of tasks that run as this node's tasks do: on the machine's threads, or in the simulation's turns.
    pub fn tasks(&self) -> Tasks {
        match self.simulated() {
            true => Tasks::simulated(self.inner.pace.clone()),
            false => Tasks::default(),
        }
    }

    /// When a simulated machine lets this node run.
    pub fn pace(&self) -> Option<Arc<dyn Pace>> {
        self.inner.pace.clone()
    }

    /// Whether this node is simulated: no threads, everything from the seed.
    pub fn simulated(&self) -> bool {
        self.inner.seed.is_some()
    }

    /// The seed of a simulated node.
    pub fn seed(&self) -> Option<[u8; 32]> {
        self.inner.seed
    }

    /// A random stream of its own, for a part that draws often. Equal seeds give equal streams, in order of
    /// the calls of this method.
    pub fn rng(&self) -> ChaCha8Rng {
        stream(self.inner.seed, self.inner.streams.fetch_add(1, Ordering::Relaxed))
    }

    /// Random bytes. From a ChaCha8 stream that the operating system seeded (or the simulation's seed): fit for
    /// secrets of this process's lifetime.
    pub fn fill(&self, bytes: &mut [u8]) {
        self.inner.shared.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(bytes);
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    /// A new id: a version 4 UUID.
    pub fn id(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.bytes()).into_uuid()
    }

    /// A new bulk ticket.
    pub fn ticket(&self) -> Ticket {
        Ticket(self.bytes())
    }

    /// A new request's id.
    pub fn trace(&self) -> Trace {
        Trace(u64::from_le_bytes(self.bytes()).max(1))
    }

    /// Time since some moment before the start of this process. It goes on while the machine sleeps, which tokio's does not:
    /// for rights that run out.
    pub fn elapsed(&self) -> Duration {
        match &self.inner.wall {
            Wall::Machine => since_boot(),
            Wall::Seeded { start, .. } => start.elapsed(),
        }
    }

    /// The wall clock, in milliseconds since 1970: for people and for other machines' records, never for durations.
    pub fn now_ms(&self) -> u64 {
        self.inner.wall.now().as_millis() as u64
    }
}

/// The machine's clock that nobody sets and that counts its sleep: the same for all of its processes.
pub fn since_boot() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    #[cfg(target_os = "linux")]
    const CLOCK: ClockId = ClockId::Boottime;
    // Of the BSD family, which counts sleep by this one.
    #[cfg(not(target_os = "linux"))]
    const CLOCK: ClockId = ClockId::Monotonic;
    let now = clock_gettime(CLOCK);
    Duration::new(now.tv_sec.try_into().unwrap_or_default(), now.tv_nsec.try_into().unwrap_or_default())
}

fn stream(seed: Option<[u8; 32]>, number: u64) -> ChaCha8Rng {
    let seed = seed.unwrap_or_else(|| {
        let mut fresh = [0; 32];
        SysRng.try_fill_bytes(&mut fresh).expect("the operating system has randomness");
        fresh
    });
    let mut rng = ChaCha8Rng::from_seed(seed);
    rng.set_stream(number);
    rng
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn equal_seeds_give_equal_worlds() {
        let world = || {
            let env = Env::seeded([7; 32], Duration::from_secs(1));
            (env.id(), env.rng().next_u64(), env.ticket(), env.now_ms())
        };
        assert_eq!(world(), world());
    }

    #[tokio::test(start_paused = true)]
    async fn the_wall_clock_follows_paused_time() {
        let env = Env::seeded([7; 32], Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(env.now_ms(), 6000);
    }
}
