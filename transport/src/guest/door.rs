//! The guest door as a node's owner holds it: open, ask what stands in it, drop.

use super::{
    Cookie,
    server::{Server, Setup},
};
use crate::defaults::DOOR_TIMEOUT;
use ractor::{Actor, ActorRef, SpawnErr};
use ractor_cluster::NodeServerMessage;
use skep_runtime::{Directory, Members, Tasks};
use std::{collections::BTreeSet, net::SocketAddr};
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};

/// An open door. Dropping it turns every guest out, takes their names back and closes the port.
pub struct Door {
    addr: SocketAddr,
    server: ActorRef<NodeServerMessage>,
    published: watch::Receiver<BTreeSet<String>>,
    _tasks: Tasks,
}

/// Why a door did not open. Nothing is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Guests are programs of this machine; what they say is not encrypted.
    #[error("guests are let in on loopback only, not on {0}: take 127.0.0.1 and a port")]
    NotLoopback(SocketAddr),
    /// The port can't be used.
    #[error("the guest door can't listen on {0}: {1}. Port 0 takes any free one")]
    Listen(SocketAddr, SpawnErr),
    /// The server did not say in time where it listens.
    #[error("the guest door did not open in time")]
    Timeout,
}

impl Door {
    /// Lets guests in that know `cookie`, at `at`: a loopback address; port 0 lets the system choose. Their actors
    /// are published in `directory`; they are told of the `members` that are up.
    pub async fn open(
        directory: Directory,
        members: Members,
        cookie: Cookie,
        at: SocketAddr,
    ) -> Result<Door, OpenError> {
        if !at.ip().is_loopback() {
            return Err(OpenError::NotLoopback(at));
        }
        let (names, published) = watch::channel(BTreeSet::new());
        let (told, port) = oneshot::channel();
        let tasks = Tasks::default();
        let server = Server::new(&cookie, directory.id(), at);
        let setup = Setup { directory, members, spawner: tasks.spawner(), names, told };
        let (server, _) = Actor::spawn(None, server, setup).await.map_err(|e| OpenError::Listen(at, e))?;
        // From here on it ends with the door, also when it doesn't get any further.
        let mut door = Door { addr: at, server, published, _tasks: tasks };
        if at.port() == 0 {
            let port = timeout(DOOR_TIMEOUT, port).await.map_err(|_| OpenError::Timeout)?;
            door.addr.set_port(port.map_err(|_| OpenError::Timeout)?);
        }
        tracing::info!(addr = %door.addr, "guests may attach");
        Ok(door)
    }

    /// Where guests connect; the port is the real one.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The names that guests have published here; wakes its holder when they change.
    pub fn published(&self) -> watch::Receiver<BTreeSet<String>> {
        self.published.clone()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // The listener, the sessions, the gateway and the proxies are its descendants and end with it.
        self.server.stop(None);
    }
}
