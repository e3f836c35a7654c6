//! Blobs on their way: from a client, between nodes, into a command's folder and out of it. What comes is hashed as it
//! comes, so that nothing is believed of whoever sends it.

use super::{
    NAME,
    messages::{Blob, BlobError, Message},
    part::{BLOB_BYTES_MAX, Part},
    shelf::{Blobs, disk},
};
use crate::{Context, defaults::GATHER_TIMEOUT, digest::Digest, flight::Flights};
use futures::{StreamExt, stream::FuturesUnordered};
use sha2::{Digest as _, Sha256};
use skep_runtime::{
    Error, NodeId, Ticket, Wire,
    defaults::{ASK_TIMEOUT, ASK_TIMEOUT_MAX},
    frames,
};
use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep, timeout},
};

/// Those that are on their way to this node, and who waits for them.
pub(super) type Arrivals = Flights<Digest, Result<Blob, BlobError>>;

/// Bytes that are read from a stream or the disk, and written, at a time.
const PIECE_BYTES: usize = 256 << 10;
/// Bytes that are copied in one go off the executor: a fraction of a second.
const GO_BYTES: u64 = 64 << 20;
/// How long either side may leave a stream alone.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes a second that a node sends at least: whoever is slower holds a place for nothing.
const RATE_MIN: u64 = 64 << 10;
/// Streams that brought nothing before one is given up.
const TRIES_MAX: u32 = 3;
/// The pause before whoever has it is looked for again.
const TRY_PAUSE: Duration = Duration::from_secs(1);
/// The pause before those are asked once more of whom none said that it has a file.
const LOOK_PAUSE: Duration = Duration::from_millis(500);
/// How often a node is asked whether it has kept its copy: each question waits for minutes, and the largest blob takes ten
/// over 1 GbE.
const KEEP_ASKS_MAX: u32 = 12;
/// Nodes that are asked to keep a copy before it is given up.
const KEEPERS_MAX: usize = 3;

impl Blobs {
    /// What a client sends, in frames of bytes; an empty one says that it was all.
    pub(super) async fn receive(
        &self,
        context: &Context,
        from: &mut (impl AsyncRead + Unpin),
    ) -> Result<Blob, BlobError> {
        let part = self.part(context).await?;
        loop {
            let piece = match timeout(SILENCE_TIMEOUT, frames::read_bytes(from, PIECE_BYTES)).await {
                Ok(Ok(Some(piece))) => piece,
                Ok(Ok(None)) => return Err(BlobError::Cut("its sender went away".into())),
                Ok(Err(e)) => return Err(BlobError::Cut(e.to_string())),
                Err(_) => return Err(BlobError::Cut(format!("nothing came for {} s", SILENCE_TIMEOUT.as_secs()))),
            };
            if piece.is_empty() {
                break;
            }
            part.append(context, piece).await?;
        }
        part.finish(context, None).await
    }

    /// These bytes.
    pub(crate) async fn keep_bytes(&self, context: &Context, bytes: Vec<u8>) -> Result<Blob, BlobError> {
        let part = self.part(context).await?;
        part.claim(context, bytes.len() as u64).await?;
        part.append(context, bytes).await?;
        part.finish(context, None).await
    }

    /// All of one, from wherever it is, if it has no more bytes than that.
    pub(crate) async fn bytes(&self, context: &Context, digest: Digest, max: usize) -> Result<Vec<u8>, BlobError> {
        if self.fetch(context, digest).await?.bytes > max as u64 {
            return Err(BlobError::TooLarge(max as u64));
        }
        let blobs = self.clone();
        let read = compute(context, move || {
            let (file, length) = blobs.open(digest)?;
            let mut bytes = Vec::with_capacity(length.min(max as u64) as usize);
            file.take(max as u64).read_to_end(&mut bytes).map_err(|e| disk(&e))?;
            let whole = Digest(Sha256::digest(&bytes).into()) == digest;
            if whole { Ok(bytes) } else { Err(BlobError::Differs(digest)) }
        });
        read.await
    }

