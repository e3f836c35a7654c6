//! The one actor of a node that its guests call: it passes their messages on to any actor of the swarm that was
//! published for guests ([`Reach::Guests`](skep_runtime::Reach)). What it passes on is marked as a guest's, here and
//! between nodes.
//!
//! A guest packs the callee's message by its own derive and sends the bytes with an address; nobody on the way needs
//! the callee's types. The fields are plain strings, numbers and bytes, so that a guest needs no crate of ours.

use crate::defaults::GATEWAY_ASKS_MAX;
use ractor::{Actor, ActorProcessingErr, ActorRef, BytesConvertable, RpcReplyPort, pg};
use ractor_cluster::RactorClusterMessage;
use skep_runtime::{
    Directory, Envelope, Error, Members, NodeId,
    defaults::{ASK_TIMEOUT_MAX, MESSAGE_BYTES_MAX, NAME_CHARS_MAX},
    tasks::Spawner,
    trace::Trace,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// The process groups' scope in which a guest finds the gateway; the group is the node's id.
pub const GATEWAY: &str = "skep/gateway";

/// The actor behind [`GATEWAY`].
pub(super) struct Gateway;

/// What a guest may ask of its node. `node` is a node's id as text; `variant` and `args` are a message as
/// `Message::serialize` of ractor packs it.
#[derive(RactorClusterMessage)]
pub enum Message {
    /// Asks the actor `name` on `node`, at most for `deadline_ms`. The answer's bytes are the reply's own.
    #[rpc]
    Ask {
        /// Where.
        node: String,
        /// Whom.
        name: String,
        /// The message's variant.
        variant: String,
        /// Its arguments.
        args: Vec<u8>,
        /// How long the guest waits, in milliseconds; capped at five minutes.
        deadline_ms: u64,
        /// The answer, or why there is none.
        reply: RpcReplyPort<Answer>,
    },
    /// Tells the actor `name` on `node`. Answered, with no bytes, once it is taken for delivery.
    #[rpc]
    Tell {
        /// Where.
        node: String,
        /// Whom.
        name: String,
        /// The message's variant.
        variant: String,
        /// Its arguments.
        args: Vec<u8>,
        /// Whether it was taken.
        reply: RpcReplyPort<Answer>,
    },
    /// The nodes that are up: a line each, the id, a space, the name.
    #[rpc]
    Nodes(RpcReplyPort<String>),
}

/// What became of a guest's message. As bytes: one that says how it went, then the answer or a text for people.
///
/// 0 an answer; 1 no such actor; 2 it ended without an answer; 3 the deadline passed; 4 busy, try again later;
/// 5 the link is down; 6 too large; 7 refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer(pub Result<Vec<u8>, (u8, String)>);

impl BytesConvertable for Answer {
    fn into_bytes(self) -> Vec<u8> {
        let (code, rest) = match self.0 {
            Ok(bytes) => (0, bytes),
            Err((code, why)) => (code, why.into_bytes()),
        };
        let mut bytes = Vec::with_capacity(1 + rest.len());
        bytes.push(code);
        bytes.extend(rest);
        bytes
    }

    fn from_bytes(mut bytes: Vec<u8>) -> Answer {
        match bytes.first() {
            Some(0) => Answer(Ok(bytes.split_off(1))),
            Some(&code) => Answer(Err((code, String::from_utf8_lossy(&bytes[1..]).into_owned()))),
            None => Answer(Err((2, "the answer is empty".into()))),
        }
    }
}

impl From<Error> for Answer {
    fn from(error: Error) -> Answer {
        let code = match error {
            Error::NoSuchActor(_) => 1,
            Error::NoReply => 2,
            Error::Timeout => 3,
            Error::Busy(_) => 4,
            Error::LinkDown(_) => 5,
            Error::TooLarge { .. } => 6,
            _ => 7,
        };
        Answer(Err((code, error.to_string())))
    }
}

/// What it needs of its node.
#[derive(Clone)]
pub(super) struct Setup {
    pub(super) directory: Directory,
    pub(super) members: Members,
    pub(super) spawner: Spawner,
}

pub(super) struct State {
    node: Setup,
    room: Arc<Semaphore>,
}

impl Actor for Gateway {
    type Msg = Message;
    type State = State;
    type Arguments = Setup;

    async fn pre_start(&self, me: ActorRef<Message>, node: Setup) -> Result<State, ActorProcessingErr> {
        pg::join_scoped(GATEWAY.into(), node.directory.id().to_string(), vec![me.get_cell()]);
        Ok(State { node, room: Arc::new(Semaphore::new(GATEWAY_ASKS_MAX)) })
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let (node, call, reply) = match message {
            Message::Ask { node, name, variant, args, deadline_ms, reply } => {
                let deadline = Duration::from_millis(deadline_ms).min(ASK_TIMEOUT_MAX);
                (node, envelope(name, variant, args, Some(deadline)), reply)
            }
            Message::Tell { node, name, variant, args, reply } => (node, envelope(name, variant, args, None), reply),
            Message::Nodes(reply) => {
                let up = state.node.members.up();
                let _ = reply.send(up.iter().map(|m| format!("{} {}\n", m.id, m.name)).collect());
                return Ok(());
            }
        };
        let Ok(room) = state.room.clone().try_acquire_owned() else {
            let _ = reply.send(Error::Busy("gateway".into()).into());
            return Ok(());
        };
        let directory = state.node.directory.clone();
        state.node.spawner.spawn(async move {
            let answer = forward(&directory, &node, call).await;
            // A guest that has gone, or doesn't wait any more, is no failure of ours.
            let _ = reply.send(answer.map_or_else(Answer::from, |bytes| Answer(Ok(bytes))));
            drop(room);
        });
        Ok(())
    }
}

fn envelope(to: String, kind: String, body: Vec<u8>, deadline: Option<Duration>) -> Envelope {
    Envelope { to, kind, deadline, trace: Trace::current(), guest: true, body }
}

async fn forward(directory: &Directory, node: &str, call: Envelope) -> Result<Vec<u8>, Error> {
    let node: NodeId = node.parse().map_err(|_| Error::refused("not a node's id: ask the gateway for the nodes"))?;
    if call.to.len() > NAME_CHARS_MAX || call.kind.len() > NAME_CHARS_MAX {
        return Err(Error::refused(format!("names and variants have at most {NAME_CHARS_MAX} characters")));
    }
    if call.body.len() > MESSAGE_BYTES_MAX {
        return Err(Error::TooLarge { bytes: call.body.len(), max: MESSAGE_BYTES_MAX });
    }
    Ok(directory.forward(node, call).await?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_back_as_it_was_packed() {
        let refused = Answer::from(Error::refused("no"));
        for answer in [Answer(Ok(vec![])), Answer(Ok(vec![0, 1, 2])), refused] {
            assert_eq!(Answer::from_bytes(answer.clone().into_bytes()), answer);
        }
        assert!(Answer::from_bytes(vec![]).0.is_err());
        assert!(Answer::from_bytes(vec![9, 0xff]).0.is_err());
    }
}
