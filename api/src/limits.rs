//! Every limit of the HTTP side, with its unit in its name and why it is what it is; and the reading of bodies
//! under them.

use crate::Problem;
use futures::StreamExt;
use poem::{Body, http::StatusCode};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Bytes of a request's body, unless its route says otherwise: the documented APIs send a few KiB of JSON.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// Bytes of a goal with its documents: 4 MiB of text, and what JSON's quoting adds.
pub const GOAL_BYTES_MAX: usize = 6 << 20;

/// How long a body may take to arrive: the largest needs 5 s on the slowest Wi-Fi that we care about.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a new connection may take to send its first head: past that it is no client, or a hostile one.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may say nothing between two requests. Event streams send a comment more often.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// How often an event stream that has nothing to say sends a comment: proxies close at 30 s or more.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How long requests in flight may go on after the server was told to stop.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections at a time. A browser opens six; the rest wait in the kernel's queue, which costs us no descriptor.
pub const CONNECTIONS_MAX: usize = 512;

/// The pause after a failed accept: out of descriptors, the loop would spin otherwise.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Rows of a list when the caller doesn't say.
pub const ROWS: u32 = 100;

/// Bytes of messages in one answer: 128 of the largest. Where it is cut, it says where the next one begins.
pub const SAID_BYTES_MAX: usize = 4 << 20;

/// Rows of a list at most: what fits one actor message with their output tails.
pub const ROWS_MAX: u32 = 1000;

/// Bytes of a call's arguments in a list: enough to tell calls apart. A call by itself is shown whole.
pub const LISTED_INPUT_BYTES_MAX: usize = 2 << 10;

/// Frames of generated text that wait for a slow reader before the model's stream is held back.
pub const CHUNKS_MAX: usize = 64;

/// Tokens that a completion may have when the caller doesn't say: a long answer, and not yet a runaway.
pub const COMPLETION_TOKENS: u32 = 1024;

/// How long a model may take to be found, fetched, loaded and served; what takes longer goes by a pull first.
pub const SERVE_TIMEOUT: Duration = Duration::from_secs(300);

/// How long joining another swarm may take: some dials to addresses that don't answer, then the exchange.
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a goal's commands may take to be taken: ten thousand of them, each acknowledged, on a slow disk.
pub const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(120);

/// How long a decision or a new policy may take to be written down: two disks here, and one on another machine.
pub const DECIDE_TIMEOUT: Duration = Duration::from_secs(45);

/// How long a question may take that every machine is asked.
pub const GATHER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long all machines may take to check their audit logs.
pub const VERIFY_TIMEOUT: Duration = Duration::from_secs(90);

/// How long ending a command or a run may take: asked politely, then killed.
pub const CANCEL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the checks of a node may take: the disk has five of these seconds to take a write.
pub const HEALTH_TIMEOUT: Duration = Duration::from_secs(10);

/// How long another machine may take to keep its copy of a file: the largest, over a slow network.
pub const COPY_TIMEOUT: Duration = Duration::from_secs(2 * 3600);

/// How often a file is asked for that is on its way to this node: each question waits for five minutes.
pub const FETCH_TRIES: u32 = 12;

/// How long finding a run to follow may take: it is asked for here, then where it lives, then a stream is opened.
pub const FOLLOW_TIMEOUT: Duration = Duration::from_secs(20);

/// Characters of an invite in a path: the longest line that `skep invite` prints, with room.
pub const INVITE_CHARS_MAX: usize = 1024;

/// One-time links and browser sessions at a time: one owner with some browsers.
pub const SESSIONS_MAX: usize = 64;

/// How long a one-time link works: from a terminal to the browser beside it.
pub const LINK_TIMEOUT: Duration = Duration::from_secs(120);

/// How long a ticket for a WebSocket works: from the answer that gave it to the next request of the same script.
pub const TICKET_TIMEOUT: Duration = Duration::from_secs(10);

/// Clients that listen over `/ws` at a time, and as many to `/api/events`: the documented number.
pub const LISTENERS_MAX: usize = 50;

/// Those of one address among them, as documented: one broken client must not take everybody's seats.
pub const LISTENERS_PER_ADDRESS_MAX: usize = 10;

/// How long a client that begins to listen waits for the other machines' events to come in: a round trip and a stream.
pub const REACH_TIMEOUT: Duration = Duration::from_secs(2);

/// How long one frame may take to a client that listens: past that it doesn't read.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Events on their way into one event stream, beside the connection's own buffer.
pub const LISTENER_FRAMES_MAX: usize = 64;

/// Names that a client's filter may hold: a page of threads, and not a table of them.
pub const FILTER_NAMES_MAX: usize = 256;

/// Bytes of a frame that a client sends: a message for an agent, with room.
pub const SOCKET_FRAME_BYTES_MAX: usize = 64 << 10;

/// Bytes that a socket reads, and gathers to write, at a time: 50 of the library's 128 KiB would be 13 MB.
pub const SOCKET_BUFFER_BYTES: usize = 8 << 10;

/// Bytes that a socket holds while its client takes none: the largest frame of ours, and a pong.
pub const SOCKET_UNSENT_BYTES_MAX: usize = 256 << 10;

/// How often a client is pinged, as documented.
pub const PING_PERIOD: Duration = Duration::from_secs(30);

/// How long a client may say nothing, not even a pong, as documented: three pings.
pub const SILENCE_TIMEOUT: Duration = Duration::from_secs(90);

/// How long a client may take to close its side after it was told why ours is.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a browser stays signed in.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(12 * 3600);

/// Reads a body of at most `max` bytes within [`BODY_TIMEOUT`], whether it told its length or comes in chunks.
pub(crate) async fn read(body: Body, length: Option<u64>, max: usize) -> Result<Vec<u8>, Problem> {
    if length.is_some_and(|length| length > max as u64) {
        return Err(too_large(max));
    }
    let deadline = Instant::now() + BODY_TIMEOUT;
    let mut chunks = body.into_bytes_stream();
    let mut bytes = Vec::new();
    while let Some(chunk) = timeout_at(deadline, chunks.next()).await.map_err(|_| too_slow())? {
        let chunk = chunk.map_err(|e| Problem::bad(format!("the body broke off: {e}")))?;
        if bytes.len() + chunk.len() > max {
            return Err(too_large(max));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn too_large(max: usize) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", format!("the body is over {} KiB", max >> 10))
}

fn too_slow() -> Problem {
    let seconds = BODY_TIMEOUT.as_secs();
    Problem::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", format!("the body did not arrive within {seconds} s"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;

    fn chunked(chunks: usize, bytes: usize) -> Body {
        Body::from_bytes_stream(stream::iter((0..chunks).map(move |_| Ok::<_, std::io::Error>(vec![b'x'; bytes]))))
    }

    #[tokio::test]
    async fn a_body_within_the_limit_is_read_whole() {
        assert_eq!(read(chunked(4, 10), None, 40).await.unwrap().len(), 40);
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_by_its_length_and_by_its_chunks() {
        assert_eq!(read(Body::empty(), Some(41), 40).await.unwrap_err().status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(read(chunked(5, 10), None, 40).await.unwrap_err().status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_given_up() {
        let body = Body::from_bytes_stream(stream::pending::<Result<Vec<u8>, std::io::Error>>());
        assert_eq!(read(body, None, 40).await.unwrap_err().status(), StatusCode::REQUEST_TIMEOUT);
    }
}
