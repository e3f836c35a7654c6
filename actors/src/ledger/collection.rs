//! A collection: what its values are, as a constant beside the type that it holds.

use super::{
    core::Write,
    entry::{Key, Version},
};
use serde::{Serialize, de::DeserializeOwned};
use skep_runtime::wire;
use std::marker::PhantomData;

/// Records of `V` under ids of bytes: `const TASKS: Collection<Record> = Collection::new(1, 1);`
///
/// Numbers are for ever: a collection that is given up keeps its own.
pub struct Collection<V> {
    number: u8,
    format: u8,
    values: PhantomData<fn() -> V>,
}

impl<V> Clone for Collection<V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for Collection<V> {}

/// A record as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<V> {
    /// Which one.
    pub id: Vec<u8>,
    /// Which version of it.
    pub version: Version,
    /// What it says.
    pub value: V,
}

impl<V> Collection<V> {
    /// The collection with this number, whose values are in this format. Raise the format when `V` changes: nodes of
    /// another version then leave the value alone and never misread it.
    pub const fn new(number: u8, format: u8) -> Collection<V> {
        Collection { number, format, values: PhantomData }
    }

    /// Its number.
    pub const fn number(&self) -> u8 {
        self.number
    }

    /// What the record of this id is found by.
    pub fn key(&self, id: &[u8]) -> Key {
        Key { collection: self.number, id: id.to_vec() }
    }
}

impl<V: Serialize + DeserializeOwned> Collection<V> {
    /// The change that gives a record this value, or deletes it, in its owner's term: 0 if nobody owns it.
    pub fn write(&self, id: &[u8], term: u64, value: Option<&V>) -> Write {
        Write { key: self.key(id), term, value: value.map(|value| self.encode(value)) }
    }

    /// A value's bytes.
    pub fn encode(&self, value: &V) -> Vec<u8> {
        let mut bytes = vec![self.format];
        bytes.extend(wire::encode(value));
        bytes
    }

    /// The value in these bytes; `None` if they are of another format, or none at all.
    pub fn decode(&self, bytes: &[u8]) -> Option<V> {
        let (format, rest) = bytes.split_first()?;
        (*format == self.format).then(|| wire::decode(rest, super::entry::VALUE_BYTES_MAX).ok())?
    }
}
