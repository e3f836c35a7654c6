//! How one actor reaches another: the same call whether it lives here or on another node.

use crate::{
    Directory, Envelope, Error, NodeId, Wire,
    defaults::{ASK_TIMEOUT_MAX, MESSAGE_BYTES_MAX, TELL_TIMEOUT},
    directory::Local,
    gate::Gate,
    trace::Trace,
    wire,
};
use ractor::{ActorRef, Message, RpcReplyPort, message::SerializedMessage};
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};
use tokio::{sync::oneshot, time::timeout};

/// An actor by node and name, for messages of type `M`. Holds no connection: it outlives restarts on either side.
pub struct Handle<M> {
    directory: Directory,
    node: NodeId,
    name: Arc<str>,
    messages: PhantomData<fn(M)>,
}

impl<M> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Handle { directory: self.directory.clone(), node: self.node, name: self.name.clone(), messages: PhantomData }
    }
}

impl<M> fmt::Debug for Handle<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{:?}", self.name, self.node)
    }
}

impl<M: Message> Handle<M> {
    pub(crate) fn new(directory: Directory, node: NodeId, name: String) -> Handle<M> {
        Handle { directory, node, name: name.into(), messages: PhantomData }
    }

    /// Where the actor lives.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Its published name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends `message`; ready when the mailbox or the link has room for it. `Ok` says that it was taken for
    /// delivery, in order with what this sender sent before, not that it was handled.
    pub async fn tell(&self, message: M) -> Result<(), Error> {
        if let Some((actor, gate)) = self.typed()? {
            return self.enter(&actor, &gate, message, TELL_TIMEOUT).await;
        }
        let SerializedMessage::Cast { variant, args, .. } = message.serialize().map_err(|_| not_remote())? else {
            return Err(Error::refused("a question was told, not asked"));
        };
        self.directory.forward(self.node, self.envelope(variant, args, None)?).await.map(drop)
    }

    /// Sends the message that `make` builds around the port for the answer, and waits for it, at most `deadline`
    /// (capped at [`ASK_TIMEOUT_MAX`]).
    pub async fn ask<T>(&self, deadline: Duration, make: impl FnOnce(RpcReplyPort<Wire<T>>) -> M) -> Result<T, Error>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        let deadline = deadline.min(ASK_TIMEOUT_MAX);
        let (port, answer) = oneshot::channel();
        let message = make(RpcReplyPort::from((port, deadline)));
        if let Some((actor, gate)) = self.typed()? {
            let exchange = async {
                self.enter(&actor, &gate, message, deadline).await?;
                answer.await.map(|Wire(reply)| reply).map_err(|_| Error::NoReply)
            };
            return timeout(deadline, exchange).await.unwrap_or(Err(Error::Timeout));
        }
        // The typed port ends here: the answer comes back as bytes and is decoded below, where it can be refused.
        drop(answer);
        let SerializedMessage::Call { variant, args, .. } = message.serialize().map_err(|_| not_remote())? else {
            return Err(Error::refused("a message without an answer was asked, not told"));
        };
        // The carrier keeps the deadline: a second timer here would race it and hide why.
        let envelope = self.envelope(variant, args, Some(deadline))?;
        let bytes = self.directory.forward(self.node, envelope).await?.unwrap_or_default();
        wire::decode(&bytes, MESSAGE_BYTES_MAX).map_err(|e| Error::refused(format!("the answer is not readable: {e}")))
    }

    /// The actor itself, if it lives here and takes `M` as it is. A guest's actor lives here too, but behind its
    /// door it takes bytes.
    fn typed(&self) -> Result<Option<Local<M>>, Error> {
        if self.node == self.directory.id() { self.directory.local(&self.name) } else { Ok(None) }
    }

    async fn enter(&self, actor: &ActorRef<M>, gate: &Gate, message: M, patience: Duration) -> Result<(), Error> {
        let credit = gate.room(patience).await?;
        gate.enter(Trace::current(), credit);
        actor.cast(message).map_err(|_| Error::NoSuchActor(self.name.to_string()))
    }

    fn envelope(&self, kind: String, body: Vec<u8>, deadline: Option<Duration>) -> Result<Envelope, Error> {
        if body.len() > MESSAGE_BYTES_MAX {
            return Err(Error::TooLarge { bytes: body.len(), max: MESSAGE_BYTES_MAX });
        }
        Ok(Envelope { to: self.name.to_string(), kind, deadline, trace: Trace::current(), guest: false, body })
    }
}

fn not_remote() -> Error {
    Error::refused("this message can't leave its node")
}
