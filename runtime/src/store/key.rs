//! Keys as bytes whose order is the order of the values they came from.
//!
//! Numbers are big-endian, signed ones with the sign flipped; strings are escaped and terminated, so that a
//! tuple sorts by its first part, then its second. An id implements [`Key`] beside its own definition.

use crate::NodeId;
use uuid::Uuid;

/// Something that can be a key: encodes to bytes in its own order.
///
/// Law: `a < b` exactly if `a.to_bytes() < b.to_bytes()`, and no encoding is the prefix of another.
pub trait Key: Sized {
    /// Appends the encoding.
    fn write(&self, out: &mut Vec<u8>);

    /// Takes the encoding off the front of `input`; `None` if it isn't one.
    fn read(input: &mut &[u8]) -> Option<Self>;

    /// The whole key as bytes.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    /// The key that `bytes` are; `None` if they are no key of this type or bytes are left over.
    fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let key = Self::read(&mut bytes)?;
        bytes.is_empty().then_some(key)
    }
}

/// Ends a string: less than any escaped byte, so that a string sorts before its extensions.
const END: [u8; 2] = [0x00, 0x01];
/// Stands for a zero byte inside a string.
const ZERO: [u8; 2] = [0x00, 0xff];

impl<const N: usize> Key for [u8; N] {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        let (head, tail) = input.split_first_chunk::<N>()?;
        *input = tail;
        Some(*head)
    }
}

impl Key for Vec<u8> {
    fn write(&self, out: &mut Vec<u8>) {
        write_escaped(self, out);
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        let mut bytes = Vec::new();
        loop {
            match input {
                [0x00, 0x01, tail @ ..] => {
                    *input = tail;
                    return Some(bytes);
                }
                [0x00, 0xff, tail @ ..] => {
                    bytes.push(0);
                    *input = tail;
                }
                [byte, tail @ ..] if *byte != 0 => {
                    bytes.push(*byte);
                    *input = tail;
                }
                _ => return None,
            }
        }
    }
}

impl Key for String {
    fn write(&self, out: &mut Vec<u8>) {
        write_escaped(self.as_bytes(), out);
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        String::from_utf8(Vec::read(input)?).ok()
    }
}

macro_rules! unsigned {
    ($($number:ty),*) => {$(
        impl Key for $number {
            fn write(&self, out: &mut Vec<u8>) {
                self.to_be_bytes().write(out);
            }

            fn read(input: &mut &[u8]) -> Option<Self> {
                Some(Self::from_be_bytes(Key::read(input)?))
            }
        }
    )*};
}

unsigned!(u8, u16, u32, u64, u128);

impl Key for i64 {
    fn write(&self, out: &mut Vec<u8>) {
        (self.cast_unsigned() ^ SIGN).write(out);
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        Some((u64::read(input)? ^ SIGN).cast_signed())
    }
}

/// Flipping it puts the negative numbers before the others.
const SIGN: u64 = 1 << 63;

impl Key for NodeId {
    fn write(&self, out: &mut Vec<u8>) {
        self.as_bytes().write(out);
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        Key::read(input).map(NodeId::from_bytes)
    }
}

impl Key for Uuid {
    fn write(&self, out: &mut Vec<u8>) {
        self.as_bytes().write(out);
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        Key::read(input).map(Uuid::from_bytes)
    }
}

impl<A: Key, B: Key> Key for (A, B) {
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
        self.1.write(out);
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        Some((A::read(input)?, B::read(input)?))
    }
}

impl<A: Key, B: Key, C: Key> Key for (A, B, C) {
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
        self.1.write(out);
        self.2.write(out);
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        Some((A::read(input)?, B::read(input)?, C::read(input)?))
    }
}

fn write_escaped(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        if byte == 0 { out.extend_from_slice(&ZERO) } else { out.push(byte) }
    }
    out.extend_from_slice(&END);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check<K: Key + Ord + Clone + std::fmt::Debug>(a: &K, b: &K) {
        assert_eq!(a.cmp(b), a.to_bytes().cmp(&b.to_bytes()), "{a:?} {b:?}");
        assert_eq!(K::from_bytes(&a.to_bytes()).as_ref(), Some(a));
        if a != b {
            assert!(!b.to_bytes().starts_with(&a.to_bytes()), "{a:?} is a prefix of {b:?}");
        }
    }

    proptest! {
        #[test]
        fn bytes_sort_as_their_keys_do(
            a in any::<(i64, Vec<u8>, u32)>(),
            b in any::<(i64, Vec<u8>, u32)>(),
            c in "\\PC{0,8}",
            d in "[\\x00a-c]{0,4}",
            e in "[\\x00a-c]{0,4}",
        ) {
            check(&a, &b);
            check(&c, &d);
            check(&NodeId::from_bytes([a.2 as u8; 32]), &NodeId::from_bytes([b.2 as u8; 32]));
            check(&Uuid::from_u128(a.2.into()), &Uuid::from_u128(b.2.into()));
            check(&(d, 7_u8), &(e, 6_u8));
        }

        #[test]
        fn foreign_bytes_are_refused_and_never_panic(bytes in any::<Vec<u8>>()) {
            let _ = <(String, u64)>::from_bytes(&bytes);
            if let Some(key) = <(Vec<u8>, u16)>::from_bytes(&bytes) {
                prop_assert_eq!(key.to_bytes(), bytes);
            }
        }
    }
}
