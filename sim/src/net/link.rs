//! What the way from one machine to another does to datagrams.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::time::Duration;

/// The way from one machine to another, in one direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Link {
    /// The shortest time that a datagram takes.
    pub latency: Duration,
    /// What comes on top of it, at most; each datagram draws its own, so they overtake each other.
    pub jitter: Duration,
    /// The part of datagrams that are lost, 0 to 1.
    pub loss: f64,
    /// The part of datagrams that arrive twice, 0 to 1.
    pub duplication: f64,
    /// Bytes of the longest datagram (UDP payload) that passes; longer ones vanish, as QUIC forbids fragments.
    pub mtu_bytes: usize,
    /// Bytes that pass in a second; what comes faster queues in front of the link.
    pub bytes_per_second: u64,
}

/// What a link's queue holds, as time: a router's usual buffer. Datagrams beyond it are lost.
pub(super) const QUEUE_MAX: Duration = Duration::from_millis(200);

/// 1 Gbit/s.
const GIGABIT: u64 = 125_000_000;

impl Link {
    /// A quiet wired network: 1 ms, nothing lost, Ethernet's 1500 bytes less IPv4's and UDP's headers.
    pub const WIRED: Link = Link {
        latency: Duration::from_millis(1),
        jitter: Duration::ZERO,
        loss: 0.0,
        duplication: 0.0,
        mtu_bytes: 1472,
        bytes_per_second: GIGABIT,
    };

    /// A link that is little faster than an old modem line: 1 Mbit/s.
    pub const SLOW: Link = Link { latency: Duration::from_millis(20), bytes_per_second: GIGABIT / 1000, ..Link::WIRED };

    /// Some network that people have: from a switch to a bad Wi-Fi behind a tunnel.
    pub fn drawn(rng: &mut ChaCha8Rng) -> Link {
        let mut one_of = |choices: &[u64]| choices[rng.random_range(0..choices.len())];
        Link {
            latency: Duration::from_millis(one_of(&[1, 2, 5])),
            jitter: Duration::from_millis(one_of(&[0, 1, 5, 20])),
            loss: one_of(&[0, 0, 5, 30]) as f64 / 1000.0,
            duplication: one_of(&[0, 0, 10]) as f64 / 1000.0,
            mtu_bytes: one_of(&[1472, 1472, 1252]) as usize,
            bytes_per_second: one_of(&[GIGABIT, GIGABIT, GIGABIT / 10]),
        }
    }

    /// How long these bytes take to pass.
    pub(super) fn time_of(&self, bytes: usize) -> Duration {
        Duration::from_nanos(bytes as u64 * 1_000_000_000 / self.bytes_per_second.max(1))
    }
}
