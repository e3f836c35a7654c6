//! Who is on the local network: mDNS by libp2p's behaviour, polled by hand, without any libp2p transport.
//!
//! It only finds. What it says is a hint that anyone can forge: a dial proves the key, membership says who lives.
//! A record carries the node's key, so the key is known before the first packet. Multicast that the network
//! swallows, and machines with loopback alone, are what static peers and invites are for.

use crate::env::{Beacon, Sighting};
use futures::{Stream, stream::BoxStream};
use if_watch::{IfEvent, IpNet, tokio::IfWatcher};
use libp2p_core::{Multiaddr, multiaddr::Protocol, transport::ListenerId};
use libp2p_identity::{PeerId, PublicKey, ed25519};
use libp2p_mdns as mdns;
use libp2p_swarm::{ExpiredListenAddr, FromSwarm, NetworkBehaviour, NewListenAddr, ToSwarm};
use skep_runtime::NodeId;
use std::{
    collections::{BTreeSet, VecDeque},
    future::poll_fn,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

/// What nodes of this program announce themselves as. All of them, whatever their swarm: a machine that is
/// alone has to see the swarm that it could join. Other libp2p programs announce something else.
pub const NEIGHBOURHOOD: &str = "skep1";
/// How long a record is believed: three queries, so that one lost answer forgets nobody.
const TTL: Duration = Duration::from_secs(30);
/// How often the network is asked.
const QUERY_PERIOD: Duration = Duration::from_secs(10);
/// Sightings that wait for their reader; a network that shows more at once is flooding.
const SIGHTINGS_MAX: usize = 1024;
/// Where mDNS is spoken (RFC 6762, section 3).
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const PORT: u16 = 5353;
/// How long the list of interfaces may take to come.
const INTERFACES_TIMEOUT: Duration = Duration::from_millis(500);

/// Shows `beacon` to the local network and yields who else is there, as long as it is held. Without a usable
/// network it yields nothing, and says so in the log.
pub fn discover(beacon: Beacon) -> BoxStream<'static, Sighting> {
    match Discovery::new(&beacon) {
        Ok(discovery) => Box::pin(discovery),
        Err(error) => {
            tracing::warn!(%error, "discovery by mDNS is off: use --peer HOST:PORT or an invite");
            Box::pin(futures::stream::pending())
        }
    }
}

/// One behaviour for IPv4 and one for IPv6: libp2p's does either.
struct Discovery {
    families: Vec<Family>,
    interfaces: IfWatcher,
    at: BTreeSet<IpNet>,
    port: u16,
    label: String,
    listener: ListenerId,
    found: VecDeque<Sighting>,
}

struct Family {
    ipv6: bool,
    mdns: mdns::tokio::Behaviour,
}

impl Discovery {
    fn new(beacon: &Beacon) -> io::Result<Discovery> {
        let me = peer_of(&beacon.node).ok_or(io::ErrorKind::InvalidInput)?;
        let family = |ipv6: bool| {
            let config = mdns::Config { ttl: TTL, query_interval: QUERY_PERIOD, enable_ipv6: ipv6 };
            mdns::tokio::Behaviour::new(config, me).map(|mdns| Family { ipv6, mdns })
        };
        let mut families = vec![family(false)?];
        // A machine without IPv6 is normal.
        families.extend(family(true).ok());
        Ok(Discovery {
            families,
            interfaces: IfWatcher::new()?,
            at: BTreeSet::new(),
            port: beacon.port,
            label: beacon.swarm.clone(),
            listener: ListenerId::next(),
            found: VecDeque::new(),
        })
    }

    /// Tells the behaviours of an address that came or went. Concrete ones only: they ignore `0.0.0.0`.
    fn announce(&mut self, event: &IfEvent) {
        let (IfEvent::Up(net) | IfEvent::Down(net)) = event;
        let addr = &address(net.addr(), self.port).with(Protocol::HttpPath(self.label.as_str().into()));
        let (listener_id, up) = (self.listener, matches!(event, IfEvent::Up(_)));
        if up {
            self.at.insert(*net);
        } else {
            self.at.remove(net);
        }
        for family in self.families.iter_mut().filter(|f| f.ipv6 == net.addr().is_ipv6()) {
            family.mdns.on_swarm_event(if up {
                FromSwarm::NewListenAddr(NewListenAddr { listener_id, addr })
            } else {
                FromSwarm::ExpiredListenAddr(ExpiredListenAddr { listener_id, addr })
            });
        }
    }

    fn heard(&mut self, event: mdns::Event) {
        let (list, here) = match event {
            mdns::Event::Discovered(list) => (list, true),
            mdns::Event::Expired(list) => (list, false),
        };
        for (peer, at) in list {
            if self.found.len() >= SIGHTINGS_MAX {
                return;
            }
            if let (Some(id), Some(at)) = (id_of(&peer), place(&at, &self.label)) {
                self.found.push_back(if here { Sighting::Here(id, at) } else { Sighting::Gone(id, at) });
            }
        }
    }
}

