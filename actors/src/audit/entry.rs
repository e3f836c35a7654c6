//! One entry of a node's audit log: what happened, and the hash that ties it to everything before it.
//!
//! The hash covers the bytes that lie on the disk, so that an entry of another version, which nobody here understands, is
//! still checked. What they mean stands in [`What`]; whether a chain of them is whole is [`super::chain`]'s to say.

use crate::digest::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use skep_runtime::{NodeId, wire};
use uuid::Uuid;

/// What stands before the first entry.
pub const NOTHING: Digest = Digest([0; 32]);
/// Bytes of arguments and of a result that an entry keeps, each: the beginning, enough to see what was done. The whole is
/// known by its digest.
pub const COPY_BYTES_MAX: usize = 2 << 10;
/// Bytes of a name or a reason, whoever said it.
pub const TEXT_BYTES_MAX: usize = 512;
/// The last number that an entry can have: what JSON holds exactly, and no log ever comes to.
pub const SEQ_MAX: u64 = 1 << 53;
/// How entries' bodies are written: raised when [`What`] changes, so that older ones are not misread.
const FORMAT: u8 = 1;
/// Bytes of an entry's body: its copies and names, with what quoting adds.
const BODY_BYTES_MAX: usize = 64 << 10;

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// An agent wanted to call a tool, and this is what the policy says.
    Judged {
        /// The call.
        call: Uuid,
        /// Who wanted it.
        who: Who,
        /// The tool's name.
        tool: String,
        /// The SHA-256 of its exact arguments, in their canonical form.
        args: Digest,
        /// The beginning of them.
        input: String,
        /// What the policy says.
        verdict: Verdict,
        /// The rule that said so, if one did.
        rule: Option<String>,
        /// Why, if it was refused.
        reason: Option<String>,
        /// The request that waits for the owner, if somebody has to be asked.
        request: Option<Uuid>,
    },
    /// A request was answered, or nobody answered it.
    Decided {
        /// The request.
        request: Uuid,
        /// The turn that its call belongs to.
        turn: Uuid,
        /// The tool that was to be called.
        tool: String,
        /// The SHA-256 of the exact arguments that were decided about.
        args: Digest,
        /// What was decided.
        outcome: Outcome,
        /// Who decided, as they call themselves. Whoever did had a node's token.
        by: String,
        /// The node that they asked.
        via: NodeId,
        /// What they said about it.
        reason: Option<String>,
    },
    /// A call is made, from here on.
    Began {
        /// The call.
        call: Uuid,
        /// Its turn.
        turn: Uuid,
        /// The tool.
        tool: String,
        /// The SHA-256 of its exact arguments.
        args: Digest,
        /// The request that was approved for it, if it needed one.
        request: Option<Uuid>,
    },
    /// A call has come to its end.
    Ended {
        /// The call.
        call: Uuid,
        /// Its turn.
        turn: Uuid,
        /// It went well.
        ok: bool,
        /// The beginning of what it gave.
        output: String,
        /// The SHA-256 of all of it.
        result: Digest,
        /// Milliseconds that it took.
        took_ms: u64,
    },
    /// The owner changed the policy.
    Policy {
        /// The SHA-256 of the policy as it is now.
        digest: Digest,
        /// How many rules it has.
        rules: u32,
        /// Who changed it, as they call themselves.
        by: String,
    },
    /// Older entries were removed from the disk to keep the log within its bound: all up to this one.
    Cut(Head),
    /// Other members have seen more of this log than there is: it was cut short, rewritten, or its disk was lost.
    Lost(Head),
}

/// Who wanted a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// The agent's name, if it is one that the swarm has defined.
    pub agent: String,
    /// The run.
    pub run: Uuid,
    /// The turn that the whole tree of runs works for.
    pub turn: Uuid,
    /// The thread whose budget it spends.
    pub thread: Uuid,
}

/// What the policy says about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Verdict {
    /// It may be made. So it is without any rule: whoever gave the goal named its tools.
    #[default]
    Allow,
    /// Somebody has to be asked.
    Ask,
    /// It may not be made.
    Deny,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The call may be made.
    Approved,
    /// It may not.
    Denied,
    /// Nobody answered in time, which is a no.
    TimedOut,
    /// Whoever wanted it is gone.
    Withdrawn,
}

/// Where a log stood: its last entry and that one's hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The entry's number; 0: there was none.
    pub seq: u64,
    /// Its hash.
    pub hash: Digest,
}

/// An entry, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The node whose log it is of.
    pub node: NodeId,
    /// Its number, from 1.
    pub seq: u64,
    /// When, in milliseconds since 1970 by that node's clock.
    pub at_ms: u64,
    /// What happened; `None` if it is of another version.
    pub what: Option<What>,
    /// Its hash.
    pub hash: Digest,
}

/// An entry, as it lies on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// When.
    pub at_ms: u64,
    /// How the body is written.
    pub format: u8,
    /// What happened.
    pub body: Vec<u8>,
    /// The hash of the entry before it.
    pub prev: Digest,
    /// Its own.
    pub hash: Digest,
}

impl What {
    /// The turn that it belongs to.
    pub fn turn(&self) -> Option<Uuid> {
        match self {
            What::Judged { who, .. } => Some(who.turn),
            What::Decided { turn, .. } | What::Began { turn, .. } | What::Ended { turn, .. } => Some(*turn),
            What::Policy { .. } | What::Cut(_) | What::Lost(_) => None,
        }
    }
}

impl Row {
    /// The entry that follows `prev` in the log of `node`.
    pub fn new(node: NodeId, seq: u64, at_ms: u64, what: &What, prev: Digest) -> Row {
        let mut row = Row { at_ms, format: FORMAT, body: wire::encode(what), prev, hash: NOTHING };
        row.hash = row.sum(node, seq);
        row
    }

    /// What its hash has to be. Every part has a fixed length or says it, so that no two entries look alike.
    pub fn sum(&self, node: NodeId, seq: u64) -> Digest {
        let mut sum = Sha256::new();
        sum.update(b"skep audit\0");
        sum.update(node.as_bytes());
        sum.update(seq.to_le_bytes());
        sum.update(self.at_ms.to_le_bytes());
        sum.update([self.format]);
        sum.update((self.body.len() as u64).to_le_bytes());
        sum.update(&self.body);
        sum.update(self.prev.0);
        Digest(sum.finalize().into())
    }

    /// What it says, if that is understood here.
    pub fn what(&self) -> Option<What> {
        if self.format == FORMAT { wire::decode(&self.body, BODY_BYTES_MAX).ok() } else { None }
    }

    /// As it is shown.
    pub fn shown(&self, node: NodeId, seq: u64) -> Entry {
        Entry { node, seq, at_ms: self.at_ms, what: self.what(), hash: self.hash }
    }
}
