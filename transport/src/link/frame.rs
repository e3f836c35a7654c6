//! The frames of the actor link: what stands on the stream, byte for byte.
//!
//! A frame is a length (u32, little endian, of what follows), a kind (u8) and the kind's fields, the last of which
//! takes the rest. Frames with an id have it first, so that even one that is too long to be read can be answered.
//! Nothing is allocated by a length that the other side claims.

use skep_runtime::{Error, defaults::MESSAGE_BYTES_MAX, trace::Trace, wire};

/// Bytes of a frame that is read: a message, its two names and its numbers.
pub const FRAME_BYTES_MAX: usize = MESSAGE_BYTES_MAX + 1024;
/// A longer frame than this is not a mistake of a size, but of the framing: the link is given up.
pub const SKIPPED_BYTES_MAX: usize = 64 << 20;
/// Bytes asked of the stream at once: one batch of the other side.
const READ_BYTES: usize = 64 << 10;
/// A buffer that grew for one large frame is given back when it is empty.
const BUFFER_BYTES_KEPT: usize = 256 << 10;
/// Bytes of an encoded error: its longest reason and its numbers.
const ERROR_BYTES_MAX: usize = 4096;
/// Bytes of the length in front of a frame.
const LENGTH_BYTES: usize = 4;

/// The kinds of messages. A guest's have their own: a node that doesn't know guests takes none of them.
const TELL: u8 = 1;
const ASK: u8 = 2;
const GUEST_TELL: u8 = 7;
const GUEST_ASK: u8 = 8;

/// What one side tells the other. Borrows from the message on its way out, from the buffer on its way in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A message that wants no answer.
    Tell {
        /// Which request it belongs to.
        trace: Trace,
        /// A guest of the other side sends it.
        guest: bool,
        /// The target's name.
        to: &'a str,
        /// The variant's name.
        kind: &'a str,
        /// The arguments.
        body: &'a [u8],
    },
    /// A message that wants an answer.
    Ask {
        /// Under which number.
        id: u64,
        /// How long the asker waits, in milliseconds.
        deadline_ms: u32,
        /// Which request it belongs to.
        trace: Trace,
        /// A guest of the other side asks it.
        guest: bool,
        /// The target's name.
        to: &'a str,
        /// The variant's name.
        kind: &'a str,
        /// The arguments.
        body: &'a [u8],
    },
    /// The answer to an [`Frame::Ask`], or, empty, to a [`Frame::Ping`].
    Answer {
        /// The question's number.
        id: u64,
        /// The answer.
        body: &'a [u8],
    },
    /// Why there is no answer.
    Failure {
        /// The question's number.
        id: u64,
        /// What happened to it.
        error: Error,
    },
    /// So many more messages may be sent to this actor.
    Grant {
        /// How many.
        count: u32,
        /// The actor's name.
        to: &'a str,
    },
    /// Is this link alive?
    Ping {
        /// Under which number.
        id: u64,
    },
}

/// What came off the stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// A frame.
    Frame(Frame<'a>),
    /// A frame of an allowed length with a content that makes no sense; it was skipped. The number is the
    /// question's, when it is one.
    Malformed(Option<u64>),
    /// A frame over [`FRAME_BYTES_MAX`], which is being skipped; its length, and its number when it is a question.
    TooLarge(usize, Option<u64>),
}

/// The stream is not one of frames, or no longer: give it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame claims {0} bytes: the stream is out of step")]
pub struct OutOfStep(pub usize);

