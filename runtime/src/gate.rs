//! The bound in front of a published actor: ractor's mailboxes have none.
//!
//! [`Gated`] wraps the actor; each message that comes through the [`crate::Directory`] leaves a [`Slip`] in
//! arrival order, and handling a message takes the oldest one. A slip holds the sender's credit: dropping it
//! gives the credit back, to a waiting local sender or over the link. So each sender (this node, and each link)
//! has its own bound, and none of them takes the room of another.
//!
//! What an actor sends itself without the directory leaves no slip and takes somebody's: while slips wait, each such
//! message lets one more in. An actor that does so bounds what it sends itself by what it has under way.

use crate::{
    Error,
    defaults::MAILBOX_MESSAGES_MAX,
    pace::{Pace, Paced},
    trace::Trace,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::Semaphore, time::timeout};

/// What a message in the mailbox owes its sender, given back by dropping it.
pub type Credit = Box<dyn Send>;

struct Slip {
    trace: Trace,
    _credit: Credit,
}

/// The waiting room in front of one actor.
pub struct Gate {
    name: String,
    slips: Mutex<VecDeque<Slip>>,
    /// Room for senders on this node; those elsewhere hold credits of their own link.
    room: Arc<Semaphore>,
}

impl Gate {
    pub(crate) fn new(name: &str) -> Arc<Gate> {
        Arc::new(Gate {
            name: name.into(),
            slips: Mutex::default(),
            room: Arc::new(Semaphore::new(MAILBOX_MESSAGES_MAX)),
        })
    }

    /// Waits for room for a sender on this node.
    pub(crate) async fn room(&self, patience: Duration) -> Result<Credit, Error> {
        let room = timeout(patience, self.room.clone().acquire_owned());
        let room = room.await.map_err(|_| Error::Busy(self.name.clone()))?;
        Ok(Box::new(room.map_err(|_| Error::NoSuchActor(self.name.clone()))?))
    }

    /// Notes a message that enters the mailbox now.
    pub(crate) fn enter(&self, trace: Trace, credit: Credit) {
        self.slips.lock().unwrap_or_else(PoisonError::into_inner).push_back(Slip { trace, _credit: credit });
    }

    /// Gives back every credit; nothing enters any more.
    fn close(&self) {
        self.room.close();
        let slips = std::mem::take(&mut *self.slips.lock().unwrap_or_else(PoisonError::into_inner));
        drop(slips);
    }

    fn next(&self) -> Option<Slip> {
        self.slips.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// An actor behind its gate; in all else the actor itself.
pub struct Gated<A> {
    pub(crate) inner: A,
    pub(crate) gate: Arc<Gate>,
    pub(crate) pace: Option<Arc<dyn Pace>>,
}

/// A dead actor owes nobody anything: who waits for its credit is told at the next look-up that it is gone.
impl<A> Drop for Gated<A> {
    fn drop(&mut self) {
        self.gate.close();
    }
}

impl<A: Actor> Actor for Gated<A> {
    type Msg = A::Msg;
    type State = A::State;
    type Arguments = A::Arguments;

    async fn pre_start(&self, me: ActorRef<A::Msg>, args: A::Arguments) -> Result<A::State, ActorProcessingErr> {
        self.inner.pre_start(me, args).await
    }

    async fn post_start(&self, me: ActorRef<A::Msg>, state: &mut A::State) -> Result<(), ActorProcessingErr> {
        self.inner.post_start(me, state).await
    }

    async fn post_stop(&self, me: ActorRef<A::Msg>, state: &mut A::State) -> Result<(), ActorProcessingErr> {
        self.inner.post_stop(me, state).await
    }

    async fn handle(
        &self,
        me: ActorRef<A::Msg>,
        message: A::Msg,
        state: &mut A::State,
    ) -> Result<(), ActorProcessingErr> {
        // The slip lives until the message is handled: its credit is the promise of room.
        let work = async {
            match self.gate.next() {
                Some(slip) => slip.trace.scope(&self.gate.name, self.inner.handle(me, message, state)).await,
                None => self.inner.handle(me, message, state).await,
            }
        };
        match &self.pace {
            Some(pace) => Paced::new(work, pace.clone()).await,
            None => work.await,
        }
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<A::Msg>,
        event: SupervisionEvent,
        state: &mut A::State,
    ) -> Result<(), ActorProcessingErr> {
        self.inner.handle_supervisor_evt(me, event, state).await
    }
}
