//! The way between two nodes: while somebody listens here, every other member that is up tells what happens there, each on
//! a stream of its own.

use super::{
    Event, Message, NAME,
    bus::Subscription,
    messages::FollowError,
    sight::Sight,
    what::{Missed, What},
};
use crate::Context;
use skep_runtime::{
    Error, NodeId, Stream, Tasks, Ticket, Wire, bulk,
    defaults::{ASK_TIMEOUT, TICKET_TIMEOUT},
    frames, wire,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::{
    sync::{oneshot, watch},
    time::{sleep, timeout},
};

/// Bytes of one event on the wire: its texts are cut to 2 KiB, and no kind has more than six.
const EVENT_BYTES_MAX: usize = 16 << 10;
/// How long streams stay open when nobody listens any more: a page that is loaded again is back before.
const LINGER: Duration = Duration::from_secs(10);
/// How often the members are looked at, at most: their loads come by the second.
const LOOK_PERIOD: Duration = Duration::from_millis(500);
/// The pause before a node that doesn't tell is asked again; it doubles.
const AGAIN_PAUSE: Duration = Duration::from_millis(500);
/// The longest such pause: a node of an older version never tells.
const AGAIN_PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long a node may take to read one event before it is no longer told: its reader waits for nobody.
const READER_TIMEOUT: Duration = Duration::from_secs(10);

/// Watches the members and has the others tell, whenever somebody listens.
pub(super) async fn attend(context: Context) {
    let mut listeners = context.events.listeners();
    while listeners.wait_for(|n| *n > 0).await.is_ok() {
        context.events.wanted(true);
        tokio::select! {
            () = watch(&context) => {}
            () = deserted(&mut listeners) => {}
        }
        context.events.wanted(false);
    }
}

/// Resolves when nobody has listened for [`LINGER`].
async fn deserted(listeners: &mut watch::Receiver<usize>) {
    loop {
        // Its sender is the bus, which this task holds.
        let _ = listeners.wait_for(|n| *n == 0).await.map(drop);
        if timeout(LINGER, listeners.wait_for(|n| *n > 0)).await.is_err() {
            return;
        }
    }
}

async fn watch(context: &Context) {
    let mut changes = context.members.changes();
    let mut sight = Sight::new(&changes.borrow());
    let mut followed: BTreeMap<NodeId, Tasks> = BTreeMap::new();
    let mut before: BTreeSet<NodeId> = BTreeSet::new();
    loop {
        let picture = changes.borrow_and_update().clone();
        for what in sight.look(&picture) {
            context.events.publish(|| what);
        }
        let up: BTreeSet<NodeId> = context.members.others_up().into_iter().collect();
        followed.retain(|id, _| up.contains(id));
        for id in up {
            followed.entry(id).or_insert_with(|| {
                let tasks = context.env.tasks();
                tasks.spawn(follow(context.clone(), id, !before.insert(id)));
                tasks
            });
        }
        sleep(LOOK_PERIOD).await;
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Has one node tell, for as long as it is wanted. `heard`: it was told of before, and a part of it is lost.
async fn follow(context: Context, node: NodeId, mut heard: bool) {
    let mut pause = AGAIN_PAUSE;
    loop {
        let ended = listen(&context, node, &mut heard, &mut pause).await;
        tracing::debug!(node = ?node, ?ended, "another node's events don't come in");
        sleep(pause).await;
        pause = (pause * 2).min(AGAIN_PAUSE_MAX);
    }
}

async fn listen(context: &Context, node: NodeId, heard: &mut bool, pause: &mut Duration) -> Result<(), FollowError> {
    let (me, events) = (context.directory.id(), &context.events);
    let expected = context.directory.expect(node, context.env.ticket())?;
    let asked = Wire((me, expected.ticket()));
    let there = context.directory.at::<Message>(node, NAME);
    there.ask(ASK_TIMEOUT, |reply| Message::Follow(asked, reply)).await??;
    // The writing half is held: dropping it would say that nobody listens.
    let Stream { mut reader, writer: _writer } = expected.opened().await?;
    if std::mem::replace(heard, true) {
        events.publish(|| What::Missed(Missed { from: node, count: None }));
    }
    *pause = AGAIN_PAUSE;
    let _comes_in = events.comes_in(node);
    while let Some(bytes) = frames::read_bytes(&mut reader, EVENT_BYTES_MAX).await? {
        let event: Event = wire::decode(&bytes, EVENT_BYTES_MAX)
            .map_err(|e| Error::refused(format!("an unreadable event: is that node of another version? {e}")))?;
        // Whose it is follows from whose stream it is.
        if !event.what.is_seen_by_each() {
            events.pass_on(Event { node, ..event });
        }
    }
    Ok(())
}

/// Tells another node what happens here, until it has gone or is too slow.
pub(super) async fn tell(
    context: Context,
    own: Subscription,
    (node, ticket): (NodeId, Ticket),
    opened: oneshot::Sender<Result<(), Error>>,
) {
    let stream = timeout(TICKET_TIMEOUT, context.directory.open(node, ticket)).await.unwrap_or(Err(Error::Timeout));
    let Stream { mut reader, mut writer } = match stream {
        Ok(stream) => stream,
        Err(error) => return drop(opened.send(Err(error))),
    };
    let _ = opened.send(Ok(()));
    let told = async {
        let mut own = own;
        loop {
            let bytes = wire::encode(&*own.told().await);
            if bytes.len() > EVENT_BYTES_MAX {
                tracing::warn!(bytes = bytes.len(), "an event is too large to be told to other nodes");
                continue;
            }
            match timeout(READER_TIMEOUT, frames::write_bytes(&mut writer, &bytes)).await {
                Ok(Ok(())) => {}
                failed => return failed.unwrap_or(Err(Error::Timeout)),
            }
        }
    };
    let ended: Result<(), Error> = tokio::select! {
        biased;
        () = bulk::left(&mut reader) => Ok(()),
        ended = told => ended,
    };
    tracing::debug!(node = ?node, ?ended, "another node is no longer told what happens here");
}
