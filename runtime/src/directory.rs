//! One node's map from name to actor, and the fork in the road: here, or over the [`Carrier`].
//!
//! The map belongs to the node, never to the process: ractor's registry and groups are process globals, and a
//! hundred nodes live in one process in simulation.

use crate::{
    Carrier, Envelope, Error, Handle, NodeId,
    bulk::Tickets,
    defaults::{ASK_TIMEOUT_MAX, NAME_CHARS_MAX, TELL_TIMEOUT},
    gate::{Credit, Gate, Gated},
    pace::Pace,
    trace::Trace,
};
use ractor::{Actor, ActorCell, ActorRef, ActorStatus, Message, RpcReplyPort, SpawnErr, message::SerializedMessage};
use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Duration,
};
use tokio::sync::oneshot;

/// The actors that live on this node, and the way to those that don't. Cheap to clone.
#[derive(Clone)]
pub struct Directory {
    inner: Arc<Inner>,
}

struct Inner {
    id: NodeId,
    actors: RwLock<BTreeMap<String, Published>>,
    carrier: OnceLock<Arc<dyn Carrier>>,
    tickets: Tickets,
    pace: Option<Arc<dyn Pace>>,
}

#[derive(Clone)]
struct Published {
    cell: ActorCell,
    gate: Arc<Gate>,
    reach: Reach,
    /// Decodes into the actor's own message type, so that foreign bytes never reach its gate or its mailbox.
    deliver: fn(&Published, Trace, Credit, SerializedMessage) -> Result<(), Error>,
}

/// An actor that lives here: its mailbox, and the gate to pass first.
pub(crate) type Local<M> = (ActorRef<M>, Arc<Gate>);

/// Which of an actor's messages other nodes may send; this node's own actors may send all of them. Guests, of this node
/// or of another, may send none, unless the actor was published for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All, and guests may too: they know the cookie of their node, and no token of the owner's.
    Guests,
    /// All: every member of the swarm is trusted with it.
    Everything,
    /// Only these variants, by name; the others are for this node's owner.
    Only(&'static [&'static str]),
    /// None: the actor is for this node alone.
    Nothing,
}

impl Reach {
    /// Whether a message of this kind may come in, from a guest or from another node; else why not.
    fn admits(self, kind: &str, guest: bool) -> Result<(), Error> {
        let passes = match self {
            Reach::Guests => return Ok(()),
            _ if guest => return Err(Error::refused("guests may not ask this actor: it was not published for them")),
            Reach::Everything => true,
            Reach::Only(kinds) => kinds.contains(&kind),
            Reach::Nothing => false,
        };
        if passes { Ok(()) } else { Err(Error::refused("only that node's owner may ask this")) }
    }
}

/// A message that has entered a mailbox here on behalf of another node.
pub enum Arrived {
    /// Nobody waits for an answer.
    Told,
    /// The answer comes here, or the sender is dropped without one.
    Asked(oneshot::Receiver<Vec<u8>>, Duration),
}

impl Arrived {
    /// The answer to send back; `None` for a tell.
    pub async fn reply(self) -> Option<Result<Vec<u8>, Error>> {
        match self {
            Arrived::Told => None,
            Arrived::Asked(answer, deadline) => Some(match tokio::time::timeout(deadline, answer).await {
                Ok(Ok(bytes)) => Ok(bytes),
                Ok(Err(_)) => Err(Error::NoReply),
                Err(_) => Err(Error::Timeout),
            }),
        }
    }
}

impl Directory {
    /// The empty map of node `id`.
    pub fn new(id: NodeId) -> Directory {
        Directory::paced(id, None)
    }

    /// The same for a node whose actors work at the pace of a simulated machine.
    pub fn paced(id: NodeId, pace: Option<Arc<dyn Pace>>) -> Directory {
        let (actors, carrier, tickets) = (RwLock::default(), OnceLock::new(), Tickets::default());
        Directory { inner: Arc::new(Inner { id, actors, carrier, tickets, pace }) }
    }

    /// Whose map this is.
    pub fn id(&self) -> NodeId {
        self.inner.id
    }

    /// Connects the map to other nodes, once; before that every other node is [`Error::LinkDown`].
    pub fn connect(&self, carrier: Arc<dyn Carrier>) {
        assert!(self.inner.carrier.set(carrier).is_ok(), "a directory is connected once");
    }

    /// The actor `name` on `node`, by messages of type `M`. Nothing is looked up until it is used, so a handle
    /// survives restarts and reconnects.
    pub fn at<M: Message>(&self, node: NodeId, name: impl Into<String>) -> Handle<M> {
        Handle::new(self.clone(), node, name.into())
    }

    /// The actor `name` on this node.
    pub fn here<M: Message>(&self, name: impl Into<String>) -> Handle<M> {
        self.at(self.inner.id, name)
    }

    /// Starts an actor under `supervisor` and publishes it as `name`, replacing a dead one of that name.
    /// Every member of the swarm may send it messages of its type; guests may not.
    pub async fn spawn<A: Actor>(
        &self,
        name: &str,
        actor: A,
        args: A::Arguments,
        supervisor: Option<ActorCell>,
    ) -> Result<ActorRef<A::Msg>, SpawnErr> {
        self.spawn_within(Reach::Everything, name, actor, args, supervisor).await
    }

