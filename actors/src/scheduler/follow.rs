//! One follower of a command: its output from wherever it runs, through the owner, who knows where that is, to
//! whoever looks. Over a restart on another node the stream goes on with the new attempt's output.

use super::{
    desk::Desk,
    messages::{Ending, Message, Output, Record, State, Tap},
};
use skep_runtime::{Error, NodeId, Stream, Ticket, Wire, bulk, defaults::ASK_TIMEOUT, frames};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    time::{sleep, timeout},
};
use uuid::Uuid;

/// How long a follower may not read before it is given up.
const STALL_TIMEOUT: Duration = Duration::from_secs(600);
/// The pause before a stream that broke is opened again.
const AGAIN_PAUSE: Duration = Duration::from_millis(500);

/// Streams to `to` until the command has ended or the follower is gone, which only its own direction of the stream tells
/// while the command is quiet.
pub(super) async fn serve(desk: &Arc<Desk>, id: Uuid, to: NodeId, ticket: Ticket) -> Result<(), Error> {
    let Stream { mut reader, mut writer } = desk.context.directory.open(to, ticket).await?;
    tokio::select! {
        biased;
        served = pass_on(desk, id, &mut writer) => served,
        () = bulk::left(&mut reader) => Err(Error::NoReply),
    }
}

async fn pass_on(desk: &Desk, id: Uuid, to: &mut (impl AsyncWrite + Send + Unpin)) -> Result<(), Error> {
    let mut changes = desk.changes();
    let (mut attempt, mut sent) = (0, 0);
    loop {
        changes.mark_unchanged();
        let Some(record) = desk.state().core.get(id).cloned() else { return Err(Error::NoReply) };
        if record.attempts != attempt {
            (attempt, sent) = (record.attempts, 0);
        }
        match (record.state, record.assigned) {
            (State::Pending, _) => {}
            (State::Running, None) => {}
            (State::Running, Some(_)) if record.started_ms.is_none() => {}
            (State::Running, Some(node)) => {
                match tap(desk, &record, node, &mut sent, to).await {
                    Tapped::Ended => {
                        // The run has ended; its ending is on its way to the record.
                        while desk.state().core.is_running(id, attempt) {
                            changed(&mut changes).await?;
                        }
                    }
                    Tapped::Broke => sleep(AGAIN_PAUSE).await,
                    Tapped::FollowerGone(e) => return Err(e),
                }
                continue;
            }
            // Nobody is told of an end that could still be lost.
            _ => match desk.shown(id).await {
                Some(record) if record.state.ended() => return finish(desk, record, sent, to).await,
                _ => {}
            },
        }
        changed(&mut changes).await?;
    }
}

enum Tapped {
    Ended,
    Broke,
    FollowerGone(Error),
}

/// Passes on what the running node has, behind the first `sent` bytes.
async fn tap(
    desk: &Desk,
    record: &Record,
    node: NodeId,
    sent: &mut u64,
    to: &mut (impl AsyncWrite + Send + Unpin),
) -> Tapped {
    let directory = &desk.context.directory;
    let Ok(expected) = directory.expect(node, desk.context.env.ticket()) else { return Tapped::Broke };
    let tap =
        Tap { id: record.id, attempt: record.attempts, from: *sent, to: directory.id(), ticket: expected.ticket() };
    let answer = desk.scheduler(node).ask(ASK_TIMEOUT, |reply| Message::Tap(Wire(tap), reply)).await;
    if !matches!(answer, Ok(Ok(()))) {
        return Tapped::Broke;
    }
    let Ok(mut from) = expected.opened().await else { return Tapped::Broke };
    // A quiet command is no broken one: there is no deadline until a frame comes or the link goes.
    while let Ok(Some(frame)) = frames::read::<Output>(&mut from.reader).await {
        match &frame {
            Output::Ended(_) => return Tapped::Ended,
            Output::Bytes(bytes) => *sent += bytes.len() as u64,
            Output::Skipped(bytes) => *sent += bytes,
        }
        if let Err(e) = send(to, &frame).await {
            return Tapped::FollowerGone(e);
        }
    }
    Tapped::Broke
}

/// The rest of an ended command: from where it ran, or else what the record holds; then its ending.
async fn finish(
    desk: &Desk,
    record: Record,
    mut sent: u64,
    to: &mut (impl AsyncWrite + Send + Unpin),
) -> Result<(), Error> {
    if let Some(node) = record.assigned.filter(|_| sent < record.output_bytes)
        && let Tapped::FollowerGone(e) = tap(desk, &record, node, &mut sent, to).await
    {
        return Err(e);
    }
    if sent < record.output_bytes {
        let tail = record.output.as_bytes();
        let tail_at = record.output_bytes.saturating_sub(tail.len() as u64);
        if tail_at > sent {
            send(to, &Output::Skipped(tail_at - sent)).await?;
        }
        let known = usize::try_from(sent.saturating_sub(tail_at)).unwrap_or(tail.len()).min(tail.len());
        send(to, &Output::Bytes(tail[known..].to_vec())).await?;
    }
    let ending = Ending {
        state: record.state,
        exit_code: record.exit_code,
        error: record.error,
        output: String::new(),
        output_bytes: record.output_bytes,
        artefacts: record.artefacts,
        lost: false,
    };
    send(to, &Output::Ended(ending)).await?;
    let _ = timeout(STALL_TIMEOUT, to.shutdown()).await;
    Ok(())
}

async fn send(to: &mut (impl AsyncWrite + Send + Unpin), frame: &Output) -> Result<(), Error> {
    timeout(STALL_TIMEOUT, frames::write(to, frame)).await.unwrap_or(Err(Error::Timeout))
}

async fn changed(changes: &mut tokio::sync::watch::Receiver<u64>) -> Result<(), Error> {
    changes.changed().await.map_err(|_| Error::NoReply)
}
