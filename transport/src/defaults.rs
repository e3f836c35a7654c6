//! Every limit and time-out of the transport, with its unit in its name and why it is what it is.
//!
//! Limits of one mechanism that nobody else meets stand at the top of that mechanism's file.

// ---- Links: connections, streams, frames ----

use std::time::Duration;

/// Addresses kept for one peer: a machine has a few interfaces, and stale ones must not push out good ones.
pub const ADDRESSES_MAX: usize = 8;

/// Peers with known addresses. Hints cost nothing to forge, so the book is bounded; members go first.
pub const PEERS_MAX: usize = 1024;

/// How long a connection may take, from the first packet to both sides' admission, all addresses together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the other side of a stream may take to say what the stream is for.
pub const OPENING_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one exchange on a control stream (a card, a roster) may take.
pub const CONTROL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a stranger may speak the join protocol: as long as an invite is valid. A knock waits for two people.
pub const JOINER_TIMEOUT: Duration = Duration::from_secs(600);

/// How long a conversation by a secret may take: its steps, and the roster's way to disk and to the members.
pub const PROOF_TIMEOUT: Duration = Duration::from_secs(30);

/// Strangers that may speak the join protocol at the same time.
pub const JOINERS_MAX: usize = 32;

/// Of these, from one address: several machines may stand behind it, one must not keep the others out.
pub const JOINERS_PER_ADDRESS_MAX: usize = 8;

/// Of all, those that knock, which may take minutes: half, so that who has a secret always finds a place.
pub const KNOCKERS_MAX: usize = JOINERS_MAX / 2;

/// Of these, from one address.
pub const KNOCKERS_PER_ADDRESS_MAX: usize = JOINERS_PER_ADDRESS_MAX / 2;

/// Unread bytes that whoever dials may have in flight until it is admitted, on all streams together.
pub const STRANGER_BYTES_MAX: u32 = 64 << 10;

/// Handshakes in progress. Beyond it, newcomers are turned away; half of it, they must prove their address.
pub const HANDSHAKES_MAX: usize = 128;

/// Silence after which a connection is dead. Membership notices sooner; handshakes are dear, so this is long.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A packet at least this often keeps a connection, and what lies between, awake: some fit [`IDLE_TIMEOUT`], of which
/// two may be lost. It is not how a crash is noticed, and in a large idle swarm it is most of the traffic.
pub const KEEP_ALIVE: Duration = Duration::from_secs(9);

/// Packets that may wait for their acknowledgement for some milliseconds; the next one asks for it at once.
pub const UNACKED_PACKETS: u32 = 4;

/// The round trip assumed before one was measured: a lost first packet is sent again after three of these.
pub const INITIAL_RTT: Duration = Duration::from_millis(100);

/// Streams that one peer may have open towards this node: bulk and control together.
pub const STREAMS_MAX: u32 = 128;

/// Of these, the streams of bulk that a node opens. The rest is left to control, so that followers of quiet commands
/// can't hold up rosters and cards.
pub const BULK_STREAMS_MAX: usize = STREAMS_MAX as usize - 16;

/// Unread bytes of one stream. 1 MiB each 0.5 ms is 2 GB/s: more than a LAN carries.
pub const STREAM_BYTES_MAX: u32 = 1 << 20;

/// Unread bytes of one member: room for every stream at once, as a reader that is slow on all bulk streams must not stop
/// the link.
pub const MEMBER_BYTES_MAX: u32 = STREAM_BYTES_MAX * (STREAMS_MAX + 2);

/// Datagrams of one peer that wait to be read: fifty full packets, the oldest go first.
pub const DATAGRAM_BYTES_WAITING_MAX: usize = 64 << 10;

/// Bytes on their way to one peer, not yet acknowledged: eight times what 10 GbE holds in a millisecond.
pub const UNACKED_BYTES_MAX: u64 = 10 << 20;

/// Events that wait for their reader; datagrams beyond it are lost.
pub const EVENTS_MAX: usize = 1024;

/// Datagrams that wait for a dial, for each peer: a probe and a few of gossip.
pub const DATAGRAMS_WAITING_MAX: usize = 8;

/// How long [`crate::Mesh::shutdown`] waits until the peers know.
pub const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

