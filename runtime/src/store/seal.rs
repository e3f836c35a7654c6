//! A sealed record: the value's bytes with a layout number and a checksum over table, key and value.
//!
//! Engines verify their pages seldom (one only after a crash, another never notices a moved record), so the
//! seal does at every read. It notices damage; it is no defence against someone who edits the file.

use super::Error;
use crc32fast::Hasher;

/// First byte of a record: this arrangement of bytes.
const FORMAT: u8 = 1;
/// Format, layout, checksum.
pub(super) const SEAL_BYTES: usize = 1 + 1 + 4;

/// `payload` with its seal in front.
pub(super) fn seal(table: &str, key: &[u8], layout: u8, payload: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(SEAL_BYTES + payload.len());
    sealed.extend_from_slice(&[FORMAT, layout]);
    sealed.extend_from_slice(&checksum(table, key, FORMAT, layout, payload).to_le_bytes());
    sealed.extend_from_slice(payload);
    sealed
}

/// The layout number and the payload; [`Error::Corrupt`] if any bit of them, or of the key, changed.
pub(super) fn unseal<'a>(table: &str, key: &[u8], sealed: &'a [u8]) -> Result<(u8, &'a [u8]), Error> {
    let corrupt = || Error::Corrupt { table: table.to_owned(), key: key.to_vec() };
    let (head, payload) = sealed.split_first_chunk::<SEAL_BYTES>().ok_or_else(corrupt)?;
    let [format, layout, crc @ ..] = *head;
    if format != FORMAT || u32::from_le_bytes(crc) != checksum(table, key, format, layout, payload) {
        return Err(corrupt());
    }
    Ok((layout, payload))
}

fn checksum(table: &str, key: &[u8], format: u8, layout: u8, payload: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    // The lengths keep ("ab", "c") and ("a", "bc") apart.
    hasher.update(&(table.len() as u64).to_le_bytes());
    hasher.update(table.as_bytes());
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(&[format, layout]);
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_single_flipped_bit_is_noticed() {
        let sealed = seal("tasks", b"key", 3, b"a value of some bytes");
        assert_eq!(unseal("tasks", b"key", &sealed), Ok((3, b"a value of some bytes".as_slice())));
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(unseal("tasks", b"key", &damaged), Err(Error::Corrupt { .. })), "bit {bit}");
        }
    }

    #[test]
    fn a_record_under_another_key_or_table_is_noticed() {
        let sealed = seal("ab", b"c", 1, b"value");
        assert!(unseal("a", b"bc", &sealed).is_err());
        assert!(unseal("ab", b"d", &sealed).is_err());
        assert!(unseal("ab", b"c", &sealed[..5]).is_err());
    }
}
