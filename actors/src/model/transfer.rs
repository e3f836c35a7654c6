//! Files between nodes: raw bytes from an offset over a bulk stream, checked by digest at the end.
//!
//! The digest names the content, so that a part is always of the same file and a cut transfer goes on from its end,
//! also from another node.

use super::{
    NAME,
    messages::{Message, Model, ModelError},
    part::Claim,
    shelf::{Shelf, disk},
};
use crate::{Context, node::Card};
use skep_runtime::{
    NodeId, Ticket, Wire,
    defaults::{ASK_TIMEOUT, MESSAGE_BYTES_MAX},
    wire,
};
use std::{io::SeekFrom, time::Duration};
use tokio::{
    fs::{File, OpenOptions},
    io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt},
    time::{sleep, timeout},
};

/// How long either side may leave the stream alone.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);
/// Cut streams in a row that brought nothing before it is given up.
const TRIES_MAX: u32 = 5;
/// The pause before the next try: a node that went away may be back, or be known to be down.
const TRY_PAUSE: Duration = Duration::from_secs(1);
/// Bytes read from the disk or the stream at a time.
const PIECE_BYTES: usize = 256 << 10;

/// Begins to send the file with this digest from `offset`; gives its whole length.
pub(super) async fn send(
    context: &Context,
    shelf: &Shelf,
    (digest, offset, to, ticket): (String, u64, NodeId, Ticket),
) -> Result<u64, ModelError> {
    let known = shelf.seek(|model| model.digest == digest).await.ok_or(ModelError::NoSuchModel(digest))?;
    let mut file = File::open(&known.path).await.map_err(|e| disk(&e))?;
    file.seek(SeekFrom::Start(offset)).await.map_err(|e| disk(&e))?;
    let directory = context.directory.clone();
    context.tasks.spawn(async move {
        let Ok(mut stream) = directory.open(to, ticket).await else { return };
        let mut piece = vec![0; PIECE_BYTES];
        while let Ok(read @ 1..) = file.read(&mut piece).await {
            if !matches!(timeout(SILENCE_TIMEOUT, stream.writer.write_all(&piece[..read])).await, Ok(Ok(()))) {
                return;
            }
        }
        let _ = timeout(SILENCE_TIMEOUT, stream.writer.shutdown()).await;
    });
    Ok(known.model.bytes)
}

/// Fetches the file with this digest from `source` and shelves it as a model called `name`, if the name is free.
pub(super) async fn receive(
    context: &Context,
    shelf: &Shelf,
    digest: &str,
    name: &str,
    source: NodeId,
) -> Result<Model, ModelError> {
    if !crate::digest::is_sha256(digest) {
        return Err(ModelError::NoSuchModel(digest.chars().take(64).collect()));
    }
    let (part, claim) = (shelf.part(&format!("from-{digest}"))?, Claim::new(shelf));
    let (mut tries, mut from) = (0, source);
    loop {
        let begun = tokio::fs::metadata(part.path()).await.map_or(0, |data| data.len());
        let received = piecewise(context, &claim, digest, part.path(), begun, from).await;
        let now = tokio::fs::metadata(part.path()).await.map_or(0, |data| data.len());
        match received {
            Ok(()) => break,
            Err(ModelError::Fetch(_) | ModelError::Link(_) | ModelError::NoSuchModel(_))
                if now > begun || tries + 1 < TRIES_MAX =>
            {
                tries = if now > begun { 0 } else { tries + 1 };
                sleep(TRY_PAUSE).await;
                // Whoever has this digest has this file.
                from = other_holder(context, digest, from).unwrap_or(source);
            }
            Err(error) => return Err(error),
        }
    }
    let told = format!("node {from}");
    let taken = shelf.put(part.path(), &format!("{name}.gguf"), &told, Some(digest)).await;
    // A part that is not what it should be would be gone on from for ever.
    part.discard();
    taken
}

/// Another node than `than` whose card has the file with this digest.
fn other_holder(context: &Context, digest: &str, than: NodeId) -> Option<NodeId> {
    let me = context.directory.id();
    let has = |card: &[u8]| {
        let card = wire::decode::<Card>(card, MESSAGE_BYTES_MAX).unwrap_or_default();
        card.models.iter().any(|model| model.digest == digest)
    };
    let mut others = context.members.up().into_iter().filter(|member| member.id != me && member.id != than);
    others.find(|member| has(&member.card)).map(|member| member.id)
}

async fn piecewise(
    context: &Context,
    claim: &Claim,
    digest: &str,
    part: &std::path::Path,
    begun: u64,
    source: NodeId,
) -> Result<(), ModelError> {
    let expected = context.directory.expect(source, context.env.ticket())?;
    let request = (digest.to_owned(), begun, context.directory.id(), expected.ticket());
    let models = context.directory.at::<Message>(source, NAME);
    let total = models.ask(ASK_TIMEOUT, |reply| Message::Send(Wire(request), reply)).await??;
    let left = total.saturating_sub(begun);
    claim.need(left)?;
    let mut stream = expected.opened().await?;
    let opened = OpenOptions::new().create(true).append(true).open(part).await;
    let mut file = opened.map_err(|e| disk(&e))?;
    let (mut done, mut piece) = (0, vec![0; PIECE_BYTES]);
    loop {
        let read = timeout(SILENCE_TIMEOUT, stream.reader.read(&mut piece)).await;
        let read = match read {
            Ok(Ok(read)) => read,
            _ => 0,
        };
        if read == 0 || done + read as u64 > left {
            break;
        }
        claim.write(read as u64)?;
        file.write_all(&piece[..read]).await.map_err(|e| disk(&e))?;
        done += read as u64;
    }
    file.flush().await.map_err(|e| disk(&e))?;
    if done == left { Ok(()) } else { Err(ModelError::Fetch(format!("node {source:?} sent {done} of {left} bytes"))) }
}
