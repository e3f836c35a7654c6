//! `/api/blobs`: store a file, fetch one from wherever it lies, see and remove those of this machine.

use crate::{
    Problem, Reply,
    caller::Caller,
    events::await_from,
    limits::{BODY_TIMEOUT, COPY_TIMEOUT, FETCH_TRIES, ROWS},
    reply::{Created, Done},
    tag::Tag,
    when::rfc3339,
};
use futures::{StreamExt, stream};
use poem::Body;
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
    payload::{Binary, Json},
};
use skep_actors::{
    Context,
    blob::{self, BlobError, Held, Message},
    digest::Digest,
    runtime::{
        self, Handle, Stream, Wire,
        defaults::{ASK_TIMEOUT, ASK_TIMEOUT_MAX},
        frames,
    },
};
use tokio::{io::AsyncReadExt, time::timeout};

/// Bytes of a frame to the actor, and of a piece of an answer.
const PIECE_BYTES: usize = 256 << 10;

/// Endpoints of files.
#[derive(Clone)]
pub struct Files(pub Context);

#[OpenApi(prefix_path = "/api/blobs", tag = "Tag::Blobs")]
impl Files {
    /// Store a file
    ///
    /// The body is what is in it, as it is, up to 64 GiB. Answered when it is on disk here and on one other machine, if one is
    /// up: then a task can be given it by its digest (`inputs`), on whichever machine it runs. The same file twice is one. It
    /// is kept while a task that has not ended needs it, and after that until room is needed, an hour at least.
    #[oai(path = "/", method = "post", operation_id = "blobs_store")]
    async fn store(&self, _caller: Caller, body: Binary<Body>) -> Reply<Created<Blob>> {
        let me = self.0.directory.id();
        let stream = await_from(&self.0, me)?;
        let ticket = Wire((stream.me, stream.ticket));
        let blobs = self.blobs();
        // The actor opens the stream before it answers.
        let (opened, asked) = tokio::join!(stream.opened(), blobs.ask(ASK_TIMEOUT, |port| Message::Put(ticket, port)));
        asked??;
        let Stream { mut reader, mut writer } = opened?;
        let sent = async {
            let mut chunks = body.0.into_bytes_stream();
            while let Some(chunk) = timeout(BODY_TIMEOUT, chunks.next()).await.map_err(|_| slow())? {
                let chunk = chunk.map_err(|e| Problem::bad(format!("the body broke off: {e}")))?;
                for piece in chunk.chunks(PIECE_BYTES) {
                    frames::write_bytes(&mut writer, piece).await?;
                }
            }
            // Without this it was cut off.
            frames::write_bytes(&mut writer, &[]).await?;
            Ok::<(), Problem>(())
        };
        let stored = frames::read::<Result<blob::Blob, BlobError>>(&mut reader);
        tokio::pin!(sent, stored);
        let stored = tokio::select! {
            // It says why before the end, if it can't be stored.
            stored = &mut stored => stored,
            sent = &mut sent => {
                // What went wrong on the way, it says better.
                let stored = timeout(COPY_TIMEOUT, &mut stored).await.map_err(|_| slow())?;
                if !matches!(stored, Ok(Some(_))) {
                    sent?;
                }
                stored
            }
        };
        let blob = stored?.ok_or_else(|| Problem::from(runtime::Error::NoReply))??;
        Ok(Created::Made(Json(blob.into())))
    }

