//! A table's name and types, as a constant beside the type that it stores.

use super::{Error, Key, VALUE_BYTES_MAX, seal};
use crate::wire;
use serde::{Serialize, de::DeserializeOwned};
use std::marker::PhantomData;

/// Longest name of a table, in bytes: engines put it before each key.
pub const TABLE_NAME_BYTES_MAX: usize = 64;

/// A longer payload is decoded once before it is written: the codec's own limit counts memory, not bytes, and
/// what it would refuse to read back must not be acknowledged.
const UNTRIED_BYTES_MAX: usize = 128 << 10;

/// A table of `V` by `K`: `const TASKS: Table<TaskId, Task> = Table::new("tasks");`
pub struct Table<K, V> {
    name: &'static str,
    layout: u8,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Table<K, V> {
    /// The table with this name, of layout 1.
    ///
    /// # Panics
    /// If the name is empty or longer than [`TABLE_NAME_BYTES_MAX`]: at compile time for a constant.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        assert!(!name.is_empty() && name.len() <= TABLE_NAME_BYTES_MAX, "a table's name has 1 to 64 bytes");
        Self { name, layout: 1, types: PhantomData }
    }

    /// The same table with another layout number. Raise it when `V` changes, so that old bytes are refused
    /// ([`Error::Layout`]) and never misread.
    #[must_use]
    pub const fn layout(self, layout: u8) -> Self {
        Self { name: self.name, layout, types: PhantomData }
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<K: Key, V: Serialize + DeserializeOwned> Table<K, V> {
    /// The sealed record of `value` under `key`.
    pub(super) fn encode(&self, key: &[u8], value: &V) -> Result<Vec<u8>, Error> {
        let payload = wire::encode(value);
        if payload.len() > UNTRIED_BYTES_MAX {
            self.decode_payload(key, &payload)?;
        }
        Ok(seal::seal(self.name, key, self.layout, &payload))
    }

    /// The value in a sealed record.
    pub(super) fn decode(&self, key: &[u8], sealed: &[u8]) -> Result<V, Error> {
        let (layout, payload) = seal::unseal(self.name, key, sealed)?;
        if layout != self.layout {
            return Err(Error::Layout { table: self.name.to_owned(), found: layout, expected: self.layout });
        }
        self.decode_payload(key, payload)
    }

    /// The key that these bytes are.
    pub(super) fn decode_key(&self, key: &[u8]) -> Result<K, Error> {
        K::from_bytes(key).ok_or_else(|| self.undecodable(key, "the key is of another type".to_owned()))
    }

    fn decode_payload(&self, key: &[u8], payload: &[u8]) -> Result<V, Error> {
        wire::decode(payload, VALUE_BYTES_MAX).map_err(|error| self.undecodable(key, error.to_string()))
    }

    fn undecodable(&self, key: &[u8], reason: String) -> Error {
        Error::Undecodable { table: self.name.to_owned(), key: key.to_vec(), reason }
    }
}

// By hand: a derive would ask K and V to be `Copy` too.
impl<K, V> Clone for Table<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Table<K, V> {}