// ---- Trust: roster, joining, membership, discovery ----

/// How long an invite is valid: time to walk to the other machine.
pub const INVITE_VALID: Duration = Duration::from_secs(600);

/// How long one step of a join conversation may take: a flush of the roster and a few round trips.
pub const JOIN_STEP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the invited machine looks for the inviter, all addresses together.
pub const JOIN_DIAL_TIMEOUT: Duration = Duration::from_secs(6);

/// How long a join waits for another one on the same node.
pub const JOIN_LOCK_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a new member waits until it sees the one that admitted it.
pub const JOIN_SEEN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the members that answer may take to write a new record before the joiner is welcomed without them.
pub const PUSH_TIMEOUT: Duration = Duration::from_millis(1500);

/// How long two members may take to compare their rosters.
pub const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause between two exchanges with one member for the same reason.
pub const EXCHANGE_PAUSE: Duration = Duration::from_secs(1);

/// How long a member's roster may be said to differ before it is compared: who makes news pushes it to everyone, and
/// what gossip says of rosters is some rounds old. Without this each admission makes every member ask every other.
pub const ROSTER_GRACE: Duration = Duration::from_secs(2);

/// Members whose rosters are compared at a time, each half second, because gossip says that they differ. One comparison
/// with a member that is ahead settles the differences to all who are as far.
pub const COMPARED_MAX: usize = 2;

/// Pause after an exchange that failed, doubled with each failure up to this: what a broken network held up is made
/// good soon after it is healed.
pub const EXCHANGE_PAUSE_MAX: Duration = Duration::from_secs(4);

/// Pause between two questions for the addresses of members that are up and can't be dialled.
pub const HINTS_PAUSE: Duration = Duration::from_secs(1);

/// Pause before a card that could not be pulled is pulled again.
pub const CARD_PAUSE: Duration = Duration::from_secs(2);

/// Commands that wait for the membership's driver.
pub const COMMANDS_MAX: usize = 1024;

/// How often a node looks which addresses its machine has: a laptop that moves is to invite to where it is.
pub const ADDRESSES_PERIOD: Duration = Duration::from_secs(5);

/// Nodes that are no members and whose addresses are remembered: what a crowded LAN can show, and no flood.
pub const SIGHTED_MAX: usize = 256;

/// How long a node listens before it decides whom to join: discovery has answered after a few milliseconds.
pub const SETTLE: Duration = Duration::from_millis(700);

/// How often a node that looks for company looks again.
pub const SEEK_PERIOD: Duration = Duration::from_secs(2);

/// Pause before a machine that refused is tried again.
pub const SEEK_PAUSE: Duration = Duration::from_secs(15);

/// Machines at which a node that is alone knocks at the same time. Each shows six digits of its own.
pub const KNOCKS_MAX: usize = 4;

/// How long a knock waits for the two owners before another door has its turn. It comes back with the same digits.
pub const KNOCK_TIMEOUT: Duration = Duration::from_secs(120);

/// How often a static peer is tried while a member is missing.
pub const STATIC_PEER_PERIOD: Duration = Duration::from_secs(5);

// ---- Guests: programs on this machine ----

/// Programs that may be attached at the same time, those that have yet to show the cookie included.
pub const GUESTS_MAX: usize = 32;

/// How long a program may take to show the cookie: two round trips on loopback, on a machine with much to do.
pub const GUEST_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of one frame from a guest: a message and its address. A larger one ends the guest's session.
pub const GUEST_FRAME_BYTES_MAX: u64 = (skep_runtime::defaults::MESSAGE_BYTES_MAX + (64 << 10)) as u64;

/// Names that a node's guests may publish together.
pub const GUEST_NAMES_MAX: usize = 256;

/// Questions that one guest's actor may leave unanswered; further ones wait in its proxy's mailbox.
pub const GUEST_ASKS_MAX: usize = 256;

/// Calls of all guests that the gateway may have under way; further ones are told `Busy` at once.
pub const GATEWAY_ASKS_MAX: usize = 1024;

/// How long the door's own parts may take to start or to end: they only wait for a scheduler.
pub const DOOR_TIMEOUT: Duration = Duration::from_secs(5);
