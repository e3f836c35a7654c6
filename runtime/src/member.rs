//! Who is in the swarm, as this node sees it now. Written by membership (`transport`), read by everyone.
//!
//! It is a picture, not a stream of events: a reader that was late sees the truth, not a backlog.

use crate::NodeId;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};
use tokio::sync::watch;

/// Whether a member can be worked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It answers.
    Up,
    /// It stopped answering, or was never seen since this node started.
    Down,
    /// It said goodbye; it comes back by starting again.
    Left,
}

/// How busy a node is: the part of its card that changes by the second, small enough for gossip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Load {
    /// Processor time in use, in thousandths of all cores.
    pub cpu_permille: u16,
    /// Memory in use, in thousandths.
    pub memory_permille: u16,
    /// Commands, agents and shards at work.
    pub running: u16,
    /// Work that waits here.
    pub queued: u16,
    /// It takes no new work.
    pub draining: bool,
}

/// One machine of the swarm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its key.
    pub id: NodeId,
    /// The name that its owner gave it; names may repeat, keys can't.
    pub name: String,
    /// Whether it answers.
    pub state: State,
    /// Where it was last reached.
    pub addresses: Vec<SocketAddr>,
    /// When it was admitted, in milliseconds since 1970.
    pub joined_ms: u64,
    /// When it was last known to be up, in milliseconds since 1970; 0 if never since this node started.
    pub seen_ms: u64,
    /// How busy it said it is.
    pub load: Load,
    /// Its card, as `actors` encodes it (hardware, models, labels); empty until it was pulled.
    pub card: Arc<Vec<u8>>,
}

/// Everyone on the roster, this node included, by key. Members are shared, so that a new picture copies what changed.
pub type Picture = Arc<BTreeMap<NodeId, Arc<Member>>>;

/// The members as this node sees them. Cheap to clone; all clones show the same picture.
#[derive(Clone, Debug)]
pub struct Members {
    me: NodeId,
    picture: watch::Sender<Picture>,
}

impl Members {
    /// An empty picture, seen by `me`.
    pub fn new(me: NodeId) -> Members {
        Members { me, picture: watch::Sender::new(Picture::default()) }
    }

    /// Who looks.
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// The picture now.
    pub fn now(&self) -> Picture {
        self.picture.borrow().clone()
    }

    /// One member, if it is on the roster.
    pub fn get(&self, id: &NodeId) -> Option<Arc<Member>> {
        self.picture.borrow().get(id).cloned()
    }

    /// Those that answer, this node included.
    pub fn up(&self) -> Vec<Arc<Member>> {
        self.picture.borrow().values().filter(|m| m.state == State::Up).cloned().collect()
    }

    /// The others that answer.
    pub fn others_up(&self) -> Vec<NodeId> {
        let picture = self.picture.borrow();
        picture.values().filter(|m| m.state == State::Up && m.id != self.me).map(|m| m.id).collect()
    }

    /// Whether this one answers.
    pub fn is_up(&self, id: &NodeId) -> bool {
        self.picture.borrow().get(id).is_some_and(|m| m.state == State::Up)
    }

    /// Wakes its holder whenever the picture changed.
    pub fn changes(&self) -> watch::Receiver<Picture> {
        self.picture.subscribe()
    }

    /// Shows these members as they are now, or no longer (`None`). Readers wake only if that changes the picture. For
    /// membership alone.
    pub fn show(&self, members: impl IntoIterator<Item = (NodeId, Option<Member>)>) {
        self.picture.send_if_modified(|picture| {
            let mut changed = false;
            for (id, member) in members {
                match member {
                    Some(member) if picture.get(&id).is_none_or(|shown| **shown != member) => {
                        Arc::make_mut(picture).insert(id, Arc::new(member));
                        changed = true;
                    }
                    None if picture.contains_key(&id) => {
                        Arc::make_mut(picture).remove(&id);
                        changed = true;
                    }
                    Some(_) | None => {}
                }
            }
            changed
        });
    }
}
