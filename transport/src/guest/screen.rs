//! What a guest says, looked at before `ractor_cluster` does: it would deliver a message to any actor of this process that
//! understands serialised ones, past every gate and [`Reach`](skep_runtime::Reach). Here a guest that calls another actor
//! than the gateway is turned out. Handshakes, groups and answers pass.
//!
//! It reads frames as `ractor_cluster` 0.16.5 writes them (a length of 8 bytes, big endian, and a protobuf message), and
//! of those only whom they are for. What it can't read it doesn't let in.

use crate::defaults::GUEST_FRAME_BYTES_MAX;
use ractor_cluster::{BoxRead, BoxWrite, ClusterBidiStream};
use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::TcpStream,
};

/// Bytes of the length in front of a frame.
const LENGTH_BYTES: usize = 8;
/// Bytes that are read at once.
const PIECE_BYTES: usize = 8 << 10;

/// The field of a frame that holds what is for an actor.
const NODE: u64 = 2;
/// The fields of that which are messages to actors of this side.
const CAST: u64 = 1;
const CALL: u64 = 2;
/// The field of those two that says to which.
const TO: u64 = 1;

/// A guest's connection, of which nothing comes in that is for another actor than the gateway.
pub(super) struct Screened {
    pub(super) guest: TcpStream,
    pub(super) peer: SocketAddr,
    /// The gateway's number in this process.
    pub(super) gateway: u64,
}

impl ClusterBidiStream for Screened {
    fn split(self: Box<Self>) -> (BoxRead, BoxWrite) {
        let Screened { guest, gateway, .. } = *self;
        let (reader, writer) = guest.into_split();
        (Box::new(Screen { guest: reader, gateway, frame: Vec::new(), passing: None }), Box::new(writer))
    }

    fn peer_label(&self) -> Option<String> {
        Some(self.peer.to_string())
    }
}

/// The reading half: whole frames, looked at.
struct Screen<R> {
    guest: R,
    gateway: u64,
    /// The frame that comes in, with its length.
    frame: Vec<u8>,
    /// It is all there and may pass: so much of it has.
    passing: Option<usize>,
}

