//! One UDP socket for everything: dialling and listening, members and those who want to be.
//!
//! Every random value that QUIC draws comes from [`Env`], in production and in simulation alike, so that a seed
//! replays a run byte for byte. A peer may open no stream until [`crate::mesh`] admits it.

use crate::{
    Env, Identity,
    defaults::{
        DATAGRAM_BYTES_WAITING_MAX, HANDSHAKES_MAX, IDLE_TIMEOUT, INITIAL_RTT, KEEP_ALIVE, MEMBER_BYTES_MAX,
        STRANGER_BYTES_MAX, STREAM_BYTES_MAX, UNACKED_BYTES_MAX, UNACKED_PACKETS,
    },
    mesh::Error,
    tls::{ANYONE, Tls},
};
use aws_lc_rs::{hkdf, hmac};
use quinn::{
    AckFrequencyConfig, ClientConfig, Connecting, ConnectionId, ConnectionIdGenerator, EndpointConfig,
    MtuDiscoveryConfig, ServerConfig, TimeSource, TransportConfig, VarInt,
};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use skep_runtime::NodeId;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

/// Bytes of the largest datagram on Ethernet (1500) below IPv6 (40) and UDP (8).
const ETHERNET_PAYLOAD_BYTES: u16 = 1452;
/// Bytes of a datagram that every path of QUIC's carries: RFC 9000, section 14.
const INITIAL_PAYLOAD_BYTES: u16 = 1200;
/// Bytes of a connection id: enough that two never meet, few enough that each packet can carry one.
const CONNECTION_ID_BYTES: usize = 8;
/// Bytes of the id that a dial starts with, before the other side chose its own.
const FIRST_ID_BYTES: usize = 16;
/// Bytes kept for a newcomer whose handshake was not looked at yet; twice the first flight.
const NEWCOMER_BYTES_MAX: u64 = 16 << 10;

/// A QUIC endpoint that can dial by key.
pub(crate) struct Endpoint {
    pub(crate) quic: quinn::Endpoint,
    member: ClientConfig,
    join: ClientConfig,
}

impl Endpoint {
    pub(crate) fn bind(env: &Env, identity: &Identity, listen: SocketAddr) -> Result<Endpoint, Error> {
        let tls = Tls::new(env, identity)?;

        // A key that outlives the process: after a restart this node can tell its peers that it forgot them.
        let reset_key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, identity.seed()), b"skep stateless reset");
        let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, reset_key.as_ref())));
        let ids = env.base.clone();
        config.cid_generator(move || Box::new(Ids(ids.rng())));
        config.rng_seed(Some(env.base.bytes()));

        let token_key = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&env.base.bytes::<32>());
        let mut server = ServerConfig::new(tls.server, Arc::new(token_key));
        server.time_source(Arc::new(Clock(env.base.clone())));
        // Who dials is a stranger until it is admitted, and what the handshake once granted can't be taken back.
        let mut strangers = transport();
        strangers.receive_window(STRANGER_BYTES_MAX.into());
        server.transport_config(Arc::new(strangers));
        server.max_incoming(HANDSHAKES_MAX).incoming_buffer_size(NEWCOMER_BYTES_MAX);

        let first_ids = Arc::new(Mutex::new(env.base.rng()));
        let client = |tls, transport| {
            let mut config = ClientConfig::new(tls);
            config.transport_config(transport);
            let first_ids = first_ids.clone();
            config.initial_dst_cid_provider(Arc::new(move || {
                id::<FIRST_ID_BYTES>(&mut first_ids.lock().unwrap_or_else(PoisonError::into_inner))
            }));
            config
        };
        // The key that was dialled is proven when the handshake ends, so it may open one stream: the actor
        // link, whose arrival says that it has admitted us.
        let mut dialling = transport();
        dialling.max_concurrent_bidi_streams(1u32.into());
        let member = client(tls.member, Arc::new(dialling));
        let join = client(tls.join, Arc::new(transport()));

        let listening = |source| Error::Listen { at: listen, source };
        let socket = env.net.bind(listen).map_err(listening)?;
        let quic = quinn::Endpoint::new_with_abstract_socket(config, Some(server), socket, env.quic.clone())
            .map_err(listening)?;
        Ok(Endpoint { quic, member, join })
    }

    /// Dials a member: whoever answers must hold its key.
    pub(crate) fn dial(&self, peer: &NodeId, addr: SocketAddr) -> Result<Connecting, quinn::ConnectError> {
        self.quic.connect_with(self.member.clone(), addr, &peer.to_string())
    }

    /// Dials by the join protocol: the holder of the `expected` key, or anyone.
    pub(crate) fn knock(&self, expected: Option<NodeId>, addr: SocketAddr) -> Result<Connecting, quinn::ConnectError> {
        let name = expected.map_or_else(|| ANYONE.to_string(), |id| id.to_string());
        self.quic.connect_with(self.join.clone(), addr, &name)
    }
}

/// What both sides of every connection keep to. No streams: [`crate::mesh`] admits.
fn transport() -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(0u32.into())
        .max_concurrent_uni_streams(0u32.into())
        .max_idle_timeout(Some(IDLE_TIMEOUT.try_into().expect("30 s fit QUIC's milliseconds")))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .initial_rtt(INITIAL_RTT)
        .ack_frequency_config(Some(acks()))
        .mtu_discovery_config(Some(sizes()))
        .stream_receive_window(STREAM_BYTES_MAX.into())
        .receive_window(VarInt::from_u32(MEMBER_BYTES_MAX))
        .datagram_receive_buffer_size(Some(DATAGRAM_BYTES_WAITING_MAX))
        .send_window(UNACKED_BYTES_MAX);
    config
}

/// Ethernet's size is tried first, and is right in a LAN; half of the way to it where it isn't. Halving from the least
/// size up, as QUIC does by itself, takes four probes each way for the same answer.
fn sizes() -> MtuDiscoveryConfig {
    let mut sizes = MtuDiscoveryConfig::default();
    sizes.upper_bound(ETHERNET_PAYLOAD_BYTES).minimum_change((ETHERNET_PAYLOAD_BYTES - INITIAL_PAYLOAD_BYTES) / 2 + 1);
    sizes
}

/// Fewer acknowledgements (draft-ietf-quic-ack-frequency): only after [`UNACKED_PACKETS`], and for a packet out of turn only
/// once it is further off than reordering explains.
fn acks() -> AckFrequencyConfig {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(UNACKED_PACKETS));
    acks
}

/// Connection ids from the environment's randomness.
struct Ids(ChaCha8Rng);

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        id::<CONNECTION_ID_BYTES>(&mut self.0)
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

fn id<const N: usize>(rng: &mut ChaCha8Rng) -> ConnectionId {
    let mut bytes = [0; N];
    rng.fill_bytes(&mut bytes);
    ConnectionId::new(&bytes)
}

/// QUIC dates its address tokens by the wall clock: the environment's.
struct Clock(skep_runtime::Env);

impl TimeSource for Clock {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.0.now_ms())
    }
}
