//! What the server and the app share: that it is about to stop, and the connections that are open, so that one can be cut
//! whose client doesn't read.
//!
//! The server below never looks at a connection whose answer is stuck; only its input and output can end it.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

/// The connections of one server. Cheap to clone. Without a server there are none, and it never stops.
#[derive(Clone, Debug, Default)]
pub struct Room {
    closing: CancellationToken,
    open: watch::Sender<BTreeMap<SocketAddr, CancellationToken>>,
}

/// A connection's entry, gone with it.
pub(crate) struct Entry {
    room: Room,
    peer: SocketAddr,
}

impl Room {
    /// Cancelled when the server is told to stop: whoever answers without end has to end then.
    pub(crate) fn closing(&self) -> CancellationToken {
        self.closing.clone()
    }

    /// Notes a connection, which breaks when `cut` is cancelled.
    pub(crate) fn enter(&self, peer: SocketAddr, cut: CancellationToken) -> Entry {
        self.open.send_modify(|open| {
            open.insert(peer, cut);
        });
        Entry { room: self.clone(), peer }
    }

    /// Cuts the connection of this peer, if it is still there.
    pub(crate) fn cut(&self, peer: &SocketAddr) {
        if let Some(cut) = self.open.borrow().get(peer) {
            cut.cancel();
        }
    }

    /// Waits until all connections are closed, at most so long: what was upgraded is no request that the server waits for.
    pub(crate) async fn emptied(&self, patience: Duration) {
        let mut open = self.open.subscribe();
        // What is left then is cut.
        let _ = timeout(patience, open.wait_for(BTreeMap::is_empty)).await.map(drop);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.room.open.send_modify(|open| {
            open.remove(&self.peer);
        });
    }
}