    /// What lies in a file of this node. Nobody may write it any more.
    pub(crate) async fn take(&self, context: &Context, mut file: File) -> Result<Blob, BlobError> {
        let part = self.part(context).await?;
        let length = file.metadata().map_err(|e| disk(&e))?.len();
        part.claim(context, length).await?;
        loop {
            let (go, shared) = (GO_BYTES, part.0.clone());
            let went = compute(context, move || {
                let mut part = shared.lock().unwrap_or_else(PoisonError::into_inner);
                let mut piece = vec![0; PIECE_BYTES];
                let begun = part.bytes();
                while part.bytes() - begun < go {
                    match file.read(&mut piece).map_err(|e| disk(&e))? {
                        0 => return Ok((file, true)),
                        read => part.append(&piece[..read])?,
                    }
                }
                Ok((file, false))
            });
            let (rest, whole) = went.await?;
            file = rest;
            if whole {
                return part.finish(context, None).await;
            }
        }
    }

    /// Writes one to a file that isn't there yet, from wherever it is. How many bytes.
    pub(crate) async fn place(
        &self,
        context: &Context,
        digest: Digest,
        (path, executable): (PathBuf, bool),
    ) -> Result<u64, BlobError> {
        let blob = self.fetch(context, digest).await?;
        let copied = match self.copy(context, digest, (path.clone(), executable)).await {
            // It went, or the disk changed it. Others may have it as it was.
            Err(e @ (BlobError::Differs(_) | BlobError::NoSuchBlob(_))) => {
                tracing::warn!(%digest, error = %e, "a file on this disk is not what it was: it is fetched anew");
                let (blobs, rest) = (self.clone(), path.clone());
                let cleared = compute(context, move || {
                    let _ = std::fs::remove_file(rest);
                    blobs.drop_copy(digest)
                });
                cleared.await?;
                self.fetch(context, digest).await?;
                self.copy(context, digest, (path, executable)).await
            }
            copied => copied,
        };
        copied.map(|()| blob.bytes)
    }

