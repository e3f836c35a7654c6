//! From "someone wants to talk to that key" to a connection that both sides have admitted.
//!
//! The last good address is tried first; the next one starts beside it after a moment. The handshake proves the
//! key; the arrival of the peer's link stream says that the peer has admitted us.

use super::{
    Error, Protocol, Streams,
    event::Code,
    shared::{Live, Shared, State},
};
use crate::defaults::{CONNECT_TIMEOUT, DATAGRAMS_WAITING_MAX};
use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use quinn::ConnectionError;
use skep_runtime::NodeId;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// How long one address is tried alone before the next one is tried beside it.
const STAGGER: Duration = Duration::from_millis(250);
/// After a failed dial, how long datagrams are dropped instead of starting another: a probe's period.
const REDIAL_PAUSE: Duration = Duration::from_millis(500);
/// Before dialling again a peer that says it is connected to us: the news of it is on its way.
const DUPLICATE_PAUSE: Duration = Duration::from_millis(50);

/// The TLS alert of a key that is not the dialled one: `bad_certificate`, as QUIC numbers it (RFC 9001, 4.8).
const WRONG_KEY: u64 = 0x100 + 42;

/// A dial that is under way. Everyone who needs the peer waits for the same one.
pub(super) struct Dial {
    outcome: watch::Sender<Option<Result<Arc<Live>, Failure>>>,
    /// The peer's own dial won.
    pub(super) abandoned: CancellationToken,
}

/// Why a dial came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    NotMember,
    /// The peer says that the pair is connected.
    Duplicate,
    Unreachable(String),
}

impl Dial {
    fn new() -> Arc<Dial> {
        Arc::new(Dial { outcome: watch::Sender::new(None), abandoned: CancellationToken::new() })
    }

    pub(super) fn end(&self, outcome: Result<Arc<Live>, Failure>) {
        self.outcome.send_replace(Some(outcome));
    }

    /// Waits for what comes of it.
    pub(super) async fn ended(&self) -> Result<Arc<Live>, Failure> {
        let mut outcome = self.outcome.subscribe();
        match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().expect("it was waited for"),
            Err(_) => Err(Failure::Unreachable("shutting down".into())),
        }
    }
}

impl Shared {
    /// The connection to `peer`, dialled if need be.
    pub(super) async fn connect(self: &Arc<Self>, peer: NodeId) -> Result<Arc<Live>, Error> {
        let connecting = async {
            loop {
                let dial = match self.live_or_dial(peer)? {
                    Ok(live) => return Ok(live),
                    Err(dial) => dial,
                };
                match dial.ended().await {
                    Ok(live) => return Ok(live),
                    Err(Failure::Duplicate) => sleep(DUPLICATE_PAUSE).await,
                    Err(Failure::NotMember) => return Err(Error::NotMember(peer)),
                    Err(Failure::Unreachable(why)) => return Err(Error::Unreachable(peer, why)),
                }
            }
        };
        let late = || Error::Unreachable(peer, "no answer in time".into());
        timeout(CONNECT_TIMEOUT, connecting).await.unwrap_or_else(|_| Err(late()))
    }

    /// Queues a datagram for a peer that is not connected, and dials. `false` when it was dropped.
    pub(super) fn datagram_later(self: &Arc<Self>, peer: NodeId, bytes: Bytes) -> bool {
        {
            let mut peers = self.peers();
            let Some(entry) = peers.get_mut(&peer) else { return false };
            let pausing = entry.failed.is_some_and(|at| at.elapsed() < REDIAL_PAUSE);
            let dialling = matches!(entry.state, State::Dialing(_));
            if entry.datagrams.len() >= DATAGRAMS_WAITING_MAX || (pausing && !dialling) {
                return false;
            }
            entry.datagrams.push(bytes);
        }
        match self.live_or_dial(peer) {
            Ok(Ok(live)) => self.flush_datagrams(&live),
            Ok(Err(_)) => {}
            Err(_) => {
                if let Some(entry) = self.peers().get_mut(&peer) {
                    entry.datagrams.clear();
                }
                return false;
            }
        }
        true
    }

    /// The standing connection, or the dial to wait for.
    fn live_or_dial(self: &Arc<Self>, peer: NodeId) -> Result<Result<Arc<Live>, Arc<Dial>>, Error> {
        // Asked outside of the lock: the gate has locks of its own.
        if peer == self.id || !self.gate.is_member(&peer) {
            return Err(Error::NotMember(peer));
        }
        let mut peers = self.peers();
        if self.stopping.is_cancelled() {
            return Err(Error::Stopped);
        }
        let entry = peers.get_mut(&peer).ok_or(Error::NoAddress(peer))?;
        match &entry.state {
            State::Up(live) if !live.link.is_closed() => return Ok(Ok(live.clone())),
            State::Dialing(dial) => return Ok(Err(dial.clone())),
            State::Up(_) | State::Idle => {}
        }
        let addresses = entry.book.all().to_vec();
        if addresses.is_empty() {
            return Err(Error::NoAddress(peer));
        }
        let dial = Dial::new();
        entry.state = State::Dialing(dial.clone());
        drop(peers);
        self.spawner.spawn(self.clone().dial(peer, dial.clone(), addresses));
        Ok(Err(dial))
    }