    /// The same, with a limit on what other nodes may send it.
    pub async fn spawn_within<A: Actor>(
        &self,
        reach: Reach,
        name: &str,
        actor: A,
        args: A::Arguments,
        supervisor: Option<ActorCell>,
    ) -> Result<ActorRef<A::Msg>, SpawnErr> {
        assert!(name.len() <= NAME_CHARS_MAX, "actor names are ours, and short");
        let gate = Gate::new(name);
        let gated = Gated { inner: actor, gate: gate.clone(), pace: self.inner.pace.clone() };
        let (actor, _) = match supervisor {
            Some(parent) => Actor::spawn_linked(None, gated, args, parent).await?,
            None => Actor::spawn(None, gated, args).await?,
        };
        self.insert(name, Published { cell: actor.get_cell(), gate, reach, deliver: decoded::<A::Msg> });
        Ok(actor)
    }

    /// The names published here, in order.
    pub fn names(&self) -> Vec<String> {
        let actors = self.inner.actors.read().unwrap_or_else(PoisonError::into_inner);
        actors.iter().filter(|(_, p)| alive(&p.cell)).map(|(name, _)| name.clone()).collect()
    }

    /// Puts another node's message into the mailbox it is for, in the order of the calls of this method.
    /// `credit` is dropped once the actor has handled it, or at once when this fails, which delivers nothing. There is
    /// no other bound: who calls this bounds the credits that it has out for one actor.
    pub fn accept(&self, envelope: Envelope, credit: Credit) -> Result<Arrived, Error> {
        let Envelope { to, kind, deadline, trace, guest, body } = envelope;
        let published = self.find(&to).ok_or(Error::NoSuchActor(to))?;
        published.reach.admits(&kind, guest)?;
        let Some(deadline) = deadline else {
            let message = SerializedMessage::Cast { variant: kind, args: body, metadata: None };
            (published.deliver)(&published, trace, credit, message)?;
            return Ok(Arrived::Told);
        };
        let deadline = deadline.min(ASK_TIMEOUT_MAX);
        let (reply, answer) = oneshot::channel();
        let reply = RpcReplyPort::from((reply, deadline));
        let message = SerializedMessage::Call { variant: kind, args: body, reply, metadata: None };
        (published.deliver)(&published, trace, credit, message)?;
        Ok(Arrived::Asked(answer, deadline))
    }

    /// Passes on a message whose type this program doesn't know (a guest's), here or over the carrier. The answer's
    /// bytes for a question, `None` for a tell.
    pub async fn forward(&self, node: NodeId, envelope: Envelope) -> Result<Option<Vec<u8>>, Error> {
        if node == self.id() {
            let gate = self.find(&envelope.to).ok_or_else(|| Error::NoSuchActor(envelope.to.clone()))?.gate;
            let room = gate.room(envelope.deadline.unwrap_or(TELL_TIMEOUT).min(ASK_TIMEOUT_MAX)).await?;
            return self.accept(envelope, room)?.reply().await.transpose();
        }
        let carrier = self.carrier(node)?.clone();
        match envelope.deadline {
            Some(_) => carrier.ask(node, envelope).await.map(Some),
            None => carrier.tell(node, envelope).await.map(|()| None),
        }
    }

    pub(crate) fn tickets(&self) -> &Tickets {
        &self.inner.tickets
    }

    pub(crate) fn carrier(&self, node: NodeId) -> Result<&Arc<dyn Carrier>, Error> {
        self.inner.carrier.get().ok_or(Error::LinkDown(node))
    }

    /// A local target: its mailbox, and the gate to pass first. `None` if its messages are of another type.
    pub(crate) fn local<M: Message>(&self, name: &str) -> Result<Option<Local<M>>, Error> {
        let published = self.find(name).ok_or_else(|| Error::NoSuchActor(name.into()))?;
        let typed = published.cell.is_message_type_of::<M>() != Some(false);
        Ok(typed.then(|| (published.cell.into(), published.gate)))
    }

    fn insert(&self, name: &str, published: Published) {
        let mut actors = self.inner.actors.write().unwrap_or_else(PoisonError::into_inner);
        // Names of the dead (finished tasks, ended shards) go when the next one comes.
        actors.retain(|_, p| alive(&p.cell));
        actors.insert(name.into(), published);
    }

    fn find(&self, name: &str) -> Option<Published> {
        let actors = self.inner.actors.read().unwrap_or_else(PoisonError::into_inner);
        actors.get(name).filter(|p| alive(&p.cell)).cloned()
    }
}

fn alive(cell: &ActorCell) -> bool {
    cell.get_status() <= ActorStatus::Running
}

fn decoded<M: Message>(to: &Published, trace: Trace, credit: Credit, message: SerializedMessage) -> Result<(), Error> {
    // First: what is refused leaves no slip, which nothing would ever take.
    let message = M::deserialize(message)
        .map_err(|_| Error::refused("the message is not one of this actor's: is the other node of another version?"))?;
    to.gate.enter(trace, credit);
    ActorRef::<M>::from(to.cell.clone()).cast(message).map_err(|_| Error::NoReply)
}