    async fn copy(
        &self,
        context: &Context,
        digest: Digest,
        (path, executable): (PathBuf, bool),
    ) -> Result<(), BlobError> {
        let blobs = self.clone();
        let opened = compute(context, move || {
            let (from, _) = blobs.open(digest)?;
            let mode = if executable { 0o755 } else { 0o644 };
            let to = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path).map_err(|e| disk(&e))?;
            Ok((from, to, Sha256::new()))
        });
        let mut state = opened.await?;
        loop {
            let (mut from, mut to, mut hash) = state;
            let went = compute(context, move || {
                let (mut piece, mut went) = (vec![0; PIECE_BYTES], 0);
                while went < GO_BYTES {
                    let read = from.read(&mut piece).map_err(|e| disk(&e))?;
                    if read == 0 {
                        return Ok((from, to, hash, true));
                    }
                    to.write_all(&piece[..read]).map_err(|e| disk(&e))?;
                    hash.update(&piece[..read]);
                    went += read as u64;
                }
                Ok((from, to, hash, false))
            });
            let (from, to, hash, whole) = went.await?;
            if whole {
                return if Digest(hash.finalize().into()) == digest { Ok(()) } else { Err(BlobError::Differs(digest)) };
            }
            state = (from, to, hash);
        }
    }

    /// Has one here: it is, or it comes from whoever has it. Those who want it at the same time share one way.
    pub(crate) async fn fetch(&self, context: &Context, digest: Digest) -> Result<Blob, BlobError> {
        self.fetch_from(context, digest, None).await
    }

    /// The same, from this node if it has it.
    pub(super) async fn keep(&self, context: &Context, digest: Digest, node: NodeId) -> Result<(), BlobError> {
        self.fetch_from(context, digest, Some(node)).await.map(drop)
    }

    async fn fetch_from(&self, context: &Context, digest: Digest, node: Option<NodeId>) -> Result<Blob, BlobError> {
        let blobs = self.clone();
        // It counts as used, and is not taken for there if it isn't.
        match compute(context, move || blobs.open(digest)).await {
            Err(BlobError::NoSuchBlob(_)) => {}
            held => return held.map(|(_, bytes)| Blob { digest, bytes }),
        }
        let (blobs, context) = (self.clone(), context.clone());
        self.arrivals().join(digest, async move { blobs.arrive(&context, digest, node).await }).await
    }

    async fn arrive(&self, context: &Context, digest: Digest, mut node: Option<NodeId>) -> Result<Blob, BlobError> {
        let mut part = self.part(context).await?;
        let (mut tries, mut why) = (0, BlobError::NoSuchBlob(digest));
        // Who sent some of this part; whose parts were of something else.
        let (mut from, mut wrong) = (BTreeSet::new(), BTreeSet::new());
        while tries < TRIES_MAX {
            // Whoever has this digest has this file: what came is gone on from.
            let holder = match node.take() {
                Some(node) => Some(node),
                None => holder(context, digest, &wrong).await,
            };
            let begun = part.bytes();
            if let Some(holder) = holder {
                from.insert(holder);
                let came = match part.pour(context, digest, holder).await {
                    Ok(()) => part.finish(context, Some(digest)).await,
                    Err(e) => Err(e),
                };
                match came {
                    Ok(blob) => return Ok(blob),
                    Err(e @ (BlobError::Disk(_) | BlobError::NoRoom(_) | BlobError::TooLarge(_))) => return Err(e),
                    Err(e @ BlobError::Differs(_)) => {
                        tracing::warn!(%digest, ?from, "what came is another file: others are asked for it");
                        wrong.append(&mut from);
                        part = self.part(context).await?;
                        why = e;
                        // Each time there is one less to ask.
                        continue;
                    }
                    Err(e) => why = e,
                }
            }
            tries = if part.bytes() > begun { 0 } else { tries + 1 };
            sleep(TRY_PAUSE).await;
        }
        Err(why)
    }

    /// Whether all of these lie here or on a node that answers.
    ///
    /// # Errors
    /// The first that doesn't.
    pub(crate) async fn are_known(
        &self,
        context: &Context,
        digests: impl Iterator<Item = Digest>,
    ) -> Result<(), BlobError> {
        let nobody = BTreeSet::new();
        for digest in digests {
            if self.has(digest)?.is_some() || holder(context, digest, &nobody).await.is_some() {
                continue;
            }
            // A link that is being replaced by another fails at once what is asked over it.
            sleep(LOOK_PAUSE).await;
            if holder(context, digest, &nobody).await.is_none() {
                return Err(BlobError::NoSuchBlob(digest));
            }
        }
        Ok(())
    }

    /// Has another node keep a copy, if one is up: `first`, or those that the digest's order says.
    pub(crate) async fn copy_out(
        &self,
        context: &Context,
        digest: Digest,
        first: Option<NodeId>,
    ) -> Result<(), BlobError> {
        let me = context.directory.id();
        let mut others = context.members.others_up();
        others.sort_by_key(|node| {
            let rank: [u8; 32] = Sha256::new().chain_update(digest.0).chain_update(node.as_bytes()).finalize().into();
            (Some(*node) != first, rank)
        });
        let mut why = None;
        for node in others.into_iter().take(KEEPERS_MAX) {
            let blobs = context.directory.at::<Message>(node, NAME);
            let keep = || blobs.ask(ASK_TIMEOUT_MAX, |reply| Message::Keep(Wire((digest, me)), reply));
            let mut answer = keep().await;
            for _ in 1..KEEP_ASKS_MAX {
                if !matches!(answer, Err(Error::Timeout)) {
                    break;
                }
                answer = keep().await;
            }
            match answer {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(e)) => why = Some(e.to_string()),
                Err(e) => why = Some(e.to_string()),
            }
        }
        why.map_or(Ok(()), |why| Err(BlobError::Alone { digest, why }))
    }

    /// Begins to send one that lies here, from an offset; gives its whole length.
    pub(super) async fn send(
        &self,
        context: &Context,
        (digest, offset, to, ticket): (Digest, u64, NodeId, Ticket),
        place: OwnedSemaphorePermit,
    ) -> Result<u64, BlobError> {
        let blobs = self.clone();
        let opened = compute(context, move || {
            let (mut file, bytes) = blobs.open(digest)?;
            file.seek(SeekFrom::Start(offset)).map_err(|e| disk(&e))?;
            Ok((file, bytes))
        });
        let (mut file, bytes) = opened.await?;
        let shared = context.clone();
        context.tasks.spawn(async move {
            // Each stream has a file open.
            let _place = place;
            let Ok(mut stream) = shared.directory.open(to, ticket).await else { return };
            loop {
                let read = compute(&shared, move || {
                    let mut piece = vec![0; PIECE_BYTES];
                    let read = file.read(&mut piece).map_err(|e| disk(&e))?;
                    piece.truncate(read);
                    Ok((file, piece))
                });
                let Ok((rest, piece)) = read.await else { return };
                if piece.is_empty() {
                    break;
                }
                file = rest;
                if !matches!(timeout(SILENCE_TIMEOUT, stream.writer.write_all(&piece)).await, Ok(Ok(()))) {
                    return;
                }
            }
            let _ = timeout(SILENCE_TIMEOUT, stream.writer.shutdown()).await;
        });
        Ok(bytes)
    }

    async fn part(&self, context: &Context) -> Result<Coming, BlobError> {
        let blobs = self.clone();
        Ok(Coming(Arc::new(Mutex::new(compute(context, move || Part::new(&blobs)).await?))))
    }
}

