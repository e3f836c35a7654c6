//! Proofs that one side knows a secret, bound to both TLS keys, both nonces and the direction.
//!
//! HMAC-SHA-256 over a transcript of fixed shape. A proof shows nothing of the secret and is of no use on
//! another connection: a man in the middle has other keys on each side.

use super::protocol::Outline;
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign, verify};
use skep_runtime::{NodeId, wire};

/// What both sides of one conversation know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Transcript {
    /// The one that wants in, by its TLS key.
    pub(super) joiner: NodeId,
    /// The member that it talks to, by its TLS key.
    pub(super) door: NodeId,
    /// The joiner's random bytes.
    pub(super) joiner_nonce: [u8; 32],
    /// The member's random bytes.
    pub(super) door_nonce: [u8; 32],
    /// The swarm as the member described it.
    pub(super) outline: Outline,
}

/// Who proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Joiner,
    Door,
}

impl Transcript {
    /// The proof that `side` knows `secret`.
    pub(super) fn prove(&self, secret: &[u8], side: Side) -> [u8; 32] {
        let tag = sign(&Key::new(HMAC_SHA256, secret), &self.bytes(side));
        tag.as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes")
    }

    /// Whether `proof` is that of `side`. Takes the same time for each wrong one.
    pub(super) fn holds(&self, secret: &[u8], side: Side, proof: &[u8; 32]) -> bool {
        verify(&Key::new(HMAC_SHA256, secret), &self.bytes(side), proof).is_ok()
    }

    fn bytes(&self, side: Side) -> Vec<u8> {
        let label = match side {
            Side::Joiner => "skep join 1: joiner",
            Side::Door => "skep join 1: door",
        };
        wire::encode(&(label, self.joiner, self.door, self.joiner_nonce, self.door_nonce, &self.outline))
    }
}