impl Frame<'_> {
    /// Appends the frame. Names are at most 255 bytes, which their callers see to.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; LENGTH_BYTES]);
        match self {
            Frame::Tell { trace, guest, to, kind, body } => {
                out.push(if *guest { GUEST_TELL } else { TELL });
                put_message(out, *trace, to, kind, body);
            }
            Frame::Ask { id, deadline_ms, trace, guest, to, kind, body } => {
                out.push(if *guest { GUEST_ASK } else { ASK });
                out.extend_from_slice(&id.to_le_bytes());
                out.extend_from_slice(&deadline_ms.to_le_bytes());
                put_message(out, *trace, to, kind, body);
            }
            Frame::Answer { id, body } => {
                out.push(3);
                out.extend_from_slice(&id.to_le_bytes());
                out.extend_from_slice(body);
            }
            Frame::Failure { id, error } => {
                out.push(4);
                out.extend_from_slice(&id.to_le_bytes());
                out.extend_from_slice(&wire::encode(error));
            }
            Frame::Grant { count, to } => {
                out.push(5);
                out.extend_from_slice(&count.to_le_bytes());
                out.extend_from_slice(to.as_bytes());
            }
            Frame::Ping { id } => {
                out.push(6);
                out.extend_from_slice(&id.to_le_bytes());
            }
        }
        let length = u32::try_from(out.len() - start - LENGTH_BYTES).expect("senders keep to the size of a message");
        out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
    }

    /// The frame that `content` (what follows the length) is, if it is one.
    pub fn decode(content: &[u8]) -> Option<Frame<'_>> {
        let mut at = Cursor(content);
        Some(match at.u8()? {
            tell @ (TELL | GUEST_TELL) => Frame::Tell {
                trace: Trace(at.u64()?),
                guest: tell == GUEST_TELL,
                to: at.name()?,
                kind: at.name()?,
                body: at.0,
            },
            ask @ (ASK | GUEST_ASK) => Frame::Ask {
                id: at.u64()?,
                deadline_ms: at.u32()?,
                trace: Trace(at.u64()?),
                guest: ask == GUEST_ASK,
                to: at.name()?,
                kind: at.name()?,
                body: at.0,
            },
            3 => Frame::Answer { id: at.u64()?, body: at.0 },
            4 => Frame::Failure { id: at.u64()?, error: wire::decode(at.0, ERROR_BYTES_MAX).ok()? },
            5 => Frame::Grant { count: at.u32()?, to: str::from_utf8(at.0).ok()? },
            6 if at.0.len() == 8 => Frame::Ping { id: at.u64()? },
            _ => return None,
        })
    }
}

/// Bytes that a message of these parts takes at most, its length included.
pub(super) fn message_bytes(to: &str, kind: &str, body: &[u8]) -> usize {
    LENGTH_BYTES + 1 + 8 + 4 + 8 + 2 + to.len() + kind.len() + body.len()
}

fn put_message(out: &mut Vec<u8>, trace: Trace, to: &str, kind: &str, body: &[u8]) {
    out.extend_from_slice(&trace.0.to_le_bytes());
    for name in [to, kind] {
        out.push(u8::try_from(name.len()).expect("senders check the length of names"));
        out.extend_from_slice(name.as_bytes());
    }
    out.extend_from_slice(body);
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn name(&mut self) -> Option<&'a str> {
        let length = self.u8()?;
        str::from_utf8(self.take(length.into())?).ok()
    }
}

/// Cuts a stream into frames, as far as it has come.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Where the next frame begins.
    start: usize,
    /// Bytes of an oversized frame that are still to come.
    skip: usize,
}

impl Decoder {
    /// Where the stream's next bytes are to be appended.
    pub fn space(&mut self) -> &mut Vec<u8> {
        self.buffer.drain(..self.start);
        self.start = 0;
        if self.buffer.is_empty() && self.buffer.capacity() > BUFFER_BYTES_KEPT {
            self.buffer = Vec::new();
        }
        self.buffer.reserve(READ_BYTES);
        &mut self.buffer
    }

    /// The next frame, or `None` until more has come.
    pub fn pop(&mut self) -> Result<Option<Decoded<'_>>, OutOfStep> {
        let skipped = self.skip.min(self.buffer.len() - self.start);
        self.start += skipped;
        self.skip -= skipped;
        let Some(length) = self.buffer[self.start..].first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > FRAME_BYTES_MAX {
            return self.too_large(length);
        }
        let Some(content) = self.buffer[self.start + LENGTH_BYTES..].get(..length) else { return Ok(None) };
        self.start += LENGTH_BYTES + length;
        Ok(Some(match Frame::decode(content) {
            Some(frame) => Decoded::Frame(frame),
            None => Decoded::Malformed(question(content)),
        }))
    }

    fn too_large(&mut self, length: usize) -> Result<Option<Decoded<'_>>, OutOfStep> {
        if length > SKIPPED_BYTES_MAX {
            return Err(OutOfStep(length));
        }
        let content = &self.buffer[self.start + LENGTH_BYTES..];
        // Kind and number have to be there before the rest is thrown away.
        if content.len() < 9 {
            return Ok(None);
        }
        let id = question(content);
        self.start += LENGTH_BYTES;
        self.skip = length;
        Ok(Some(Decoded::TooLarge(length, id)))
    }
}

