//! The one place that knows how values become bytes, on the wire and on the disk: bincode, with limits.
//!
//! Not here: framing (transport) and checksums (store). Swapping the codec is a change of this file.

use crate::defaults::MESSAGE_BYTES_MAX;
use ractor::BytesConvertable;
use serde::{Serialize, de::DeserializeOwned};

/// Why bytes are not the value they were taken for. No state changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// More bytes than the caller's limit; nothing was decoded.
    #[error("{bytes} bytes are over the limit of {max}")]
    TooLarge {
        /// What came.
        bytes: usize,
        /// What is allowed.
        max: usize,
    },
    /// Not an encoding of the expected type: another version, or damage.
    #[error("the bytes are not of the expected type: {0}")]
    Malformed(String),
}

/// The value's bytes. Infallible for the types of this project: derived `Serialize`, no unsized sequences.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, bincode::config::standard()).expect("derived types always encode")
}

/// The value that `bytes` hold, all of them, or why not. At most `max` bytes are looked at, and no
/// allocation is larger than the input can back.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], max: usize) -> Result<T, Error> {
    if bytes.len() > max {
        return Err(Error::TooLarge { bytes: bytes.len(), max });
    }
    // The codec's own limit bounds what a forged length prefix can claim; records may be larger than messages.
    let standard = bincode::config::standard();
    let decoded = if max <= MESSAGE_BYTES_MAX {
        bincode::serde::decode_from_slice(bytes, standard.with_limit::<{ MESSAGE_BYTES_MAX * 4 }>())
    } else {
        bincode::serde::decode_from_slice(bytes, standard.with_limit::<{ MESSAGE_BYTES_MAX * 64 }>())
    };
    match decoded {
        Ok((value, used)) if used == bytes.len() => Ok(value),
        Ok((_, used)) => Err(Error::Malformed(format!("{} bytes left over", bytes.len() - used))),
        Err(e) => Err(Error::Malformed(e.to_string())),
    }
}

/// A value as an argument or a reply of an actor's message: ractor's derive asks each field for
/// [`BytesConvertable`], and this gives it to every serde type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wire<T>(pub T);

impl<T: Serialize + DeserializeOwned> BytesConvertable for Wire<T> {
    fn into_bytes(self) -> Vec<u8> {
        encode(&self.0)
    }

    /// Panics on foreign bytes, as the trait allows: ractor's derive catches it and refuses the message
    /// (0.16.5, `unpack_arg`); replies don't pass here, [`crate::Handle`] decodes them.
    fn from_bytes(bytes: Vec<u8>) -> Self {
        match decode(&bytes, MESSAGE_BYTES_MAX) {
            Ok(value) => Wire(value),
            Err(e) => std::panic::resume_unwind(Box::new(e.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_forged_length_allocates_nothing() {
        // A vector that claims 2^60 elements in ten bytes.
        let bytes = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0x10, 1];
        assert!(matches!(decode::<Vec<u64>>(&bytes, 1024), Err(Error::Malformed(_))));
    }

    #[test]
    fn bytes_left_over_are_refused() {
        let mut bytes = encode(&7u32);
        bytes.push(0);
        assert!(matches!(decode::<u32>(&bytes, 1024), Err(Error::Malformed(_))));
    }

    proptest! {
        #[test]
        fn whatever_comes_decodes_or_is_refused(bytes: Vec<u8>) {
            let _ = decode::<Vec<(String, Option<u64>)>>(&bytes, 1 << 20);
        }

        #[test]
        fn values_come_back(value: Vec<(String, Option<u64>)>) {
            prop_assert_eq!(decode::<Vec<(String, Option<u64>)>>(&encode(&value), 1 << 20).unwrap(), value);
        }
    }
}
