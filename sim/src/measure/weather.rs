//! What plagues a mesh while it is measured: one thing at a time, so that the table says what each does.

use crate::{
    bare::Mesh,
    net::Link,
    pace::{Pace, Stalls},
};
use skep_transport::membership::Policy;
use std::time::Duration;

/// A switch that people have at home, with what a driver and a scheduler add.
const LAN: Link =
    Link { latency: Duration::from_micros(300), jitter: Duration::from_millis(1), duplication: 0.001, ..Link::WIRED };
/// The slices in which a slow machine runs or doesn't are as long as a busy system's.
const SLICE_MIN: Duration = Duration::from_millis(10);
const SLICE_MAX: Duration = Duration::from_millis(50);
/// One machine in so many is slow, or stands still now and then.
const PLAGUED_EVERY: usize = 4;
/// A machine that freezes does so about every ten seconds.
const FREEZING: Stalls = Stalls {
    pause: (Duration::from_secs(5), Duration::from_secs(15)),
    time: (Duration::from_millis(1000), Duration::from_millis(2000)),
};
/// One that stumbles does so about every second, as under a collector of garbage or a disk that is slow to write.
pub(super) const STUMBLING: Stalls = Stalls {
    pause: (Duration::from_millis(500), Duration::from_millis(2000)),
    time: (Duration::from_millis(50), Duration::from_millis(500)),
};
/// How long a mesh may take to form. Far more than it needs; one that doesn't is a bug.
const FORM_TIMEOUT: Duration = Duration::from_secs(300);

/// One kind of trouble.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// As the table says it.
    pub name: &'static str,
    loss: f64,
    slow: u32,
    stalls: Option<Stalls>,
}

impl Weather {
    /// All that are compared.
    pub const ALL: [Weather; 7] = [
        Weather { name: "no fault", ..Weather::FAIR },
        Weather { name: "5 % loss", loss: 0.05, ..Weather::FAIR },
        Weather { name: "a quarter run half the time", slow: 2, ..Weather::FAIR },
        Weather { name: "a quarter run a quarter of the time", slow: 4, ..Weather::FAIR },
        Weather { name: "a quarter run an eighth of the time", slow: 8, ..Weather::FAIR },
        Weather { name: "a quarter freeze for up to 0.5 s each second", stalls: Some(STUMBLING), ..Weather::FAIR },
        Weather { name: "a quarter freeze for 1 to 2 s", stalls: Some(FREEZING), ..Weather::FAIR },
    ];
    /// Nothing.
    pub const FAIR: Weather = Weather { name: "no fault", loss: 0.0, slow: 1, stalls: None };

    /// A mesh that has formed, in this weather from now on.
    pub fn mesh(&self, seed: u64, nodes: usize, policy: Policy) -> Mesh {
        let mut mesh = Mesh::new(seed, nodes, policy, Link { loss: self.loss, ..LAN });
        let formed = mesh.run_while_not(FORM_TIMEOUT, Mesh::is_true);
        assert!(formed.is_some(), "seed {seed}: {nodes} nodes don't form a mesh");
        for number in (0..nodes).step_by(PLAGUED_EVERY) {
            if self.slow > 1 {
                slow_down(&mut mesh, number, self.slow);
            }
            if let Some(stalls) = self.stalls {
                mesh.stall(number, stalls);
            }
        }
        mesh
    }
}

/// From now on this machine runs in every `every`-th slice of time.
pub(super) fn slow_down(mesh: &mut Mesh, number: usize, every: u32) {
    let slice = mesh.draw(SLICE_MIN, SLICE_MAX);
    mesh.set_pace(number, Pace::every(slice, every, number as u32));
}
