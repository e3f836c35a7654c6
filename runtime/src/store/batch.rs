//! A batch: writes to any tables that become durable together or not at all.

use super::{Error, Key, Table, seal::SEAL_BYTES};
use serde::{Serialize, de::DeserializeOwned};
use std::borrow::Cow;

/// Longest key, in bytes: keys are ids and short tuples of them.
pub const KEY_BYTES_MAX: usize = 1024;
/// Longest encoded value, in bytes: what is larger is a blob and belongs in a file.
pub const VALUE_BYTES_MAX: usize = 16 << 20;
/// Most bytes of keys and values in a batch: it is held in memory at least twice while it is written.
pub const BATCH_BYTES_MAX: usize = 64 << 20;
/// Most writes in a batch, so that one doesn't hold the writer for long.
pub const BATCH_OPS_MAX: usize = 10_000;

/// Writes that become durable together. Build it, then hand it to `Store::commit`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    ops: Vec<Op>,
    bytes: usize,
}

/// One write of a batch, as a back end sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// The table's name.
    pub table: Cow<'static, str>,
    /// The key's bytes.
    pub key: Vec<u8>,
    /// The sealed record; `None` deletes.
    pub value: Option<Vec<u8>>,
}

impl Batch {
    /// A batch without writes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes `value` under `key`, replacing what is there. A later write of the same key wins.
    ///
    /// # Errors
    /// [`Error::TooLarge`], or [`Error::Undecodable`] if the value could never be read back. The batch stays as
    /// it was.
    pub fn put<K: Key, V>(&mut self, table: Table<K, V>, key: &K, value: &V) -> Result<(), Error>
    where
        V: Serialize + DeserializeOwned,
    {
        let key = key.to_bytes();
        let value = table.encode(&key, value)?;
        self.push(Op { table: Cow::Borrowed(table.name()), key, value: Some(value) })
    }

    /// Deletes what is under `key`, if anything is.
    ///
    /// # Errors
    /// [`Error::TooLarge`]; the batch stays as it was.
    pub fn delete<K: Key, V>(&mut self, table: Table<K, V>, key: &K) -> Result<(), Error> {
        self.push(Op { table: Cow::Borrowed(table.name()), key: key.to_bytes(), value: None })
    }

    /// Its writes, in order.
    #[must_use]
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// Bytes of its keys and sealed values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it has no write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Adds a write if it and the batch stay within the limits.
    pub(super) fn push(&mut self, op: Op) -> Result<(), Error> {
        at_most("a key in bytes", op.key.len(), KEY_BYTES_MAX)?;
        let value_bytes = op.value.as_ref().map_or(0, Vec::len);
        at_most("a value in bytes", value_bytes.saturating_sub(SEAL_BYTES), VALUE_BYTES_MAX)?;
        at_most("a batch in writes", self.ops.len() + 1, BATCH_OPS_MAX)?;
        let bytes = self.bytes + op.key.len() + value_bytes;
        at_most("a batch in bytes", bytes, BATCH_BYTES_MAX)?;
        self.bytes = bytes;
        self.ops.push(op);
        Ok(())
    }

    /// Whether `other` still fits in without passing the limits of one batch.
    pub(super) fn has_room_for(&self, other: &Batch) -> bool {
        self.ops.len() + other.ops.len() <= BATCH_OPS_MAX && self.bytes + other.bytes <= BATCH_BYTES_MAX
    }

    /// Puts `other`'s writes behind its own: the group that is flushed once.
    pub(super) fn append(&mut self, mut other: Batch) {
        self.bytes += other.bytes;
        self.ops.append(&mut other.ops);
    }

    /// Whether it only deletes, hence may use the disk's last bytes.
    pub(super) fn only_deletes(&self) -> bool {
        self.ops.iter().all(|op| op.value.is_none())
    }
}

fn at_most(what: &'static str, size: usize, limit: usize) -> Result<(), Error> {
    if size > limit { Err(Error::TooLarge { what, size, limit }) } else { Ok(()) }
}
