//! Who is who: a node is its Ed25519 public key.
//!
//! Ids of things that nodes make (tasks, runs, threads) are random UUIDs from [`crate::Env::id`]; they need no type here.

use data_encoding::{Encoding, Specification};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr, sync::LazyLock};

/// RFC 4648 base32, lower case, no padding: 52 characters for a key, so that it fits a DNS label.
static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut s = Specification::new();
    s.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    s.encoding().expect("the alphabet is valid")
});

/// A node: its Ed25519 public key, 32 bytes. Printed as 52 characters of base32.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 32]);

impl NodeId {
    /// The node that holds this key. Whether the bytes are a valid curve point shows at the first handshake.
    pub const fn from_bytes(key: [u8; 32]) -> NodeId {
        NodeId(key)
    }

    /// The key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 8 characters: enough for people, never for machines.
    pub fn short(&self) -> String {
        BASE32.encode(&self.0[..5])
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE32.encode(&self.0))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// The text is not 52 characters of lower-case base32.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a node id: expected 52 characters of a-z and 2-7, as `skep nodes --json` prints them")]
pub struct BadNodeId;

impl FromStr for NodeId {
    type Err = BadNodeId;

    fn from_str(text: &str) -> Result<NodeId, BadNodeId> {
        // The length is checked first: the decoder allocates by it.
        if text.len() != 52 {
            return Err(BadNodeId);
        }
        let bytes = BASE32.decode(text.as_bytes()).map_err(|_| BadNodeId)?;
        Ok(NodeId(bytes.try_into().map_err(|_| BadNodeId)?))
    }
}

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.collect_str(self) } else { self.0.serialize(s) }
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<NodeId, D::Error> {
        if d.is_human_readable() {
            String::deserialize(d)?.parse().map_err(de::Error::custom)
        } else {
            <[u8; 32]>::deserialize(d).map(NodeId)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_id_reads_back_as_it_was_printed() {
        let id = NodeId::from_bytes(std::array::from_fn(|i| i as u8 * 7));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().len(), 52);
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "abc", &"a".repeat(51), &"A".repeat(52), &"1".repeat(52), &"a".repeat(4096)] {
            assert_eq!(text.parse::<NodeId>(), Err(BadNodeId));
        }
    }
}
