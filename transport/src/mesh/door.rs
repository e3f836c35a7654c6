//! Those who dial us: the handshake, who they are, and what that lets them do.
//!
//! A connection starts with no stream allowed. A member's is weighed against our own dial ([`super::tie`]); a
//! stranger gets the join protocol's one stream, or the reason why not.

use super::{
    event::Code,
    gate::Streams,
    shared::{Shared, State},
    tie::{Own, Verdict, verdict},
};
use crate::{
    defaults::{CONNECT_TIMEOUT, HANDSHAKES_MAX, JOINER_TIMEOUT, OPENING_TIMEOUT},
    tls,
};
use quinn::Connection;
use skep_runtime::NodeId;
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// How long a peer's dial waits for what comes of ours: on a LAN that is known in a few round trips.
const HOLD_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a stranger has to take the last words before the connection closes.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(2);

impl Shared {
    /// Answers whoever dials, until the socket closes.
    pub(super) async fn listen(self: Arc<Self>) {
        while let Some(incoming) = self.endpoint.quic.accept().await {
            let Ok(place) = self.handshakes.clone().try_acquire_owned() else {
                incoming.refuse();
                continue;
            };
            if self.handshakes.available_permits() < HANDSHAKES_MAX / 2 && incoming.may_retry() {
                // Under pressure an address must be shown to be real before a handshake is paid for.
                let _ = incoming.retry();
                continue;
            }
            let shared = self.clone();
            self.spawner.spawn(async move {
                let handshake = async { incoming.accept().ok()?.await.ok() };
                let Ok(Some(connection)) = timeout(CONNECT_TIMEOUT, handshake).await else { return };
                drop(place);
                shared.answer(connection).await;
            });
        }
    }

    async fn answer(self: Arc<Self>, connection: Connection) {
        let (Some(peer), Some(protocol)) = (tls::peer(&connection), tls::protocol(&connection)) else { return };
        match protocol.as_slice() {
            tls::JOIN if peer != self.id => self.visit(peer, connection).await,
            tls::MEMBERS if peer != self.id && self.gate.is_member(&peer) => self.welcome(peer, connection).await,
            _ => {
                tracing::debug!(?peer, from = %connection.remote_address(), "refused: not a member");
                Code::NotMember.close(&connection);
            }
        }
    }

    /// Takes a member's connection, or finds that there is a better one.
    async fn welcome(self: Arc<Self>, peer: NodeId, connection: Connection) {
        // A dialler lets the key that it dialled open one stream. Nothing of it travels before the first byte.
        let Ok(Ok(streams)) = timeout(OPENING_TIMEOUT, connection.open_bi()).await else { return };
        let mut held = false;
        loop {
            let (own, verdict) = {
                let mut peers = self.peers();
                let entry = peers.entry(peer).or_default();
                let own = match &entry.state {
                    State::Idle => Own::Nothing,
                    State::Dialing(_) => Own::Dial,
                    State::Up(live) if live.link.is_closed() => Own::Dead,
                    State::Up(_) => Own::Connection,
                };
                let verdict = verdict(self.id, peer, own, held);
                if verdict == Verdict::Adopt {
                    return self.adopt(peers, peer, connection, streams, true);
                }
                entry.book.hint(connection.remote_address());
                (entry.state.clone(), verdict)
            };
            match (own, verdict) {
                (State::Dialing(dial), _) => tokio::select! {
                    biased;
                    _ = connection.closed() => return,
                    _ = timeout(HOLD_TIMEOUT, dial.ended()) => held = true,
                },
                (State::Up(live), _) => tokio::select! {
                    biased;
                    _ = connection.closed() => return,
                    alive = live.link.ping() => if alive {
                        return Code::Duplicate.close(&connection);
                    } else {
                        self.take_down(&live, Code::Duplicate);
                    },
                },
                (State::Idle, _) => {}
            }
        }
    }

    /// Lets someone speak the join protocol.
    async fn visit(self: Arc<Self>, who: NodeId, connection: Connection) {
        let from = connection.remote_address();
        let Some(_place) = self.visitors.enter(from.ip()) else { return Code::Busy.close(&connection) };
        connection.set_max_concurrent_bi_streams(1u32.into());
        if let Ok(Ok(streams)) = timeout(OPENING_TIMEOUT, connection.accept_bi()).await {
            // One stream in all, not one at a time.
            connection.set_max_concurrent_bi_streams(0u32.into());
            let conversation = self.gate.joiner(who, from, streams);
            tokio::select! {
                biased;
                _ = connection.closed() => return,
                _ = timeout(JOINER_TIMEOUT, conversation) => {}
            }
            let _ = timeout(LAST_WORDS_TIMEOUT, connection.closed()).await;
        }
        Code::Done.close(&connection);
    }

