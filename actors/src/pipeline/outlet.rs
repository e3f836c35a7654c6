//! The caller's end of one request: chunks go in, frames go out, and its push-back comes back.
//!
//! Room in the outlet is what lets a sequence take its next turn; a closed outlet cancels it, and so does a reader
//! that ended its own direction: to that one the last chunk still goes.

use super::messages::Chunk;
use skep_runtime::{Stream, frames, tasks::Spawner};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{Notify, mpsc},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Chunks that wait for a slow reader before its sequence stops taking turns.
const CHUNKS_MAX: usize = 16;
/// How long a reader may leave a full stream alone before its request is cancelled and its caches are freed.
const STALL_TIMEOUT: Duration = Duration::from_secs(300);
/// After so long without text an empty one is sent: writing is how a closed stream is noticed.
const SILENCE: Duration = Duration::from_secs(1);

/// Where a request's chunks go.
#[derive(Clone)]
pub(super) struct Outlet {
    chunks: mpsc::Sender<Chunk>,
    given_up: CancellationToken,
}

impl Outlet {
    /// An outlet onto `stream`. `room` is notified whenever a chunk has left or the reader has gone.
    pub(super) fn open(tasks: &Spawner, stream: Stream, room: Arc<Notify>) -> Outlet {
        let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
        let outlet = Outlet { chunks: sender, given_up: CancellationToken::new() };
        let given_up = outlet.given_up.clone();
        tasks.spawn(async move {
            let Stream { reader, writer } = stream;
            let ended = async {
                end_of(reader).await;
                given_up.cancel();
                room.notify_one();
                std::future::pending().await
            };
            tokio::select! {
                () = write(writer, chunks, &room) => {}
                () = ended => {}
            }
            room.notify_one();
        });
        outlet
    }

    /// Whether a step may be taken: its text and the end that may follow it both have room.
    pub(super) fn has_room(&self) -> bool {
        self.chunks.capacity() >= 2
    }

    /// Whether the reader has gone.
    pub(super) fn is_closed(&self) -> bool {
        self.chunks.is_closed()
    }

    /// Whether the reader ended its own direction: it wants no more.
    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.is_cancelled()
    }

    /// Sends a chunk. There is room: no step is taken without.
    pub(super) fn send(&self, chunk: Chunk) {
        let sent = self.chunks.try_send(chunk);
        debug_assert!(!matches!(sent, Err(mpsc::error::TrySendError::Full(_))), "a turn is taken only with room");
    }
}

/// Waits until the other side ends its direction. It has nothing to say before.
async fn end_of(mut reader: impl AsyncRead + Unpin) {
    while let Ok(1..) = reader.read(&mut [0; 64]).await {}
}

async fn write(mut writer: impl AsyncWrite + Unpin, mut chunks: mpsc::Receiver<Chunk>, room: &Notify) {
    loop {
        let chunk = match timeout(SILENCE, chunks.recv()).await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return,
            Err(_) => Chunk::Text(String::new()),
        };
        let last = !matches!(chunk, Chunk::Text(_));
        match timeout(STALL_TIMEOUT, frames::write(&mut writer, &chunk)).await {
            Ok(Ok(())) => room.notify_one(),
            _ => return,
        }
        if last {
            // The reader has all of it already, or never will.
            let _ = timeout(STALL_TIMEOUT, writer.shutdown()).await;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_runtime::Tasks;

    fn stream(bytes: usize) -> (Stream, tokio::io::DuplexStream) {
        let (near, far) = tokio::io::duplex(bytes);
        let (reader, writer) = tokio::io::split(near);
        (Stream { reader: Box::new(reader), writer: Box::new(writer) }, far)
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_takes_the_room_and_reading_gives_it_back() {
        let (tasks, room) = (Tasks::default(), Arc::new(Notify::new()));
        let (stream, mut reader) = stream(16);
        let outlet = Outlet::open(&tasks.spawner(), stream, room.clone());
        let mut sent = 0;
        while outlet.has_room() {
            outlet.send(Chunk::Text("word".into()));
            sent += 1;
            tokio::task::yield_now().await;
        }
        assert!(sent < 2 * CHUNKS_MAX, "{sent} chunks are not push-back");
        assert_eq!(frames::read(&mut reader).await, Ok(Some(Chunk::Text("word".into()))));
        while !outlet.has_room() {
            room.notified().await;
            frames::read::<Chunk>(&mut reader).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_went_is_noticed_though_there_is_nothing_to_say() {
        let (tasks, room) = (Tasks::default(), Arc::new(Notify::new()));
        let (stream, reader) = stream(1024);
        let outlet = Outlet::open(&tasks.spawner(), stream, room.clone());
        drop(reader);
        room.notified().await;
        assert!(outlet.is_given_up());
    }
}
