//! One call, wherever the actor lives: answers, silence, full mailboxes, foreign bytes, what stays on the node.

#![allow(clippy::unwrap_used, reason = "a failed test panics and says where")]

use futures::future::{BoxFuture, FutureExt};
use ractor::{Actor, ActorProcessingErr, ActorRef, Message as _, RpcReplyPort, message::SerializedMessage};
use ractor_cluster_derive::RactorClusterMessage;
use skep_runtime::{
    Carrier, Directory, Envelope, Error, NodeId, Reach, Stream, Ticket, Wire, defaults::MAILBOX_MESSAGES_MAX,
    trace::Trace,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::{Notify, oneshot};

/// Answers, or doesn't.
struct Teller;

#[derive(RactorClusterMessage)]
enum Message {
    #[rpc]
    Double(Wire<u32>, RpcReplyPort<Wire<u32>>),
    #[rpc]
    Forget(RpcReplyPort<Wire<u32>>),
    #[rpc]
    Owner(RpcReplyPort<Wire<u32>>),
    Hold,
}

impl Actor for Teller {
    type Msg = Message;
    type State = Arc<Notify>;
    type Arguments = Arc<Notify>;

    async fn pre_start(&self, _: ActorRef<Message>, go: Arc<Notify>) -> Result<Arc<Notify>, ActorProcessingErr> {
        Ok(go)
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        go: &mut Arc<Notify>,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Double(Wire(n), reply) => drop(reply.send(Wire(n * 2))),
            Message::Forget(reply) => drop(reply),
            Message::Owner(reply) => drop(reply.send(Wire(1))),
            Message::Hold => go.notified().await,
        }
        Ok(())
    }
}

/// Carries to one other directory in the same process.
struct Next(Directory);

impl Carrier for Next {
    fn tell(&self, _: NodeId, envelope: Envelope) -> BoxFuture<'_, Result<(), Error>> {
        async { self.0.accept(envelope, Box::new(())).map(drop) }.boxed()
    }

    fn ask(&self, _: NodeId, envelope: Envelope) -> BoxFuture<'_, Result<Vec<u8>, Error>> {
        async { self.0.accept(envelope, Box::new(()))?.reply().await.expect("it was asked") }.boxed()
    }

    fn open(&self, _: NodeId, _: Ticket) -> BoxFuture<'_, Result<Stream, Error>> {
        async { Err(Error::refused("not in this test")) }.boxed()
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// Two nodes; the actor lives on the second. Handles to it from there and from the first.
async fn pair() -> (Directory, Directory, Arc<Notify>) {
    let [near, far] = [1, 2].map(|n| Directory::new(NodeId::from_bytes([n; 32])));
    near.connect(Arc::new(Next(far.clone())));
    let go = Arc::new(Notify::new());
    let reach = Reach::Only(&["Double", "Forget", "Hold"]);
    far.spawn_within(reach, "teller", Teller, go.clone(), None).await.unwrap();
    (near, far, go)
}