    /// Fetch a file
    ///
    /// From wherever it lies. Its digest is what to check it by.
    #[oai(path = "/:digest", method = "get", operation_id = "blobs_fetch")]
    async fn fetch(&self, _caller: Caller, digest: Path<String>) -> Reply<Binary<Body>> {
        let digest = parse(&digest.0)?;
        let blobs = self.blobs();
        let mut found = Err(runtime::Error::Timeout);
        for _ in 0..FETCH_TRIES {
            found = blobs.ask(ASK_TIMEOUT_MAX, |port| Message::Fetch(Wire(digest), port)).await;
            if !matches!(found, Err(runtime::Error::Timeout)) {
                break;
            }
        }
        found??;
        let stream = await_from(&self.0, self.0.directory.id())?;
        let wanted = Wire((digest, 0, stream.me, stream.ticket));
        let (opened, length) =
            tokio::join!(stream.opened(), blobs.ask(ASK_TIMEOUT, |port| Message::Send(wanted, port)));
        let length = length??;
        // A piece that is missing breaks the answer off, so that nobody takes it for whole.
        let pieces = stream::try_unfold((opened?, length), |(mut stream, left)| async move {
            if left == 0 {
                return Ok(None);
            }
            let mut piece = vec![0; PIECE_BYTES.min(usize::try_from(left).unwrap_or(PIECE_BYTES))];
            match timeout(BODY_TIMEOUT, stream.reader.read(&mut piece)).await?? {
                0 => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)),
                read => {
                    piece.truncate(read);
                    Ok(Some((piece, (stream, left - read as u64))))
                }
            }
        });
        Ok(Binary(Body::from_bytes_stream(pieces)))
    }

    /// List the files that lie on this machine
    ///
    /// The one that was used last first.
    #[oai(path = "/", method = "get", operation_id = "blobs_list")]
    async fn list(
        &self,
        _caller: Caller,
        /// How many, at most 1000
        #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
        limit: Query<Option<u32>>,
    ) -> Reply<Json<BlobList>> {
        let rows = limit.0.unwrap_or(ROWS);
        let held = self.blobs().ask(ASK_TIMEOUT, |port| Message::List(Wire(rows), port)).await?;
        let blobs: Vec<HeldBlob> = held.into_iter().map(HeldBlob::from).collect();
        Ok(Json(BlobList { count: blobs.len(), blobs }))
    }

    /// Remove this machine's copy of a file
    ///
    /// Refused while a task that has not ended needs it. Copies on other machines stay.
    #[oai(path = "/:digest", method = "delete", operation_id = "blobs_delete")]
    async fn delete(&self, _caller: Caller, digest: Path<String>) -> Reply<Done> {
        let digest = parse(&digest.0)?;
        self.blobs().ask(ASK_TIMEOUT, |port| Message::Delete(Wire(digest), port)).await??;
        Ok(Done::Done)
    }

    fn blobs(&self) -> Handle<Message> {
        self.0.directory.here(blob::NAME)
    }
}

/// A file.
#[derive(Debug, Object)]
pub struct Blob {
    /// SHA-256 of what is in it, in 64 hexadecimal digits: its name everywhere.
    pub digest: String,
    /// How large it is.
    pub bytes: u64,
}

/// A file that lies on this machine.
#[derive(Debug, Object)]
pub struct HeldBlob {
    /// SHA-256 of what is in it.
    pub digest: String,
    /// How large it is.
    pub bytes: u64,
    /// When it was stored or used last.
    pub used_at: String,
}

/// Files on this machine.
#[derive(Debug, Object)]
pub struct BlobList {
    /// How many are shown.
    pub count: usize,
    /// The one that was used last first.
    pub blobs: Vec<HeldBlob>,
}

impl From<blob::Blob> for Blob {
    fn from(blob: blob::Blob) -> Blob {
        Blob { digest: blob.digest.to_string(), bytes: blob.bytes }
    }
}

impl From<Held> for HeldBlob {
    fn from(held: Held) -> HeldBlob {
        let Held { blob, used_ms } = held;
        HeldBlob { digest: blob.digest.to_string(), bytes: blob.bytes, used_at: rfc3339(used_ms) }
    }
}

fn parse(text: &str) -> Result<Digest, Problem> {
    text.parse().map_err(|why| Problem::invalid("digest", why))
}

fn slow() -> Problem {
    Problem::new(poem::http::StatusCode::REQUEST_TIMEOUT, "body_too_slow", "nothing of the body came for too long")
}