impl Stream for Discovery {
    type Item = Sighting;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Sighting>> {
        let this = &mut *self;
        loop {
            if let Some(sighting) = this.found.pop_front() {
                return Poll::Ready(Some(sighting));
            }
            while let Poll::Ready(Ok(event)) = this.interfaces.poll_if_event(cx) {
                this.announce(&event);
            }
            let mut events = Vec::new();
            for family in &mut this.families {
                while let Poll::Ready(event) = family.mdns.poll(cx) {
                    if let ToSwarm::GenerateEvent(event) = event {
                        events.push(event);
                        break;
                    }
                }
            }
            if events.is_empty() {
                return Poll::Pending;
            }
            events.into_iter().for_each(|event| this.heard(event));
        }
    }
}

/// The behaviours' own tasks outlive them until they hear another answer. Without addresses they have nothing
/// to say, so a stopped node falls silent at once.
impl Drop for Discovery {
    fn drop(&mut self) {
        for net in std::mem::take(&mut self.at) {
            self.announce(&IfEvent::Down(net));
        }
    }
}

/// The addresses of this machine's interfaces, without loopback and link-local ones, which others can't dial.
pub async fn interfaces() -> Vec<IpAddr> {
    let Ok(mut watcher) = IfWatcher::new() else { return Vec::new() };
    // The list comes with the first events; there is no other end to wait for.
    let first = poll_fn(|cx| watcher.poll_if_event(cx));
    let _ = tokio::time::timeout(INTERFACES_TIMEOUT, first).await;
    let all: BTreeSet<IpAddr> = watcher.iter().map(IpNet::addr).collect();
    all.into_iter().filter(dialable).collect()
}

/// Where a node that listens on `bound` can be reached.
pub async fn reachable(bound: SocketAddr, simulated: bool) -> Vec<SocketAddr> {
    if simulated || !bound.ip().is_unspecified() {
        return vec![bound];
    }
    let all = interfaces().await;
    let mut all: Vec<SocketAddr> = all
        .into_iter()
        .filter(|ip| bound.is_ipv6() || ip.is_ipv4())
        .map(|ip| SocketAddr::new(ip, bound.port()))
        .collect();
    if all.is_empty() {
        // A machine without a network can still be several nodes.
        all.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), bound.port()));
    }
    all
}

/// Whether this machine can send to the mDNS group, or why not.
pub fn multicast() -> Result<(), String> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(|e| format!("no UDP socket: {e}"))?;
    socket.join_multicast_v4(&GROUP, &Ipv4Addr::UNSPECIFIED).map_err(|e| format!("can't join the mDNS group: {e}"))?;
    // An empty DNS message: twelve zero bytes are a header without questions, which nobody answers.
    socket.send_to(&[0; 12], (GROUP, PORT)).map_err(|e| format!("can't send to the mDNS group: {e}"))?;
    Ok(())
}

fn dialable(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
        // A link-local address is of no use without its zone, which the records don't carry.
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    }
}

fn address(ip: IpAddr, port: u16) -> Multiaddr {
    Multiaddr::empty().with(ip.into()).with(Protocol::Udp(port)).with(Protocol::QuicV1)
}

/// The socket address in a record, if it is of our kind.
fn place(at: &Multiaddr, label: &str) -> Option<SocketAddr> {
    let mut parts = at.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    let Protocol::Udp(port) = parts.next()? else { return None };
    let (Protocol::QuicV1, Protocol::HttpPath(path)) = (parts.next()?, parts.next()?) else { return None };
    (path == label && port != 0 && dialable(&ip)).then(|| SocketAddr::new(ip, port))
}

/// `None` when the 32 bytes are no point of the curve.
fn peer_of(id: &NodeId) -> Option<PeerId> {
    Some(PublicKey::from(ed25519::PublicKey::try_from_bytes(id.as_bytes()).ok()?).to_peer_id())
}

/// The key in an Ed25519 peer id, which is the key itself in an identity multihash (code 0), not its digest.
fn id_of(peer: &PeerId) -> Option<NodeId> {
    let hash = peer.as_ref();
    let inline = (hash.code() == 0).then(|| hash.digest())?;
    Some(NodeId::from_bytes(PublicKey::try_decode_protobuf(inline).ok()?.try_into_ed25519().ok()?.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Identity;

    #[test]
    fn a_key_survives_its_peer_id() {
        for seed in 0..64 {
            let id = Identity::from_seed([seed; 32]).id();
            assert_eq!(id_of(&peer_of(&id).unwrap()), Some(id));
        }
    }

    #[test]
    fn records_of_other_programs_are_not_ours() {
        let ours: Multiaddr =
            address("192.168.1.5".parse().unwrap(), 4893).with(Protocol::HttpPath(NEIGHBOURHOOD.into()));
        assert_eq!(place(&ours, NEIGHBOURHOOD), Some("192.168.1.5:4893".parse().unwrap()));
        for other in [
            "/ip4/192.168.1.5/udp/4893/quic-v1",
            "/ip4/192.168.1.5/tcp/4893",
            "/dns4/x/udp/1/quic-v1",
            "/ip6/fe80::1/udp/1/quic-v1/http-path/skep1",
        ] {
            assert_eq!(place(&other.parse().unwrap(), NEIGHBOURHOOD), None, "{other}");
        }
    }
}