#[tokio::test(start_paused = true)]
async fn the_same_call_is_answered_here_and_elsewhere() {
    let (near, far, _) = pair().await;
    for directory in [&near, &far] {
        let teller = directory.at::<Message>(far.id(), "teller");
        assert_eq!(teller.ask(SECOND, |to| Message::Double(Wire(21), to)).await, Ok(42));
        assert_eq!(teller.ask(SECOND, Message::Forget).await, Err(Error::NoReply));
        let nobody = directory.at::<Message>(far.id(), "nobody");
        assert_eq!(nobody.ask(SECOND, Message::Forget).await, Err(Error::NoSuchActor("nobody".into())));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_the_owners_is_refused_from_elsewhere() {
    let (near, far, _) = pair().await;
    assert_eq!(far.here::<Message>("teller").ask(SECOND, Message::Owner).await, Ok(1));
    let from_afar = near.at::<Message>(far.id(), "teller").ask(SECOND, Message::Owner).await;
    assert!(matches!(from_afar, Err(Error::Refused(_))), "{from_afar:?}");
}

#[tokio::test(start_paused = true)]
async fn a_guest_reaches_what_was_published_for_guests_and_nothing_else_here_and_elsewhere() {
    let (near, far, go) = pair().await;
    far.spawn("everyone's", Teller, go.clone(), None).await.unwrap();
    far.spawn_within(Reach::Guests, "guests'", Teller, go, None).await.unwrap();
    for directory in [&near, &far] {
        let double = async |to: &str| {
            let (port, _) = oneshot::channel();
            let Ok(SerializedMessage::Call { variant: kind, args: body, .. }) =
                Message::Double(Wire(21), port.into()).serialize()
            else {
                unreachable!("it is a question")
            };
            let (deadline, trace) = (Some(SECOND), Trace::default());
            directory.forward(far.id(), Envelope { to: to.into(), kind, deadline, trace, guest: true, body }).await
        };
        assert!(double("guests'").await.is_ok());
        for owners in ["teller", "everyone's"] {
            let refused = double(owners).await.unwrap_err().to_string();
            assert!(refused.contains("guests may not ask"), "{owners}: {refused}");
        }
        let member = directory.at::<Message>(far.id(), "everyone's");
        assert_eq!(member.ask(SECOND, |to| Message::Double(Wire(21), to)).await, Ok(42));
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_mailbox_makes_senders_wait_and_then_says_busy() {
    let (_, far, go) = pair().await;
    let teller = far.here::<Message>("teller");
    for _ in 0..MAILBOX_MESSAGES_MAX {
        teller.tell(Message::Hold).await.unwrap();
    }
    assert_eq!(teller.tell(Message::Hold).await, Err(Error::Busy("teller".into())));
    // One handled message is room for one more.
    go.notify_one();
    assert_eq!(teller.tell(Message::Hold).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn foreign_bytes_are_refused_and_the_actor_lives() {
    let (_, far, _) = pair().await;
    for (kind, body) in [
        ("Double", vec![9; 3]),
        ("Double", vec![0, 0, 0, 0, 0, 0, 0, 1, 0xff]),
        ("Nonsense", vec![]),
        ("Hold", vec![1]),
    ] {
        let deadline = (kind != "Hold").then_some(SECOND);
        let envelope =
            Envelope { to: "teller".into(), kind: kind.into(), deadline, trace: Trace::default(), guest: false, body };
        assert!(matches!(far.accept(envelope, Box::new(())), Err(Error::Refused(_))), "{kind}");
    }
    assert_eq!(far.here::<Message>("teller").ask(SECOND, |to| Message::Double(Wire(1), to)).await, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_takes_no_room_from_anybody() {
    let (near, far, _) = pair().await;
    for _ in 0..3 * MAILBOX_MESSAGES_MAX {
        let envelope = Envelope {
            to: "teller".into(),
            kind: "Hold".into(),
            deadline: None,
            trace: Trace::default(),
            guest: false,
            body: vec![1],
        };
        assert!(matches!(far.accept(envelope, Box::new(())), Err(Error::Refused(_))));
    }
    for directory in [&near, &far] {
        let teller = directory.at::<Message>(far.id(), "teller");
        assert_eq!(teller.ask(SECOND, |to| Message::Double(Wire(21), to)).await, Ok(42));
    }
}

#[tokio::test(start_paused = true)]
async fn senders_elsewhere_do_not_take_the_room_of_those_here() {
    let (_, far, _) = pair().await;
    for _ in 0..3 * MAILBOX_MESSAGES_MAX {
        let hold = Envelope {
            to: "teller".into(),
            kind: "Hold".into(),
            deadline: None,
            trace: Trace::default(),
            guest: false,
            body: vec![],
        };
        assert!(far.accept(hold, Box::new(())).is_ok(), "what was told is not dropped: its link bounds it");
    }
    assert_eq!(far.here::<Message>("teller").tell(Message::Hold).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_opened_once_by_whom_it_was_promised() {
    let (near, far, _) = pair().await;
    let ticket = Ticket([7; 16]);
    let expected = far.expect(far.id(), ticket).unwrap();
    let stranger = far.arrived(near.id(), ticket, empty());
    assert!(matches!(stranger, Err(Error::Refused(_))));
    let opened = far.open(far.id(), ticket).await;
    assert!(opened.is_ok() && expected.opened().await.is_ok());
    assert!(matches!(far.open(far.id(), ticket).await, Err(Error::Refused(_))), "a ticket is used once");
}

fn empty() -> Stream {
    Stream { reader: Box::new(tokio::io::empty()), writer: Box::new(tokio::io::sink()) }
}