/// A part, off the executor.
struct Coming(Arc<Mutex<Part>>);

impl Coming {
    fn bytes(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).bytes()
    }

    async fn claim(&self, context: &Context, bytes: u64) -> Result<(), BlobError> {
        let part = self.0.clone();
        compute(context, move || part.lock().unwrap_or_else(PoisonError::into_inner).claim(bytes)).await
    }

    async fn append(&self, context: &Context, piece: Vec<u8>) -> Result<(), BlobError> {
        let part = self.0.clone();
        compute(context, move || part.lock().unwrap_or_else(PoisonError::into_inner).append(&piece)).await
    }

    async fn finish(&self, context: &Context, expected: Option<Digest>) -> Result<Blob, BlobError> {
        let part = self.0.clone();
        compute(context, move || part.lock().unwrap_or_else(PoisonError::into_inner).finish(expected)).await
    }

    /// Adds what a node has behind it.
    async fn pour(&self, context: &Context, digest: Digest, from: NodeId) -> Result<(), BlobError> {
        let expected = context.directory.expect(from, context.env.ticket())?;
        let request = Wire((digest, self.bytes(), context.directory.id(), expected.ticket()));
        let blobs = context.directory.at::<Message>(from, NAME);
        let total = blobs.ask(ASK_TIMEOUT, |reply| Message::Send(request, reply)).await??;
        if total > BLOB_BYTES_MAX {
            return Err(BlobError::TooLarge(BLOB_BYTES_MAX));
        }
        let mut stream = expected.opened().await?;
        let by = Instant::now() + SILENCE_TIMEOUT + Duration::from_secs(total / RATE_MIN);
        loop {
            let left = total.saturating_sub(self.bytes());
            if left == 0 {
                return Ok(());
            }
            if Instant::now() > by {
                return Err(BlobError::Cut(format!("node {from} sends less than {} KiB a second", RATE_MIN >> 10)));
            }
            let mut piece = vec![0; PIECE_BYTES.min(usize::try_from(left).unwrap_or(PIECE_BYTES))];
            match timeout(SILENCE_TIMEOUT, stream.reader.read(&mut piece)).await {
                Ok(Ok(read @ 1..)) => piece.truncate(read),
                _ => return Err(BlobError::Cut(format!("node {from} ended {left} bytes before the end"))),
            }
            self.append(context, piece).await?;
        }
    }
}

/// A node that is up and has it, but for these: the first that says so.
async fn holder(context: &Context, digest: Digest, but: &BTreeSet<NodeId>) -> Option<NodeId> {
    let ask = |node| {
        let blobs = context.directory.at::<Message>(node, NAME);
        async move {
            let has = blobs.ask(GATHER_TIMEOUT, |reply| Message::Has(Wire(digest), reply)).await;
            has.ok().flatten().map(|_| node)
        }
    };
    let others = context.members.others_up().into_iter().filter(|node| !but.contains(node));
    let mut asked: FuturesUnordered<_> = others.map(ask).collect();
    while let Some(answer) = asked.next().await {
        if answer.is_some() {
            return answer;
        }
    }
    None
}

/// Runs what blocks off the executor.
async fn compute<T: Send + 'static>(
    context: &Context,
    work: impl FnOnce() -> Result<T, BlobError> + Send + 'static,
) -> Result<T, BlobError> {
    context.tasks.compute(work).await.map_err(|e| BlobError::Disk(e.to_string()))?
}
