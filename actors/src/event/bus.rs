//! The ring of one node: who publishes never waits, who reads too slowly is told what it missed.

use super::what::{Event, Missed, What};
use skep_runtime::{Env, Members, NodeId};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::{
    sync::{broadcast, watch},
    time::timeout,
};

/// Events that wait for the slowest reader: a burst of a thousand commands, taken, started and ended. At the most that an
/// event has, 16 KiB, they are 64 MiB; at what it usually has, 2.
pub const EVENTS_MAX: usize = 4096;

/// What happens, as the actors of a node tell it and as its listeners hear it. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    shared: Arc<Shared>,
}

struct Shared {
    me: NodeId,
    env: Env,
    ring: broadcast::Sender<Arc<Event>>,
    /// Who wants to know what happens in the whole swarm.
    listeners: watch::Sender<usize>,
    /// The nodes whose events come in; `None` while none are wanted.
    followed: watch::Sender<Option<BTreeSet<NodeId>>>,
}

impl Events {
    /// The bus of node `me`. Without an EventsActor it carries what happens on this node alone.
    pub fn new(me: NodeId, env: &Env) -> Events {
        let (listeners, followed) = (watch::Sender::new(0), watch::Sender::new(None));
        let ring = broadcast::Sender::new(EVENTS_MAX);
        Events { shared: Arc::new(Shared { me, env: env.clone(), ring, listeners, followed }) }
    }

    /// Tells whoever listens, here and on other nodes. Never waits; what happened is put into words only if somebody
    /// listens.
    pub fn publish(&self, what: impl FnOnce() -> What) {
        if self.shared.ring.receiver_count() > 0 {
            self.pass_on(Event { at_ms: self.shared.env.now_ms(), node: self.shared.me, what: what() });
        }
    }

    /// What happens in the swarm from now on. Other nodes' events follow when their streams are open: see
    /// [`Events::reach`].
    pub fn subscribe(&self) -> Subscription {
        let ring = self.shared.ring.subscribe();
        Subscription {
            events: self.clone(),
            ring,
            own: false,
            _listening: Some(Listening::new(&self.shared.listeners)),
        }
    }

    /// Waits until the events of all members that are up come in, at most so long. Those that don't are returned.
    pub async fn reach(&self, members: &Members, patience: Duration) -> Vec<NodeId> {
        let mut followed = self.shared.followed.subscribe();
        let lacking = |followed: &Option<BTreeSet<NodeId>>| {
            let mut up = members.others_up();
            up.retain(|id| followed.as_ref().is_none_or(|followed| !followed.contains(id)));
            up
        };
        let whole = followed.wait_for(|followed| followed.is_some() && lacking(followed).is_empty());
        // The sender lives as long as this handle.
        let _ = timeout(patience, whole).await.map(drop);
        let now = followed.borrow();
        lacking(&now)
    }

    /// What this node has to tell others: it listens for another node, and for nobody else.
    pub(super) fn own(&self) -> Subscription {
        Subscription { events: self.clone(), ring: self.shared.ring.subscribe(), own: true, _listening: None }
    }

    /// Puts another node's event into the ring.
    pub(super) fn pass_on(&self, event: Event) {
        // Without a reader it is nobody's.
        let _ = self.shared.ring.send(Arc::new(event));
    }

    /// Wakes its holder when somebody listens, or nobody any more.
    pub(super) fn listeners(&self) -> watch::Receiver<usize> {
        self.shared.listeners.subscribe()
    }

    /// Whether other nodes' events are wanted.
    pub(super) fn wanted(&self, wanted: bool) {
        self.shared.followed.send_replace(wanted.then(BTreeSet::new));
    }

    /// This node's events come in until that is dropped.
    pub(super) fn comes_in(&self, node: NodeId) -> ComesIn {
        self.shared.followed.send_modify(|followed| {
            followed.get_or_insert_default().insert(node);
        });
        ComesIn { events: self.clone(), node }
    }
}

/// A node whose events come in.
pub(super) struct ComesIn {
    events: Events,
    node: NodeId,
}

impl Drop for ComesIn {
    fn drop(&mut self) {
        let node = self.node;
        self.events.shared.followed.send_modify(|followed| {
            if let Some(followed) = followed {
                followed.remove(&node);
            }
        });
    }
}

/// Somebody who listens to the whole swarm.
struct Listening(watch::Sender<usize>);

impl Listening {
    fn new(listeners: &watch::Sender<usize>) -> Listening {
        listeners.send_modify(|n| *n += 1);
        Listening(listeners.clone())
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n -= 1);
    }
}

/// One reader's place in the ring. It holds no event: what it doesn't read in time is lost to it.
pub struct Subscription {
    events: Events,
    ring: broadcast::Receiver<Arc<Event>>,
    /// Only what is to be told to another node.
    own: bool,
    _listening: Option<Listening>,
}

/// What a reader hears.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// An event.
    Event(Arc<Event>),
    /// It was too slow: so many are lost to it.
    Missed(u64),
}

impl Subscription {
    /// The next event, however long that takes. May be given up at any time: nothing is lost by that.
    pub async fn next(&mut self) -> Heard {
        let me = self.events.shared.me;
        loop {
            match self.ring.recv().await {
                Ok(event) if self.own && (event.node != me || event.what.is_seen_by_each()) => {}
                Ok(event) => return Heard::Event(event),
                Err(broadcast::error::RecvError::Lagged(count)) => return Heard::Missed(count),
                // Its other end is in `self.events`.
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }

    /// The same, with what was missed as an event.
    pub(super) async fn told(&mut self) -> Arc<Event> {
        match self.next().await {
            Heard::Event(event) => event,
            Heard::Missed(count) => {
                let Shared { me, env, .. } = &*self.events.shared;
                let what = What::Missed(Missed { from: *me, count: Some(count) });
                Arc::new(Event { at_ms: env.now_ms(), node: *me, what })
            }
        }
    }
}