    /// Takes the connection that our dial brought, unless the peer's won meanwhile.
    pub(super) fn adopt_dialled(
        self: &Arc<Self>,
        peer: NodeId,
        connection: Connection,
        streams: Streams,
        dial: &Arc<super::dial::Dial>,
    ) {
        let mut peers = self.peers();
        if peers.entry(peer).or_default().is_dialling(dial) {
            self.adopt(peers, peer, connection, streams, false);
        } else {
            Code::Duplicate.close(&connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        Env, Identity,
        defaults::STRANGER_BYTES_MAX,
        endpoint::Endpoint,
        mesh::{Gate, Incoming, Mesh, Protocol, Streams, event::Code},
    };
    use futures::{FutureExt, future::BoxFuture};
    use skep_runtime::{Directory, NodeId};
    use std::{
        net::SocketAddr,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
    };

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    /// Nobody is a member; who joins is listened to until the end, and thanked.
    struct Closed;

    impl Gate for Closed {
        fn is_member(&self, _: &NodeId) -> bool {
            false
        }

        fn joiner(&self, _: NodeId, _: SocketAddr, (mut send, mut recv): Streams) -> BoxFuture<'static, ()> {
            Box::pin(async move {
                let _ = recv.read_to_end(100).await;
                let _ = send.write_all(b"thanks").await;
            })
        }

        fn control(&self, _: NodeId, _: Protocol, _: Streams) -> BoxFuture<'static, ()> {
            unreachable!("nobody is a member")
        }
    }

    /// Everyone is a member the first time that is asked, and evicted right after.
    #[derive(Default)]
    struct Evicting(AtomicBool);

    impl Gate for Evicting {
        fn is_member(&self, _: &NodeId) -> bool {
            !self.0.swap(true, Ordering::Relaxed)
        }

        fn joiner(&self, _: NodeId, _: SocketAddr, _: Streams) -> BoxFuture<'static, ()> {
            unreachable!("nobody joins")
        }

        fn control(&self, _: NodeId, _: Protocol, _: Streams) -> BoxFuture<'static, ()> {
            unreachable!("nobody is a member long enough")
        }
    }

    /// A node that admits nobody, and the bare endpoint of a stranger.
    fn host_and_stranger() -> (Mesh, Incoming, Endpoint) {
        host_with(Arc::new(Closed))
    }

    fn host_with(gate: Arc<dyn Gate>) -> (Mesh, Incoming, Endpoint) {
        let (host, stranger) = (Identity::from_seed([1; 32]), Identity::from_seed([2; 32]));
        let (mesh, incoming) = Mesh::start(&Env::machine(), &host, Directory::new(host.id()), gate, ANY).unwrap();
        (mesh, incoming, Endpoint::bind(&Env::machine(), &stranger, ANY).unwrap())
    }

    #[tokio::test]
    async fn a_stranger_among_members_can_open_nothing_and_is_told_why() {
        let (host, _incoming, stranger) = host_and_stranger();
        let connection = stranger.dial(&host.id(), host.local_addr()).unwrap().await.unwrap();
        assert!(connection.open_bi().now_or_never().is_none_or(|opened| opened.is_err()));
        assert!(connection.open_uni().now_or_never().is_none_or(|opened| opened.is_err()));
        let closed = connection.closed().await;
        assert_eq!(Code::of(&closed), Some(Code::NotMember));
        assert!(closed.to_string().contains("skep join"), "{closed}");
    }

    #[tokio::test]
    async fn who_is_evicted_between_the_handshake_and_the_link_is_not_taken() {
        let (host, _incoming, member) = host_with(Arc::new(Evicting::default()));
        let connection = member.dial(&host.id(), host.local_addr()).unwrap().await.unwrap();
        assert_eq!(Code::of(&connection.closed().await), Some(Code::NotMember));
        assert!(host.connected().is_empty());
    }

    #[tokio::test]
    async fn what_a_stranger_may_have_unread_is_little_from_the_first_packet_on() {
        let (host, _incoming, stranger) = host_and_stranger();
        let connection = stranger.knock(None, host.local_addr()).unwrap().await.unwrap();
        let (mut send, _recv) = connection.open_bi().await.unwrap();
        let taken = send.write(&vec![0; 1 << 20]).await.unwrap();
        assert!(taken <= STRANGER_BYTES_MAX as usize, "{taken}");
    }

    #[tokio::test]
    async fn a_joiner_gets_one_stream_and_never_another() {
        let (host, _incoming, stranger) = host_and_stranger();
        let connection = stranger.knock(Some(host.id()), host.local_addr()).unwrap().await.unwrap();
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        assert!(connection.open_uni().now_or_never().is_none());
        send.write_all(b"me").await.unwrap();
        assert!(connection.open_bi().now_or_never().is_none(), "not beside the first");
        send.finish().unwrap();
        assert_eq!(recv.read_to_end(100).await.unwrap(), b"thanks");
        // Nor after it: what comes next is the end.
        let closed = connection.open_bi().await.err().unwrap();
        assert_eq!(Code::of(&closed), Some(Code::Done));
    }

    #[tokio::test]
    async fn a_stranger_who_says_too_much_is_stopped_by_its_window() {
        let (host, _incoming, stranger) = host_and_stranger();
        let connection = stranger.knock(None, host.local_addr()).unwrap().await.unwrap();
        let (mut send, _recv) = connection.open_bi().await.unwrap();
        // The gate gives up after a hundred bytes; the rest finds no window or a stopped stream.
        let flood = vec![0; 64 << 20];
        assert!(send.write_all(&flood).await.is_err());
    }
}