/// The number of a question, of which at least that much can be read.
fn question(content: &[u8]) -> Option<u64> {
    let mut at = Cursor(content);
    if [ASK, GUEST_ASK].contains(&at.u8()?) { at.u64() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stream(frames: &[Frame<'_>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        frames.iter().for_each(|f| f.encode(&mut bytes));
        bytes
    }

    /// Feeds `bytes` in pieces of `piece` and returns what comes out.
    fn decoded(bytes: &[u8], piece: usize) -> Result<Vec<String>, OutOfStep> {
        let (mut decoder, mut out) = (Decoder::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            decoder.space().extend_from_slice(piece);
            while let Some(decoded) = decoder.pop()? {
                out.push(format!("{decoded:?}"));
            }
        }
        Ok(out)
    }

    fn ask(id: u64, body: &[u8]) -> Frame<'_> {
        Frame::Ask { id, deadline_ms: 5000, trace: Trace(9), guest: false, to: "echo", kind: "Say", body }
    }

    #[test]
    fn every_frame_comes_out_as_it_went_in_however_the_stream_is_cut() {
        let frames = [
            Frame::Tell { trace: Trace(3), guest: false, to: "log", kind: "Note", body: b"hello" },
            Frame::Tell { trace: Trace(3), guest: true, to: "log", kind: "Note", body: b"hello" },
            ask(1, b""),
            Frame::Answer { id: 1, body: b"yes" },
            Frame::Failure { id: 2, error: Error::Busy("log".into()) },
            Frame::Grant { count: 64, to: "log" },
            Frame::Ping { id: 3 },
        ];
        let expected: Vec<_> = frames.iter().map(|f| format!("{:?}", Decoded::Frame(f.clone()))).collect();
        for piece in [1, 2, 7, 4096] {
            assert_eq!(decoded(&stream(&frames), piece).unwrap(), expected);
        }
    }

    #[test]
    fn an_oversized_question_is_skipped_and_can_be_answered_and_the_next_frame_is_read() {
        let body = vec![0; FRAME_BYTES_MAX];
        let bytes = stream(&[ask(7, &body), Frame::Ping { id: 8 }]);
        let out = decoded(&bytes, 1000).unwrap();
        assert!(out[0].starts_with("TooLarge(") && out[0].ends_with("Some(7))"), "{}", out[0]);
        assert_eq!(out[1..], [format!("{:?}", Decoded::Frame(Frame::Ping { id: 8 }))]);
    }

    #[test]
    fn a_length_beyond_reason_ends_the_stream_before_anything_is_allocated() {
        assert_eq!(decoded(&u32::MAX.to_le_bytes(), 4), Err(OutOfStep(u32::MAX as usize)));
    }

    #[test]
    fn a_malformed_question_keeps_its_number() {
        let mut bytes = stream(&[ask(7, b"")]);
        bytes[4 + 1 + 8 + 4 + 8] = 200; // the target's name claims more than there is
        assert_eq!(decoded(&bytes, 100).unwrap(), [format!("{:?}", Decoded::Malformed(Some(7)))]);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_decoded_or_refused(bytes: Vec<u8>, piece in 1usize..64) {
            let _ = decoded(&bytes, piece);
            let _ = Frame::decode(&bytes);
        }

        #[test]
        fn a_changed_byte_never_costs_the_frame_after_it(at in 4usize..30, bit in 0u8..8) {
            let mut bytes = stream(&[ask(7, b"body"), Frame::Ping { id: 8 }]);
            bytes[at] ^= 1 << bit;
            let out = decoded(&bytes, 1000).unwrap();
            prop_assert_eq!(out.len(), 2);
            prop_assert_eq!(&out[1], &format!("{:?}", Decoded::Frame(Frame::Ping { id: 8 })));
        }

        #[test]
        fn messages_come_back(id: u64, deadline_ms: u32, trace: u64, guest: bool, to in "[a-z/]{0,96}", kind in "[A-Za-z]{1,40}", body: Vec<u8>) {
            let frame = Frame::Ask { id, deadline_ms, trace: Trace(trace), guest, to: &to, kind: &kind, body: &body };
            let bytes = stream(std::slice::from_ref(&frame));
            prop_assert!(bytes.len() <= message_bytes(&to, &kind, &body));
            prop_assert_eq!(Frame::decode(&bytes[4..]), Some(frame));
        }
    }
}
