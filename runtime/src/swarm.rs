//! The seam to membership and trust: what a node's owner can ask of the swarm. Implemented by `transport`.

use crate::{Load, NodeId};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::{fmt, net::SocketAddr};

/// An open invitation. Its `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    /// One line for `skep join`: the inviter's key, addresses and a one-time secret.
    pub line: String,
    /// Six characters that do the same when typed next to an address: they work by a PAKE, with few tries.
    pub code: String,
    /// Where this node can be reached: the addresses in the line, and what to type next to the code.
    pub addresses: Vec<SocketAddr>,
    /// When it expires, in milliseconds since 1970.
    pub expires_ms: u64,
}

impl fmt::Debug for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invite").field("expires_ms", &self.expires_ms).finish_non_exhaustive()
    }
}

/// A machine that asks to be let in, seen by discovery or by its knock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Its key.
    pub id: NodeId,
    /// The name that it gives itself.
    pub name: String,
    /// Where it knocks from.
    pub address: SocketAddr,
    /// Six digits that both screens show; they depend on both keys.
    pub code: String,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
}

/// One line of `skep doctor`: what was looked at, and what to do if it is not well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at: `interfaces`, `multicast`, `port`, `roster`, `version`, ...
    pub check: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found, and the next step if it isn't well.
    pub detail: String,
}

/// Why a request to the swarm failed. Nothing changed unless the variant says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not an invite: a part is missing or was changed on the way.
    #[error("this is not an invite: copy the whole line that `skep invite` printed")]
    BadInvite,
    /// The invite's ten minutes are over, or it was used, or taken back.
    #[error("the invite is expired or was used already: ask for a new one with `skep invite`")]
    Spent,
    /// The short code was wrong; few tries remain before the invite dies.
    #[error("the code is wrong: check it on the other screen ({tries_left} tries left)")]
    WrongCode {
        /// Tries before the invite dies.
        tries_left: u8,
    },
    /// The other side is not the machine that the invite names.
    #[error("the machine at that address is not the one that invited: is the address right?")]
    WrongPeer,
    /// Nobody answered at any of the addresses.
    #[error("nobody answers at {0}: is `skep up` running there, and is UDP open between the machines?")]
    Unreachable(String),
    /// This node already has company; it must leave before it can join another swarm.
    #[error("this node is already in a swarm of {0}: run `skep leave --forget` first")]
    AlreadyMember(usize),
    /// No such member or waiting machine.
    #[error("no such node: {0}")]
    NoSuchNode(String),
    /// A change of the roster needs more than half of it to answer.
    #[error("only {up} of {of} members answer: more than half are needed, or --force, which risks two rosters")]
    NoMajority {
        /// Members that answer, this node included.
        up: usize,
        /// Members on the roster.
        of: usize,
    },
    /// The node can't do this to itself.
    #[error("a node can't evict itself: use `skep leave --forget`")]
    Oneself,
    /// The other side refused, with its reason.
    #[error("refused: {0}")]
    Refused(String),
    /// The roster could not be written to this node's disk.
    #[error("the roster could not be saved: {0}")]
    Store(String),
    /// The other side or the disk did not answer in time.
    #[error("no answer in time; nothing was changed here")]
    Timeout,
}

/// What a node's owner can ask of membership and trust.
pub trait Swarm: Send + Sync + 'static {
    /// Which swarm this node is in: another one after it has left for good, was evicted, or joined.
    fn swarm_id(&self) -> [u8; 32];

    /// Publishes this node's card under a new version; members pull it.
    fn announce(&self, card: Vec<u8>);

    /// Publishes how busy this node is, with the next gossip.
    fn report(&self, load: Load);

    /// Opens an invitation.
    fn invite(&self) -> BoxFuture<'_, Result<Invite, Error>>;

    /// Whether this is the line of an invitation of this node's that still lets a machine in.
    fn opens(&self, line: &str) -> bool;

    /// Joins the swarm that `invite` opens: the whole line, or `CODE@HOST:PORT`. Ready when this node is a
    /// member; it waits a little to see the inviter up, and doesn't fail if it can't. Who invites is of this swarm
    /// already: nothing is to be done.
    fn join(&self, invite: String) -> BoxFuture<'_, Result<(), Error>>;

    /// The machines that wait to be let in.
    fn waiting(&self) -> Vec<Waiting>;

    /// Admits the waiting machine whose screen shows `code`.
    fn approve(&self, code: String) -> BoxFuture<'_, Result<NodeId, Error>>;

    /// Takes a member off the roster for good: its connections close and no message of it is obeyed again.
    fn evict(&self, id: NodeId, force: bool) -> BoxFuture<'_, Result<(), Error>>;

    /// Says goodbye to everyone. The node stays a member and comes back by starting again; with `forget` it
    /// takes itself off the roster and becomes a swarm of one.
    fn leave(&self, forget: bool) -> BoxFuture<'_, Result<(), Error>>;

    /// Signs bytes with this node's key, for one purpose, which `context` names.
    fn sign(&self, context: &str, bytes: &[u8]) -> [u8; 64];

    /// Whether `signer` signed these bytes for this purpose.
    fn signed(&self, signer: &NodeId, context: &str, bytes: &[u8], signature: &[u8; 64]) -> bool;

    /// The same of a signature as it comes out of a record: one of another length is none.
    fn vouched(&self, signer: &NodeId, context: &str, bytes: &[u8], signature: &[u8]) -> bool {
        signature.try_into().is_ok_and(|signature: &[u8; 64]| self.signed(signer, context, bytes, signature))
    }

    /// Looks at everything between this node and its peers.
    fn diagnose(&self) -> BoxFuture<'_, Vec<Finding>>;
}
