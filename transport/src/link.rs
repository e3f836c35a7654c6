//! The actor link: envelopes over one ordered stream to one peer. Answers, refusals and credits come back on it.
//!
//! It works over any pair of byte streams and knows no QUIC; [`crate::mesh`] gives it a stream and takes it down.
//!
//! ```text
//! tell, ask -> credit of the target -> room in the outbox -> frame -> [writer: one batch] ~~~ stream
//! ask <- pending <- Answer, Failure <- [reader] <- stream
//!        windows <- Grant           <-     `-> Tell, Ask -> Directory::accept -> answers -> outbox
//! ```
//!
//! The reader never waits for anything but the stream, so that two links can't wait for each other: mailboxes are
//! bounded by the senders' credits, and answers wait for room in futures of their own, of which there is a most, with so
//! many bytes together and only until nobody waits for them any more.

mod credit;
pub mod frame;
mod outbox;
mod pending;

use credit::{Returns, Windows, weight};
use frame::{Decoded, Decoder, Frame};
use futures::{StreamExt, stream::FuturesUnordered};
use outbox::{Down, Outbox};
use pending::{CALLS_MAX, Pending};
use skep_runtime::{
    Directory, Envelope, Error, NodeId,
    defaults::{ASK_TIMEOUT, ASK_TIMEOUT_MAX, MESSAGE_BYTES_MAX, TELL_TIMEOUT},
    directory::Arrived,
    tasks::Spawner,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// Answers that this side owes at once. Twice what an honest peer asks: it gives up a little before this side does.
const ANSWERS_MAX: usize = 2 * CALLS_MAX;
/// Bytes of answers that wait for room together. A peer that doesn't read its answers is told `Busy` instead of the rest.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// How long a [`Link::ping`] may take before the link counts as dead.
const PING_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes that a refusal with a usual reason takes.
const FAILURE_BYTES: usize = 128;
/// Bytes of a name (an actor's, a variant's) on the wire.
const NAME_BYTES_MAX: usize = u8::MAX as usize;

/// One side of a link. Cheap to clone.
#[derive(Clone)]
pub struct Link {
    shared: Arc<Shared>,
}

struct Shared {
    peer: NodeId,
    outbox: Arc<Outbox>,
    pending: Pending,
    windows: Windows,
    /// Room for the bytes of answers that wait.
    answers: Semaphore,
    down: CancellationToken,
}

impl Link {
    /// Runs a link to `peer` over a stream, of which `opening` are the first bytes to write. Its tasks end with
    /// the stream, with [`Link::close`], or with `spawner`'s owner.
    pub fn start(
        spawner: &Spawner,
        directory: Directory,
        peer: NodeId,
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        opening: &[u8],
    ) -> Link {
        let outbox = Arc::new(Outbox::new(opening));
        let (pending, windows, down) = (Pending::default(), Windows::default(), CancellationToken::new());
        let answers = Semaphore::new(ANSWER_BYTES_MAX);
        let shared = Arc::new(Shared { peer, outbox, pending, windows, answers, down });
        let (reading, writing) = (shared.clone(), shared.clone());
        spawner.spawn(async move {
            let ends = Ends(&reading);
            let broken = reading.read(directory, reader);
            let why = reading.down.run_until_cancelled(broken).await;
            tracing::debug!(peer = ?reading.peer, why = why.unwrap_or("closed here"), "the link ends");
            drop(ends);
        });
        spawner.spawn(async move {
            let _ends = Ends(&writing);
            let _ = writing.down.run_until_cancelled(writing.outbox.drain(writer)).await;
        });
        Link { shared }
    }

    /// Sends a message that wants no answer, in order with what this caller sent before. Ready when it is queued,
    /// within [`TELL_TIMEOUT`].
    pub async fn tell(&self, message: Envelope) -> Result<(), Error> {
        self.fits(&message)?;
        let Envelope { to, kind, trace, guest, body, .. } = &message;
        self.send(
            TELL_TIMEOUT,
            to,
            weight(body.len()),
            frame::message_bytes(to, kind, body),
            &Frame::Tell { trace: *trace, guest: *guest, to, kind, body },
        )
        .await
    }

    /// Sends a message and waits for the answer, at most its deadline. Fails at once when the link goes down.
    pub async fn ask(&self, message: Envelope) -> Result<Vec<u8>, Error> {
        self.fits(&message)?;
        let deadline = message.deadline.unwrap_or(ASK_TIMEOUT).min(ASK_TIMEOUT_MAX);
        let deadline_ms = deadline.as_micros().div_ceil(1000) as u32;
        let Envelope { to, kind, trace, guest, body, .. } = &message;
        let mut call = self.shared.pending.begin(self.shared.peer)?;
        let exchange = async {
            let ask = Frame::Ask { id: call.id, deadline_ms, trace: *trace, guest: *guest, to, kind, body };
            self.send(deadline, to, weight(body.len()), frame::message_bytes(to, kind, body), &ask).await?;
            call.answer(self.shared.peer).await
        };
        timeout(deadline, exchange).await.unwrap_or(Err(Error::Timeout))
    }

    /// Whether the other side answers, within a second.
    pub async fn ping(&self) -> bool {
        let Ok(mut call) = self.shared.pending.begin(self.shared.peer) else { return false };
        let exchange = async {
            let room = self
                .shared
                .outbox
                .room(frame::message_bytes("", "", &[]))
                .await
                .map_err(|Down| self.is_down_error())?;
            room.fill(&Frame::Ping { id: call.id }).map_err(|Down| self.is_down_error())?;
            call.answer(self.shared.peer).await
        };
        matches!(timeout(PING_TIMEOUT, exchange).await, Ok(Ok(_)))
    }

    /// Takes the link down: everything in flight fails now.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Resolves when the link is down.
    pub async fn closed(&self) {
        self.shared.down.cancelled().await;
    }

    /// What `work` comes to, or nothing when the link goes down meanwhile.
    pub async fn until_closed<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.shared.down.run_until_cancelled(work).await
    }

    /// Whether the link is down.
    pub fn is_closed(&self) -> bool {
        self.shared.down.is_cancelled()
    }

    fn fits(&self, message: &Envelope) -> Result<(), Error> {
        if message.body.len() > MESSAGE_BYTES_MAX {
            return Err(Error::TooLarge { bytes: message.body.len(), max: MESSAGE_BYTES_MAX });
        }
        if message.to.len() > NAME_BYTES_MAX || message.kind.len() > NAME_BYTES_MAX {
            return Err(Error::refused(format!("names of actors and messages have at most {NAME_BYTES_MAX} bytes")));
        }
        Ok(())
    }

    /// Spends credits of `to` and queues the frame. `Busy` when the actor gave none in time: it got nothing.
    async fn send(
        &self,
        patience: Duration,
        to: &str,
        weight: u32,
        bytes: usize,
        frame: &Frame<'_>,
    ) -> Result<(), Error> {
        let window = self.shared.windows.of(to);
        let credit = match window.try_acquire_many(weight) {
            Ok(credit) => credit,
            Err(_) => match timeout(patience, window.acquire_many(weight)).await {
                Ok(credit) => credit.map_err(|_| self.is_down_error())?,
                Err(_) => return Err(Error::Busy(to.into())),
            },
        };
        // Nearly always there is room, and no timer is made.
        let room = match self.shared.outbox.room_now(bytes) {
            Some(room) => room,
            None => {
                let room = timeout(patience, self.shared.outbox.room(bytes)).await.map_err(|_| Error::Timeout)?;
                room.map_err(|Down| self.is_down_error())?
            }
        };
        room.fill(frame).map_err(|Down| self.is_down_error())?;
        // Spent: it comes back as a grant.
        credit.forget();
        Ok(())
    }

    fn is_down_error(&self) -> Error {
        Error::LinkDown(self.shared.peer)
    }
}

