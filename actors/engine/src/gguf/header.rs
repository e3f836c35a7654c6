//! The header as a whole: version, metadata, tensor list, and where the tensor data begin.

use std::collections::BTreeMap;
use std::io::Read;

use super::bytes::Bytes;
use super::{Array, Tensor, Texts, Value, tensor, value};
use crate::defaults::{METADATA_ENTRIES_MAX, NAME_BYTES_MAX, TENSORS_MAX};
use crate::error::GgufError;

/// Alignment of tensor data when the file states none.
const ALIGNMENT_DEFAULT: u64 = 32;

/// A checked GGUF header.
#[derive(Clone, Debug, PartialEq)]
pub struct Gguf {
    /// Format version, 2 or 3.
    pub version: u32,
    /// Where the tensor data begin, in bytes from the start of the file.
    pub data_offset: u64,
    /// Length of the file in bytes.
    pub file_bytes: u64,
    /// Metadata by key.
    pub metadata: BTreeMap<String, Value>,
    /// Tensors by name; every one lies within the file.
    pub tensors: BTreeMap<String, Tensor>,
}

impl Gguf {
    /// Reads and checks the header of a file that is `file_bytes` long.
    ///
    /// Reads no further than the end of the tensor list. Memory stays within a small multiple of
    /// the header's own bytes, whatever the bytes say.
    pub fn parse(reader: impl Read, file_bytes: u64) -> Result<Self, GgufError> {
        let mut bytes = Bytes::new(reader, file_bytes);
        let magic = bytes.array::<4>("the magic number")?;
        if &magic != b"GGUF" {
            return Err(GgufError::NotGguf(magic));
        }
        let version = bytes.u32("the version")?;
        if !matches!(version, 2 | 3) {
            return Err(GgufError::Version(version));
        }
        let tensor_count = bytes.u64("the number of tensors")?;
        let metadata_count = bytes.u64("the number of metadata entries")?;

        let metadata = read_metadata(&mut bytes, metadata_count)?;
        let tensors = read_tensors(&mut bytes, tensor_count)?;
        let alignment = alignment(&metadata)?;
        let data_offset = bytes.position().next_multiple_of(alignment);
        if !tensors.is_empty() {
            tensor::check_placement(tensors.iter(), alignment, file_bytes.saturating_sub(data_offset))?;
        }
        Ok(Self { version, data_offset, file_bytes, metadata, tensors })
    }

    /// The text at `key`, if there is one.
    pub fn text(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.typed(key, "a text", |value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// The whole number at `key`, if there is one.
    pub fn number(&self, key: &str) -> Result<Option<u64>, GgufError> {
        self.typed(key, "a whole number", Value::as_u64)
    }

    /// The number at `key`, if there is one.
    pub fn float(&self, key: &str) -> Result<Option<f64>, GgufError> {
        self.typed(key, "a number", Value::as_f64)
    }

    /// The truth value at `key`, if there is one.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.typed(key, "true or false", |value| match value {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        })
    }

    /// The array of texts at `key`, if there is one.
    pub fn texts(&self, key: &str) -> Result<Option<&Texts>, GgufError> {
        self.typed(key, "an array of texts", |value| match value {
            Value::Array(Array::Texts(texts)) => Some(texts),
            _ => None,
        })
    }

    /// The array of numbers at `key`, if there is one.
    pub fn scalars(&self, key: &str) -> Result<Option<&Array>, GgufError> {
        self.typed(key, "an array of numbers", |value| match value {
            Value::Array(array @ Array::Scalars { .. }) => Some(array),
            _ => None,
        })
    }

    fn typed<'g, T>(
        &'g self,
        key: &str,
        wanted: &'static str,
        read: impl Fn(&'g Value) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| GgufError::WrongKind { key: key.to_owned(), wanted }),
        }
    }
}

fn read_metadata<R: Read>(bytes: &mut Bytes<R>, count: u64) -> Result<BTreeMap<String, Value>, GgufError> {
    const ENTRY_BYTES_MIN: u64 = 8 + 1 + 4 + 1;
    let mut metadata = BTreeMap::new();
    for _ in 0..bytes.require_items("metadata entries", count, ENTRY_BYTES_MIN, METADATA_ENTRIES_MAX)? {
        let key = bytes.text("a metadata key", NAME_BYTES_MAX)?;
        let value = value::read(bytes, &key)?;
        if metadata.contains_key(&key) {
            return Err(GgufError::Duplicate(key));
        }
        metadata.insert(key, value);
    }
    Ok(metadata)
}

fn read_tensors<R: Read>(bytes: &mut Bytes<R>, count: u64) -> Result<BTreeMap<String, Tensor>, GgufError> {
    let mut tensors = BTreeMap::new();
    for _ in 0..bytes.require_items("tensors", count, tensor::ENTRY_BYTES_MIN, TENSORS_MAX)? {
        let (name, tensor) = tensor::read(bytes)?;
        if tensors.contains_key(&name) {
            return Err(GgufError::Duplicate(name));
        }
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}

fn alignment(metadata: &BTreeMap<String, Value>) -> Result<u64, GgufError> {
    const KEY: &str = "general.alignment";
    let Some(value) = metadata.get(KEY) else {
        return Ok(ALIGNMENT_DEFAULT);
    };
    let stated =
        value.as_u64().ok_or_else(|| GgufError::WrongKind { key: KEY.to_owned(), wanted: "a whole number" })?;
    if stated.is_power_of_two() && (8..=65_536).contains(&stated) {
        Ok(stated)
    } else {
        Err(GgufError::Alignment(stated))
    }
}