    async fn dial(self: Arc<Self>, peer: NodeId, dial: Arc<Dial>, addresses: Vec<SocketAddr>) {
        let race = timeout(CONNECT_TIMEOUT, self.race(peer, addresses));
        // Whoever abandoned it has said what came instead.
        let Some(outcome) = dial.abandoned.run_until_cancelled(race).await else { return };
        let failure = match outcome {
            Ok(Ok((connection, streams))) => return self.adopt_dialled(peer, connection, streams, &dial),
            Ok(Err(failure)) => failure,
            Err(_) => Failure::Unreachable("no answer in time".into()),
        };
        tracing::debug!(?peer, ?failure, "a dial failed");
        if let Some(entry) = self.peers().get_mut(&peer)
            && entry.is_dialling(&dial)
        {
            entry.state = State::Idle;
            entry.failed = Some(Instant::now());
            entry.datagrams.clear();
        }
        dial.end(Err(failure));
    }

    /// Tries the addresses, each a little after the one before, until one answers as a peer that admits us.
    async fn race(&self, peer: NodeId, addresses: Vec<SocketAddr>) -> Result<(quinn::Connection, Streams), Failure> {
        let mut rest = addresses.into_iter();
        let mut attempts: FuturesUnordered<_> = rest.next().into_iter().map(|addr| self.attempt(peer, addr)).collect();
        let mut failure = Failure::Unreachable("no address".into());
        loop {
            let next = tokio::select! {
                biased;
                outcome = attempts.next() => match outcome {
                    Some(Ok(won)) => return Ok(won),
                    // The peer itself has spoken: another address would say the same.
                    Some(Err(spoken @ (Failure::NotMember | Failure::Duplicate))) => return Err(spoken),
                    Some(Err(why)) => {
                        failure = why;
                        rest.next()
                    }
                    None => return Err(failure),
                },
                () = sleep(STAGGER), if !rest.as_slice().is_empty() => rest.next(),
            };
            if let Some(addr) = next {
                attempts.push(self.attempt(peer, addr));
            }
        }
    }

    async fn attempt(&self, peer: NodeId, addr: SocketAddr) -> Result<(quinn::Connection, Streams), Failure> {
        let failed = |error: ConnectionError| match Code::of(&error) {
            Some(Code::NotMember) => Failure::NotMember,
            Some(Code::Duplicate) => Failure::Duplicate,
            _ => Failure::Unreachable(format!("{addr}: {error}")),
        };
        let connecting = self.endpoint.dial(&peer, addr).map_err(|e| Failure::Unreachable(format!("{addr}: {e}")))?;
        let connection = connecting.await.map_err(failed)?;
        let (send, mut recv) = connection.accept_bi().await.map_err(failed)?;
        let mut opening = [0];
        let broken = |_| Failure::Unreachable(format!("{addr}: the link did not open"));
        recv.read_exact(&mut opening).await.map_err(broken)?;
        if Protocol::of(opening[0]) != Some(Protocol::Link) {
            Code::Protocol.close(&connection);
            return Err(Failure::Unreachable(format!("{addr}: it speaks another version")));
        }
        Ok((connection, (send, recv)))
    }

    /// Dials by the join protocol and opens its one stream.
    pub(super) async fn knock(&self, addr: SocketAddr, expected: Option<NodeId>) -> Result<(NodeId, Streams), Error> {
        let failed = |error: ConnectionError| match (Code::of(&error), &error) {
            (Some(code), _) => Error::Refused(code.reason().into()),
            (_, ConnectionError::TransportError(e)) if u64::from(e.code) == WRONG_KEY => Error::WrongKey(addr),
            _ => Error::Nobody(addr),
        };
        let knocking = async {
            let connection =
                self.endpoint.knock(expected, addr).map_err(|_| Error::Nobody(addr))?.await.map_err(failed)?;
            let peer = crate::tls::peer(&connection).ok_or(Error::WrongKey(addr))?;
            let streams = connection.open_bi().await.map_err(failed)?;
            Ok((peer, streams))
        };
        timeout(CONNECT_TIMEOUT, knocking).await.unwrap_or(Err(Error::Nobody(addr)))
    }
}
