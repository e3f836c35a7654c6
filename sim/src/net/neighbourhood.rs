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

    /// Takes the beacon at `at` away, if it is that node's.
    pub(super) fn hide(&mut self, at: SocketAddr, node: NodeId) {
        if self.beacons.get(&at).is_some_and(|beacon| beacon.node == node) {
            self.beacons.remove(&at);
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
