//! What all parts of the mesh work on: the table of peers, and the life of one connection from up to down.

use super::{
    Cause, Error, Event, Gate, Protocol, Streams,
    book::Book,
    dial::{Dial, Failure},
    event::Code,
    ration::Ration,
    silence::Silence,
    visitors::Visitors,
};
use crate::{
    bulk,
    defaults::{BULK_STREAMS_MAX, CONTROL_TIMEOUT, MEMBER_BYTES_MAX, OPENING_TIMEOUT, STREAMS_MAX},
    endpoint::Endpoint,
    link::Link,
};
use bytes::Bytes;
use quinn::{Connection, ConnectionError};
use skep_runtime::{Directory, NodeId, tasks::Spawner};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

/// The inside of a mesh; its tasks hold it too.
pub(super) struct Shared {
    pub(super) id: NodeId,
    pub(super) endpoint: Endpoint,
    pub(super) directory: Directory,
    pub(super) gate: Arc<dyn Gate>,
    pub(super) spawner: Spawner,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) handshakes: Arc<Semaphore>,
    pub(super) visitors: Arc<Visitors>,
    /// No new connection is taken or dialled.
    pub(super) stopping: CancellationToken,
    pub(super) peers: Mutex<Peers>,
}

/// Everyone that an address or a connection is known of.
pub(super) type Peers = BTreeMap<NodeId, Peer>;

/// What is known of one peer.
#[derive(Default)]
pub(super) struct Peer {
    pub(super) book: Book,
    pub(super) state: State,
    /// Datagrams that wait for the dial.
    pub(super) datagrams: Vec<Bytes>,
    /// When the last dial failed.
    pub(super) failed: Option<Instant>,
    /// Cancelled when the last connection's `Down` was told.
    told: Option<CancellationToken>,
}

/// The connection to one peer.
#[derive(Clone, Default)]
pub(super) enum State {
    #[default]
    Idle,
    Dialing(Arc<Dial>),
    Up(Arc<Live>),
}

/// A connection that both sides have admitted.
pub(super) struct Live {
    pub(super) peer: NodeId,
    pub(super) connection: Connection,
    pub(super) link: Link,
    silence: Mutex<Silence>,
    /// Places for streams of bulk that this side opens.
    pub(super) bulk: Arc<Semaphore>,
}

impl Live {
    /// Opens a stream whose first byte names its protocol.
    pub(super) async fn open(&self, protocol: Protocol) -> Result<Streams, Error> {
        let broken = |e: String| Error::Unreachable(self.peer, e);
        let opening = async {
            let (mut send, recv) = self.connection.open_bi().await.map_err(|e| broken(e.to_string()))?;
            send.write_all(&[protocol as u8]).await.map_err(|e| broken(e.to_string()))?;
            Ok((send, recv))
        };
        timeout(OPENING_TIMEOUT, opening).await.unwrap_or(Err(Error::Timeout))
    }

    fn is_silent(&self) -> bool {
        self.silence.lock().unwrap_or_else(PoisonError::into_inner).is_over()
    }
}

impl Peer {
    pub(super) fn is_up(&self) -> bool {
        matches!(&self.state, State::Up(live) if !live.link.is_closed())
    }

    pub(super) fn is_dialling(&self, dial: &Arc<Dial>) -> bool {
        matches!(&self.state, State::Dialing(own) if Arc::ptr_eq(own, dial))
    }
}

