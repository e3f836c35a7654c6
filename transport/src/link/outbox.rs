//! The bounded queue in front of a link's stream: one buffer that senders append frames to and the writer takes
//! whole. What came while the last batch was written is the next batch.
//!
//! No frame has an allocation or a task of its own. Senders wait for room in turn; grants of credit need none, as
//! they are at most one for each actor.

use super::{
    credit::{Account, Grants},
    frame::Frame,
};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::{Notify, Semaphore, SemaphorePermit},
};

/// Bytes that wait in front of one link; one message may be larger, alone. At 1 GbE it is 2 ms of waiting.
const QUEUE_BYTES_MAX: usize = 256 << 10;
/// A buffer that grew for one large message is given back.
const BUFFER_BYTES_KEPT: usize = 512 << 10;

/// What waits to be written on one link.
pub(super) struct Outbox {
    room: Semaphore,
    queue: Mutex<Queue>,
    filled: Notify,
}

#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    /// Room that the bytes take: given back when they are taken.
    taken: usize,
    grants: Vec<Arc<Account>>,
    down: bool,
}

/// Room for one frame. Dropping it gives the room back.
pub(super) struct Room<'a> {
    outbox: &'a Outbox,
    permit: SemaphorePermit<'a>,
    bytes: usize,
}

/// The link is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Down;

impl Outbox {
    /// An empty queue whose stream begins with `opening`.
    pub(super) fn new(opening: &[u8]) -> Outbox {
        let queue = Mutex::new(Queue { bytes: opening.to_vec(), ..Queue::default() });
        let outbox = Outbox { room: Semaphore::new(QUEUE_BYTES_MAX), queue, filled: Notify::new() };
        outbox.filled.notify_one();
        outbox
    }

    /// Waits, in turn, for room for a frame of `bytes`.
    pub(super) async fn room(&self, bytes: usize) -> Result<Room<'_>, Down> {
        let bytes = bytes.min(QUEUE_BYTES_MAX);
        let permit = self.room.acquire_many(bytes as u32).await.map_err(|_| Down)?;
        Ok(Room { outbox: self, permit, bytes })
    }

    /// Room for a frame of `bytes`, if there is some now and nobody waits in front.
    pub(super) fn room_now(&self, bytes: usize) -> Option<Room<'_>> {
        let bytes = bytes.min(QUEUE_BYTES_MAX);
        let permit = self.room.try_acquire_many(bytes as u32).ok()?;
        Some(Room { outbox: self, permit, bytes })
    }

    /// The link is down: whoever waits for room fails now.
    pub(super) fn close(&self) {
        let mut queue = self.lock();
        *queue = Queue { down: true, ..Queue::default() };
        drop(queue);
        self.room.close();
        self.filled.notify_one();
    }

    /// Writes what comes, as it comes, until the stream breaks or the link is closed.
    pub(super) async fn drain(&self, mut stream: impl AsyncWrite + Unpin) -> std::io::Result<()> {
        let mut batch = Vec::new();
        loop {
            self.filled.notified().await;
            while self.take(&mut batch).map_err(|Down| std::io::ErrorKind::NotConnected)? {
                stream.write_all(&batch).await?;
                if batch.capacity() > BUFFER_BYTES_KEPT {
                    batch = Vec::new();
                }
            }
            stream.flush().await?;
        }
    }

    /// Swaps everything that waits into `batch`; `false` when that is nothing.
    fn take(&self, batch: &mut Vec<u8>) -> Result<bool, Down> {
        batch.clear();
        let mut queue = self.lock();
        if queue.down {
            return Err(Down);
        }
        std::mem::swap(&mut queue.bytes, batch);
        let taken = std::mem::take(&mut queue.taken);
        let grants = std::mem::take(&mut queue.grants);
        drop(queue);
        self.room.add_permits(taken);
        for account in grants {
            Frame::Grant { count: account.settle(), to: &account.to }.encode(batch);
        }
        Ok(!batch.is_empty())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room<'_> {
    /// Queues the frame that the room is for. Order of these calls is order on the stream.
    pub(super) fn fill(self, frame: &Frame<'_>) -> Result<(), Down> {
        let mut queue = self.outbox.lock();
        if queue.down {
            return Err(Down);
        }
        let first = queue.bytes.is_empty();
        frame.encode(&mut queue.bytes);
        queue.taken += self.bytes;
        drop(queue);
        self.permit.forget();
        if first {
            self.outbox.filled.notify_one();
        }
        Ok(())
    }
}

impl Grants for Outbox {
    fn due(&self, account: Arc<Account>) {
        let mut queue = self.lock();
        if !queue.down {
            queue.grants.push(account);
            drop(queue);
            self.filled.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn what_waits_is_bounded_and_goes_out_in_one_piece() {
        let outbox = Outbox::new(b"!");
        let body = [7; 1000];
        let mut queued = 0;
        while let Ok(room) = tokio::time::timeout(std::time::Duration::ZERO, outbox.room(1000)).await {
            room.unwrap().fill(&Frame::Answer { id: queued, body: &body }).unwrap();
            queued += 1;
        }
        assert_eq!(queued, QUEUE_BYTES_MAX as u64 / 1000);
        let mut batch = Vec::new();
        assert_eq!(outbox.take(&mut batch), Ok(true));
        assert_eq!(batch.len(), 1 + queued as usize * (4 + 1 + 8 + 1000));
        assert_eq!(outbox.room.available_permits(), QUEUE_BYTES_MAX);
    }

    #[tokio::test]
    async fn a_message_larger_than_the_queue_passes_alone() {
        let outbox = Arc::new(Outbox::new(b""));
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let writing = async { outbox.drain(near).await };
        let body = vec![0; 1 << 20];
        let sending = async {
            outbox.room(body.len()).await.unwrap().fill(&Frame::Answer { id: 1, body: &body }).unwrap();
            let mut bytes = vec![0; 13 + body.len()];
            far.read_exact(&mut bytes).await.unwrap();
        };
        tokio::select! {
            _ = writing => unreachable!("the stream stands"),
            () = sending => {}
        }
    }

    #[tokio::test]
    async fn closing_wakes_those_who_wait_for_room() {
        let outbox = Outbox::new(b"");
        let all = outbox.room(QUEUE_BYTES_MAX).await.unwrap();
        let (waiting, ()) = tokio::join!(outbox.room(1), async { outbox.close() });
        assert_eq!(waiting.err(), Some(Down));
        assert_eq!(all.fill(&Frame::Ping { id: 1 }), Err(Down));
    }
}
