//! Metadata values: scalars, texts and flat arrays of them. Arrays stay packed as in the file, so
//! that a hostile one can't take much more memory than its own bytes.

use std::io::Read;

use super::bytes::Bytes;
use crate::defaults::{ARRAY_ITEMS_MAX, ARRAY_TEXT_BYTES_MAX, TEXT_BYTES_MAX};
use crate::error::GgufError;

/// A metadata value. Numbers are widened; the file's width carries no meaning.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// An unsigned whole number.
    Unsigned(u64),
    /// A signed whole number.
    Signed(i64),
    /// A floating-point number.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// A text.
    Text(String),
    /// An array of numbers, truth values or texts.
    Array(Array),
}

/// A flat array.
#[derive(Clone, Debug, PartialEq)]
pub enum Array {
    /// Numbers or truth values, packed as in the file.
    Scalars {
        /// The kind of each item.
        kind: Kind,
        /// The items, little-endian, without gaps.
        packed: Vec<u8>,
    },
    /// Texts.
    Texts(Texts),
}

/// Many texts in one buffer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Texts {
    text: String,
    ends: Vec<u32>,
}

impl Texts {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The text at `index`.
    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)? as usize;
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        self.text.get(start..end)
    }

    /// All of them in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

/// Kinds of scalars, by their numbers in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the documentation")]
pub enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    U64,
    I64,
    F64,
}

/// The kind number of a text.
const TEXT: u32 = 8;
/// The kind number of an array.
const ARRAY: u32 = 9;

impl Kind {
    fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::U16,
            3 => Self::I16,
            4 => Self::U32,
            5 => Self::I32,
            6 => Self::F32,
            7 => Self::Bool,
            10 => Self::U64,
            11 => Self::I64,
            12 => Self::F64,
            _ => return None,
        })
    }

    /// Bytes of one item.
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// Reads one item from exactly [`Kind::bytes`] bytes.
    fn decode(self, packed: &[u8]) -> Value {
        let mut wide = [0; 8];
        wide[..packed.len()].copy_from_slice(packed);
        let raw = u64::from_le_bytes(wide);
        match self {
            Self::U8 | Self::U16 | Self::U32 | Self::U64 => Value::Unsigned(raw),
            Self::I8 => Value::Signed(i64::from(raw as u8 as i8)),
            Self::I16 => Value::Signed(i64::from(raw as u16 as i16)),
            Self::I32 => Value::Signed(i64::from(raw as u32 as i32)),
            Self::I64 => Value::Signed(raw as i64),
            Self::F32 => Value::Float(f64::from(f32::from_bits(raw as u32))),
            Self::F64 => Value::Float(f64::from_bits(raw)),
            Self::Bool => Value::Bool(raw != 0),
        }
    }
}

impl Array {
    /// How many items it has.
    pub fn len(&self) -> usize {
        match self {
            Self::Scalars { kind, packed } => packed.len() / kind.bytes(),
            Self::Texts(texts) => texts.len(),
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The scalars in order; nothing for an array of texts.
    pub fn scalars(&self) -> impl Iterator<Item = Value> {
        let (kind, packed) = match self {
            Self::Scalars { kind, packed } => (*kind, packed.as_slice()),
            Self::Texts(_) => (Kind::U8, [].as_slice()),
        };
        packed.chunks_exact(kind.bytes()).map(move |item| kind.decode(item))
    }
}

impl Value {
    /// The number, if it is a whole one and not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Unsigned(number) => Some(*number),
            Self::Signed(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// The number as a floating-point one.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Float(number) => Some(*number),
            Self::Unsigned(number) => Some(*number as f64),
            Self::Signed(number) => Some(*number as f64),
            _ => None,
        }
    }
}

/// Reads the value of `key`.
pub(super) fn read<R: Read>(bytes: &mut Bytes<R>, key: &str) -> Result<Value, GgufError> {
    match bytes.u32("the kind of a metadata value")? {
        TEXT => bytes.text("a metadata text", TEXT_BYTES_MAX).map(Value::Text),
        ARRAY => read_array(bytes, key).map(Value::Array),
        number => {
            let kind = kind(key, number)?;
            let mut packed = Vec::new();
            bytes.append("a metadata value", kind.bytes() as u64, &mut packed)?;
            Ok(kind.decode(&packed))
        }
    }
}

fn read_array<R: Read>(bytes: &mut Bytes<R>, key: &str) -> Result<Array, GgufError> {
    let number = bytes.u32("the kind of an array")?;
    let count = bytes.u64("the length of an array")?;
    if number == TEXT {
        return read_texts(bytes, count).map(Array::Texts);
    }
    // An array in an array ends here as an unknown kind: no model uses it, and recursion is unbounded work.
    let kind = kind(key, number)?;
    let items = bytes.require_items("items in an array", count, kind.bytes() as u64, ARRAY_ITEMS_MAX)?;
    let mut packed = Vec::new();
    bytes.append("an array", (items * kind.bytes()) as u64, &mut packed)?;
    Ok(Array::Scalars { kind, packed })
}

fn read_texts<R: Read>(bytes: &mut Bytes<R>, count: u64) -> Result<Texts, GgufError> {
    const LENGTH_BYTES: u64 = 8;
    let at = bytes.position();
    let items = bytes.require_items("texts in an array", count, LENGTH_BYTES, ARRAY_ITEMS_MAX)?;
    let mut ends = Vec::with_capacity(items);
    let mut buffer = Vec::new();
    for _ in 0..items {
        let length = bytes.u64("the length of a text")?;
        if length > ARRAY_TEXT_BYTES_MAX {
            return Err(GgufError::TooMany { what: "bytes in a text", found: length, max: ARRAY_TEXT_BYTES_MAX });
        }
        bytes.append("a text in an array", length, &mut buffer)?;
        // The whole header is under 4 GiB, so an end always fits.
        ends.push(buffer.len() as u32);
    }
    let text = String::from_utf8(buffer).map_err(|_| GgufError::NotUtf8 { what: "an array of texts", at })?;
    let whole = ends.iter().all(|&end| text.is_char_boundary(end as usize));
    if !whole {
        return Err(GgufError::NotUtf8 { what: "a text in an array", at });
    }
    Ok(Texts { text, ends })
}

fn kind(key: &str, number: u32) -> Result<Kind, GgufError> {
    Kind::from_number(number).ok_or_else(|| GgufError::UnknownKind { key: key.to_owned(), kind: number })
}