impl Shared {
    fn close(&self) {
        self.down.cancel();
        self.outbox.close();
        self.windows.close();
        self.pending.close();
    }

    /// Reads until the stream ends, and says why it did.
    async fn read(&self, directory: Directory, mut stream: impl AsyncRead + Unpin) -> &'static str {
        let mut decoder = Decoder::default();
        let mut returns = Returns::new(&self.outbox);
        let mut answers = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some(()) = answers.next(), if !answers.is_empty() => continue,
                read = stream.read_buf(decoder.space()) => match read {
                    Ok(0) => return "the other side ended it",
                    Ok(_) => {}
                    Err(_) => return "the stream broke",
                },
            }
            loop {
                match decoder.pop() {
                    Ok(None) => break,
                    Ok(Some(decoded)) => match self.take(&directory, &mut returns, decoded) {
                        Ok(None) => {}
                        Ok(Some(_)) if answers.len() >= ANSWERS_MAX => return "the other side asks more than it may",
                        Ok(Some((id, question))) => answers.push(answer(&self.outbox, &self.answers, id, question)),
                        Err(Excess) => return "the other side sends more than it has credits for",
                    },
                    Err(frame::OutOfStep(_)) => return "the stream is out of step",
                }
            }
            // A peer that always has more must not keep this thread from the others.
            tokio::task::coop::consume_budget().await;
        }
    }

    /// Acts on what was read. Returns what has to be answered.
    fn take(
        &self,
        directory: &Directory,
        returns: &mut Returns<Outbox>,
        decoded: Decoded<'_>,
    ) -> Result<Option<Question>, Excess> {
        let refused = |id: Option<u64>, why| Ok(id.map(|id| (id, Err(why))));
        let frame = match decoded {
            Decoded::Frame(frame) => frame,
            Decoded::Malformed(id) => {
                return refused(id, Error::refused("the message can't be read: is this node of another version?"));
            }
            Decoded::TooLarge(bytes, id) => return refused(id, Error::TooLarge { bytes, max: MESSAGE_BYTES_MAX }),
        };
        Ok(match frame {
            Frame::Tell { trace, guest, to, kind, body } => {
                let credit = returns.credit(to, body.len()).ok_or(Excess)?;
                let (to, kind, body) = (to.into(), kind.into(), body.into());
                let message = Envelope { to, kind, deadline: None, trace, guest, body };
                if let Err(why) = directory.accept(message, credit) {
                    tracing::debug!(peer = ?self.peer, %trace, %why, "a told message was not delivered");
                }
                None
            }
            Frame::Ask { id, deadline_ms, trace, guest, to, kind, body } => {
                let credit = returns.credit(to, body.len()).ok_or(Excess)?;
                let deadline = Some(Duration::from_millis(deadline_ms.into()));
                let (to, kind, body) = (to.into(), kind.into(), body.into());
                let message = Envelope { to, kind, deadline, trace, guest, body };
                Some((id, directory.accept(message, credit)))
            }
            Frame::Ping { id } => Some((id, Ok(Arrived::Told))),
            Frame::Answer { id, body } => {
                self.pending.end(id, Ok(body.into()));
                None
            }
            Frame::Failure { id, error } => {
                self.pending.end(id, Err(error));
                None
            }
            Frame::Grant { count, to } => {
                self.windows.grant(to, count);
                None
            }
        })
    }
}