impl<R: AsyncRead + Unpin> AsyncRead for Screen<R> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        let given = loop {
            if let Some(given) = me.passing {
                break given;
            }
            let missing = me.missing()?;
            if missing == 0 {
                me.admit()?;
                continue;
            }
            let mut piece = [0; PIECE_BYTES];
            let mut read = ReadBuf::new(&mut piece[..missing.min(PIECE_BYTES)]);
            ready!(Pin::new(&mut me.guest).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            me.frame.extend_from_slice(read.filled());
        };
        let rest = &me.frame[given..];
        let count = rest.len().min(out.remaining());
        out.put_slice(&rest[..count]);
        me.passing = Some(given + count);
        if given + count == me.frame.len() {
            me.frame.clear();
            me.passing = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl<R> Screen<R> {
    /// Bytes that the length, or the frame behind it, still lacks.
    fn missing(&self) -> io::Result<usize> {
        let Some(length) = self.frame.first_chunk::<LENGTH_BYTES>() else {
            return Ok(LENGTH_BYTES - self.frame.len());
        };
        let length = u64::from_be_bytes(*length);
        if length > GUEST_FRAME_BYTES_MAX {
            return Err(io::Error::new(ErrorKind::InvalidData, format!("a guest's frame claims {length} bytes")));
        }
        Ok(LENGTH_BYTES + length as usize - self.frame.len())
    }

    /// Lets a whole frame pass, or ends the connection.
    fn admit(&mut self) -> io::Result<()> {
        if !admits(&self.frame[LENGTH_BYTES..], self.gateway) {
            let why = "a guest called past the gateway and is turned out";
            tracing::warn!("{why}");
            return Err(io::Error::new(ErrorKind::PermissionDenied, why));
        }
        self.passing = Some(0);
        Ok(())
    }
}

/// Whether what a frame holds is for no actor but the gateway.
fn admits(frame: &[u8], gateway: u64) -> bool {
    all(frame, |tag, value| match (tag, value) {
        (NODE, Value::Bytes(node)) => all(node, |tag, value| match (tag, value) {
            (CAST | CALL, Value::Bytes(message)) => is_for(message, gateway),
            (tag, _) => tag != CAST && tag != CALL,
        }),
        (tag, _) => tag != NODE,
    })
}

/// Whether a message is for this actor. A number that is given twice could be read either way, one that is absent is 0.
fn is_for(message: &[u8], actor: u64) -> bool {
    let mut last = 0;
    let same = all(message, |tag, value| match (tag, value) {
        (TO, Value::Number(to)) => {
            last = to;
            to == actor
        }
        (tag, _) => tag != TO,
    });
    same && last == actor
}

/// A field's value, as far as it matters here.
#[derive(Clone, Copy)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// Whether a protobuf message can be read and each of its fields is `good`.
fn all(mut message: &[u8], mut good: impl FnMut(u64, Value<'_>) -> bool) -> bool {
    while !message.is_empty() {
        match field(&mut message) {
            Some((tag, value)) if good(tag, value) => {}
            _ => return false,
        }
    }
    true
}

fn field<'a>(at: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let key = varint(at)?;
    let value = match key & 7 {
        0 => Value::Number(varint(at)?),
        1 => take(at, 8).map(|_| Value::Fixed)?,
        2 => {
            let length = usize::try_from(varint(at)?).ok()?;
            Value::Bytes(take(at, length)?)
        }
        5 => take(at, 4).map(|_| Value::Fixed)?,
        // Groups, which nothing here has.
        _ => return None,
    };
    Some((key >> 3, value))
}

fn varint(at: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for place in 0..10 {
        let byte = take(at, 1)?[0];
        // Of the tenth byte one bit fits.
        if place == 9 && byte > 1 {
            return None;
        }
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn take<'a>(at: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, rest) = at.split_at_checked(count)?;
    *at = rest;
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt;

    const GATEWAY: u64 = 300;

    fn number(tag: u8, number: u64) -> Vec<u8> {
        let (mut bytes, mut rest) = (vec![tag << 3], number);
        while rest >= 0x80 {
            bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
        bytes
    }

    fn bytes(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = number(tag, content.len() as u64);
        bytes[0] |= 2;
        bytes.extend(content);
        bytes
    }

    fn check(frame: &[u8], passes: bool) {
        assert_eq!(admits(frame, GATEWAY), passes, "{frame:?}");
    }

    #[test]
    fn a_guests_messages_are_for_the_gateway_or_do_not_come_in() {
        let message = |kind, to: &[u8]| bytes(2, &bytes(kind, to));
        let what = bytes(2, b"what");
        for kind in [1, 2] {
            check(&message(kind, &[number(1, GATEWAY), what.clone()].concat()), true);
            for other in [number(1, GATEWAY + 1), number(1, 0), Vec::new(), bytes(1, b"300")] {
                check(&message(kind, &[other, what.clone()].concat()), false);
            }
            // Said twice, in one message or in two that are read as one.
            check(&message(kind, &[number(1, GATEWAY), number(1, 7)].concat()), false);
            check(&message(kind, &[number(1, 7), number(1, GATEWAY)].concat()), false);
            check(&[message(kind, &number(1, GATEWAY)), message(kind, &number(1, 7))].concat(), false);
        }
        // An answer, a handshake and a control message are for the connection itself.
        for frame in [message(3, &number(1, 7)), bytes(1, b"\x0a\x00"), bytes(3, b"\x0a\x00"), Vec::new()] {
            check(&frame, true);
        }
        for odd in [vec![0x13], vec![0x12, 0x05, 1], vec![0x12, 0x02, 0x0b, 0x0c], vec![0xff; 11], number(2, 1)] {
            check(&odd, false);
        }
    }

    #[tokio::test]
    async fn what_passes_passes_whole_and_nothing_comes_after_what_does_not() {
        let framed = |content: Vec<u8>| [&(content.len() as u64).to_be_bytes()[..], &content].concat();
        let good = framed(bytes(2, &bytes(1, &[number(1, GATEWAY), bytes(2, &[7; 20_000])].concat())));
        let bad = framed(bytes(2, &bytes(1, &number(1, GATEWAY + 1))));
        let said = [good.clone(), good.clone(), bad, good.clone()].concat();
        let mut screen = Screen { guest: &said[..], gateway: GATEWAY, frame: Vec::new(), passing: None };
        let mut heard = vec![0; 2 * good.len()];
        screen.read_exact(&mut heard).await.unwrap();
        assert!(heard == [good.clone(), good].concat());
        assert_eq!(screen.read(&mut heard).await.unwrap_err().kind(), ErrorKind::PermissionDenied);
        let large = (GUEST_FRAME_BYTES_MAX + 1).to_be_bytes();
        let mut screen = Screen { guest: &large[..], gateway: GATEWAY, frame: Vec::new(), passing: None };
        assert_eq!(screen.read(&mut heard).await.unwrap_err().kind(), ErrorKind::InvalidData);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(bytes: Vec<u8>) {
            let _ = admits(&bytes, GATEWAY);
        }
    }
}
