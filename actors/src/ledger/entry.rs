//! What the ledger holds: a key, a version that says which of two is the later one, and a value or the news that there
//! is none any more.

use super::stamp::Stamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes of a key's id: ids and keys of nodes are 16 and 32, names fit too.
pub const ID_BYTES_MAX: usize = 128;
/// Bytes of a value: a command's record with all that it may hold. A message carries several.
pub const VALUE_BYTES_MAX: usize = 256 << 10;

/// What a record is found by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// The collection's number ([`super::collection`]).
    pub collection: u8,
    /// What it is within it.
    pub id: Vec<u8>,
}

/// Which of two values of a key counts: the one of the later term, then the one that was written later.
///
/// A term is an owner's: who takes a record over raises it, so that whatever the former owner still writes, late or in
/// another half of the network, loses everywhere. Records that nobody owns have term 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    /// The owner's term.
    pub term: u64,
    /// When it was written.
    pub stamp: Stamp,
}

/// A record on its way between nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What it is found by.
    pub key: Key,
    /// Which one it is.
    pub version: Version,
    /// Its bytes as its collection encodes them; `None`: it was deleted.
    pub value: Option<Vec<u8>>,
}

impl Entry {
    /// Whether it keeps to the bounds: who sent it may be of another version, or worse.
    pub fn is_sound(&self) -> bool {
        !self.key.id.is_empty()
            && self.key.id.len() <= ID_BYTES_MAX
            && self.value.as_ref().is_none_or(|value| value.len() <= VALUE_BYTES_MAX)
    }

    /// About as many bytes as it takes in a message.
    pub fn bytes(&self) -> usize {
        64 + self.key.id.len() + self.value.as_ref().map_or(0, Vec::len)
    }
}

impl Key {
    /// Where it stands in the forest: spread evenly, the same on every node.
    pub(super) fn place(&self) -> u16 {
        let [first, second, ..] = hash(&[&[self.collection], &self.id]).to_le_bytes();
        u16::from_le_bytes([first, second])
    }

    /// A number that stands for this key in this version.
    pub(super) fn print(&self, version: &Version) -> u64 {
        let Version { term, stamp } = version;
        hash(&[
            &[self.collection],
            &self.id,
            &term.to_le_bytes(),
            &stamp.ms.to_le_bytes(),
            &stamp.count.to_le_bytes(),
            stamp.node.as_bytes(),
        ])
    }
}

/// The first eight bytes of SHA-256 over the parts, each with its length: nobody can make two that look alike.
fn hash(parts: &[&[u8]]) -> u64 {
    let mut sum = Sha256::new();
    for part in parts {
        sum.update((part.len() as u64).to_le_bytes());
        sum.update(part);
    }
    let sum: [u8; 32] = sum.finalize().into();
    u64::from_le_bytes(*sum.first_chunk().expect("32 bytes hold 8"))
}