/// What has to be answered: its number, and what became of it.
type Question = (u64, Result<Arrived, Error>);

/// The other side sent more than it had credits for.
struct Excess;

/// Waits for what an actor answers, then for room, and queues it. `waiting` bounds the bytes of those that wait.
async fn answer(outbox: &Outbox, waiting: &Semaphore, id: u64, question: Result<Arrived, Error>) {
    // Who asked gives up then, and nobody waits for what comes later.
    let deadline = if let Ok(Arrived::Asked(_, deadline)) = &question { *deadline } else { ASK_TIMEOUT };
    let until = Instant::now() + deadline;
    let mut reply = match question {
        Ok(arrived) => arrived.reply().await.unwrap_or(Ok(Vec::new())),
        Err(error) => Err(error),
    };
    if let Ok(body) = &reply
        && body.len() > MESSAGE_BYTES_MAX
    {
        reply = Err(Error::TooLarge { bytes: body.len(), max: MESSAGE_BYTES_MAX });
    }
    let bytes =
        |reply: &Result<Vec<u8>, Error>| frame::message_bytes("", "", reply.as_deref().unwrap_or(&[0; FAILURE_BYTES]));
    // The wait is for room alone: this and the failures below are small, and there are at most so many.
    let held = waiting.try_acquire_many(reply.as_ref().map_or(0, Vec::len) as u32);
    if held.is_err() {
        reply = Err(Error::Busy("the link: answers are not read".into()));
    }
    // A link that went down has nobody who waits for this, nor has an answer that finds no room in time.
    if let Ok(Ok(room)) = timeout_at(until, outbox.room(bytes(&reply))).await {
        let _ = room.fill(&match &reply {
            Ok(body) => Frame::Answer { id, body },
            Err(error) => Frame::Failure { id, error: error.clone() },
        });
    }
}

/// Takes the link down when either of its tasks ends, however it ends.
struct Ends<'a>(&'a Shared);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::poll;

    #[tokio::test(start_paused = true)]
    async fn answers_that_nobody_reads_are_bounded_in_bytes_and_in_time() {
        let (outbox, waiting) = (Outbox::new(b""), Semaphore::new(ANSWER_BYTES_MAX));
        let _full = outbox.room(usize::MAX).await.ok().unwrap();
        let start = Instant::now();
        let mut answers: Vec<_> = (0..32)
            .map(|id| {
                let (reply, asked) = tokio::sync::oneshot::channel();
                reply.send(vec![0; MESSAGE_BYTES_MAX]).unwrap();
                Box::pin(answer(&outbox, &waiting, id, Ok(Arrived::Asked(asked, ASK_TIMEOUT))))
            })
            .collect();
        for answer in &mut answers {
            assert!(poll!(answer.as_mut()).is_pending());
        }
        assert_eq!(
            waiting.available_permits(),
            0,
            "sixteen wait with their bytes, the others are told that it is busy"
        );
        futures::future::join_all(answers).await;
        assert_eq!(start.elapsed(), ASK_TIMEOUT);
        assert_eq!(waiting.available_permits(), ANSWER_BYTES_MAX);
    }
}
