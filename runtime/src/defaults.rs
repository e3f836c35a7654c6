//! Every limit and time-out of the kernel, with its unit in its name and why it is what it is.
//!
//! Limits of one mechanism that nobody else meets stand at the top of that mechanism's file.

use std::time::Duration;

/// Bytes of one actor message or reply. More is bulk and takes a stream of its own: 1 MiB is a few
/// milliseconds on 1 GbE, so that no call waits longer behind another.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Messages that wait in front of one published actor. At 9 KiB a queued call this is under 10 MiB an actor;
/// senders wait beyond it, and are told `Busy` when their deadline passes.
pub const MAILBOX_MESSAGES_MAX: usize = 1024;

/// How long a `tell` waits for room in the target's mailbox or the link's queue.
pub const TELL_TIMEOUT: Duration = Duration::from_secs(5);

/// The deadline of an `ask` that has no reason for another: a few round trips on a loaded LAN.
pub const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest deadline that any `ask` may carry. What takes longer is a job that is asked about.
pub const ASK_TIMEOUT_MAX: Duration = Duration::from_secs(300);

/// How long a bulk ticket may be used after it was handed out: one call and one stream open.
pub const TICKET_TIMEOUT: Duration = Duration::from_secs(30);

/// Tickets that may be outstanding on one node. Each is 100 bytes; the bound stops a leak, not a user.
pub const TICKETS_MAX: usize = 4096;

/// Bytes in flight on a bulk stream whose both ends are on this node.
pub const LOCAL_STREAM_BYTES: usize = 256 << 10;

/// How long a stopping owner waits for its tasks before it goes on without them.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Characters of an actor's published name.
pub const NAME_CHARS_MAX: usize = 96;

/// Characters of a reason that crosses the wire in an error.
pub const REASON_CHARS_MAX: usize = 512;