impl Shared {
    pub(super) fn peers(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The standing connection to `peer`.
    pub(super) fn live(&self, peer: &NodeId) -> Option<Arc<Live>> {
        match &self.peers().get(peer)?.state {
            State::Up(live) if !live.link.is_closed() => Some(live.clone()),
            _ => None,
        }
    }

    /// Makes a connection the one to its peer. With `greet` it was the peer's dial, and the first byte on the
    /// link tells it that it is admitted.
    pub(super) fn adopt(
        self: &Arc<Self>,
        mut peers: MutexGuard<'_, Peers>,
        peer: NodeId,
        connection: Connection,
        streams: Streams,
        greet: bool,
    ) {
        if self.stopping.is_cancelled() {
            return Code::Goodbye.close(&connection);
        }
        // Time has passed since it was asked at the door, as much as the peer liked. Asked under the lock: whoever is
        // taken off the roster from here on is found among the live ones and closed.
        if !self.gate.is_member(&peer) {
            if let (false, Some(entry)) = (greet, peers.get_mut(&peer))
                && let State::Dialing(dial) = std::mem::take(&mut entry.state)
            {
                entry.datagrams.clear();
                dial.end(Err(Failure::NotMember));
            }
            return Code::NotMember.close(&connection);
        }
        connection.set_receive_window(MEMBER_BYTES_MAX.into());
        connection.set_max_concurrent_bi_streams(STREAMS_MAX.into());
        let (send, recv) = streams;
        // Calls go before bulk.
        let _ = send.set_priority(1);
        let opening: &[u8] = if greet { &[Protocol::Link as u8] } else { &[] };
        let link = Link::start(&self.spawner, self.directory.clone(), peer, recv, send, opening);
        let bulk = Arc::new(Semaphore::new(BULK_STREAMS_MAX));
        let live = Arc::new(Live { peer, connection, link, silence: Mutex::default(), bulk });

        let entry = peers.entry(peer).or_default();
        entry.book.proven(live.connection.remote_address());
        entry.failed = None;
        let told = CancellationToken::new();
        let before = entry.told.replace(told.clone());
        match std::mem::replace(&mut entry.state, State::Up(live.clone())) {
            State::Idle => {}
            State::Dialing(dial) => {
                dial.end(Ok(live.clone()));
                if greet {
                    dial.abandoned.cancel();
                }
            }
            State::Up(dead) => Code::Duplicate.close(&dead.connection),
        }
        drop(peers);
        self.flush_datagrams(&live);
        self.spawner.spawn(self.clone().serve(live, before, told));
    }

    /// Sends what waited for the connection.
    pub(super) fn flush_datagrams(&self, live: &Live) {
        let waiting = self.peers().get_mut(&live.peer).map(|entry| std::mem::take(&mut entry.datagrams));
        for datagram in waiting.into_iter().flatten() {
            let _ = live.connection.send_datagram(datagram);
        }
    }

    /// Closes a connection: everything in flight on it fails before this returns.
    pub(super) fn take_down(&self, live: &Arc<Live>, code: Code) {
        code.close(&live.connection);
        self.forget(live);
    }

    /// Closes the connections that lead nowhere.
    pub(super) fn close_silent(&self) {
        let now = Instant::now();
        let mut silent = Vec::new();
        for entry in self.peers().values_mut() {
            let State::Up(live) = &entry.state else { continue };
            let stats = live.connection.stats();
            if live.silence.lock().unwrap_or_else(PoisonError::into_inner).look(&stats, now) {
                silent.push(live.clone());
                // Its addresses are as good as one that was dialled in vain.
                entry.failed = Some(now);
            }
        }
        silent.iter().for_each(|live| self.take_down(live, Code::Silent));
    }

    fn forget(&self, live: &Arc<Live>) {
        if let Some(entry) = self.peers().get_mut(&live.peer)
            && matches!(&entry.state, State::Up(own) if Arc::ptr_eq(own, live))
        {
            entry.state = State::Idle;
        }
        live.link.close();
    }

    /// Tells of the connection, takes its streams and datagrams, and tells of its end.
    async fn serve(self: Arc<Self>, live: Arc<Live>, before: Option<CancellationToken>, told: CancellationToken) {
        if let Some(before) = before {
            before.cancelled().await;
        }
        let (peer, addr) = (live.peer, live.connection.remote_address());
        tracing::debug!(?peer, %addr, "up");
        let _ = self.events.send(Event::Up { peer, addr }).await;
        tokio::select! {
            biased;
            _ = live.connection.closed() => {}
            () = live.link.closed() => {}
            () = self.datagrams(&live) => {}
            () = self.streams(&live) => {}
        }
        let cause = match live.connection.close_reason() {
            Some(ConnectionError::LocallyClosed) if live.is_silent() => Cause::Lost(Code::Silent.reason().into()),
            Some(error) => Cause::from(&error),
            None => {
                Code::Protocol.close(&live.connection);
                Cause::Lost("the link ended before its connection".into())
            }
        };
        self.forget(&live);
        tracing::debug!(?peer, ?cause, "down");
        let _ = self.events.send(Event::Down { peer, cause }).await;
        told.cancel();
    }

    async fn datagrams(&self, live: &Live) {
        let mut ration = Ration::new(Instant::now());
        while let Ok(bytes) = live.connection.read_datagram().await {
            if !ration.takes(Instant::now()) {
                continue;
            }
            // Best effort: a reader that is behind loses the newest.
            let _ = self.events.try_send(Event::Datagram { peer: live.peer, bytes });
        }
    }

    async fn streams(self: &Arc<Self>, live: &Arc<Live>) {
        while let Ok(streams) = live.connection.accept_bi().await {
            self.spawner.spawn(self.clone().stream(live.clone(), streams));
        }
    }

    /// Hands a stream to whoever its first byte names.
    async fn stream(self: Arc<Self>, live: Arc<Live>, (send, mut recv): Streams) {
        let mut opening = [0];
        let Ok(Ok(())) = timeout(OPENING_TIMEOUT, recv.read_exact(&mut opening)).await else { return };
        match Protocol::of(opening[0]) {
            Some(Protocol::Bulk) => bulk::arrived(&self.directory, live.peer, (send, recv)).await,
            Some(protocol @ (Protocol::Card | Protocol::Roster)) => {
                let exchange = self.gate.control(live.peer, protocol, (send, recv));
                let _ = timeout(CONTROL_TIMEOUT, exchange).await;
            }
            Some(Protocol::Link) | None => self.take_down(&live, Code::Protocol),
        }
    }
}
