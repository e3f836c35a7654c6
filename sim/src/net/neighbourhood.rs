//! Who shows itself on the network: what mDNS is in production. It hears through no cut, and says no goodbye.

use skep_runtime::NodeId;
use skep_transport::env::Sighting;
use std::{collections::BTreeMap, net::SocketAddr};
use tokio::sync::mpsc;

/// Sightings that wait for their reader; more than a scenario has machines.
const SIGHTINGS_MAX: usize = 1024;

/// The beacons that are shown now, by address.
#[derive(Default)]
pub(super) struct Neighbourhood {
    beacons: BTreeMap<SocketAddr, Beacon>,
}

struct Beacon {
    node: NodeId,
    hears: mpsc::Sender<Sighting>,
}

impl Neighbourhood {
    /// Shows `node` at `at` to all that `hear` each other, and them to it.
    pub(super) fn show(
        &mut self,
        at: SocketAddr,
        node: NodeId,
        hear: impl Fn(SocketAddr, SocketAddr) -> bool,
    ) -> mpsc::Receiver<Sighting> {
        let (hears, sightings) = mpsc::channel(SIGHTINGS_MAX);
        self.beacons.insert(at, Beacon { node, hears });
        self.tell(|from, to| (from == at || to == at) && hear(from, to));
        sightings
    }

    /// Takes away the beacons whose reader is gone.
    pub(super) fn hide(&mut self) {
        self.beacons.retain(|_, beacon| !beacon.hears.is_closed());
    }

    /// Shows the beacon at `from` at another address from now on.
    pub(super) fn renumber(&mut self, from: SocketAddr, to: SocketAddr, hear: impl Fn(SocketAddr, SocketAddr) -> bool) {
        if let Some(beacon) = self.beacons.remove(&from) {
            self.beacons.insert(to, beacon);
            self.tell(|one, other| one == to && hear(one, other));
        }
    }

    /// Tells everyone of everyone whom it `hears`, as the next round of queries does.
    pub(super) fn tell(&self, hears: impl Fn(SocketAddr, SocketAddr) -> bool) {
        for (to, listener) in &self.beacons {
            for (from, beacon) in self.beacons.iter().filter(|(from, _)| *from != to && hears(**from, *to)) {
                // A reader that is this far behind has enough to look at.
                let _ = listener.hears.try_send(Sighting::Here(beacon.node, *from));
            }
        }
    }
}
