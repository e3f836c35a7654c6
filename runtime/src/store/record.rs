//! Writes as bytes, for the memory's log and for exports: the body of a frame.
//!
//! `table length u8, table, key length u16, key, 0 | 1, [value length u32, value]`, little-endian, one after
//! the other. The frame has the checksum; lengths are still never trusted.

use super::{KEY_BYTES_MAX, Op, TABLE_NAME_BYTES_MAX};
use std::borrow::Cow;

const DELETE: u8 = 0;
const PUT: u8 = 1;

/// Appends the writes.
pub(super) fn write<'a>(ops: impl IntoIterator<Item = &'a Op>, out: &mut Vec<u8>) {
    for op in ops {
        debug_assert!(op.table.len() <= TABLE_NAME_BYTES_MAX && op.key.len() <= KEY_BYTES_MAX, "a batch checks both");
        out.push(op.table.len() as u8);
        out.extend_from_slice(op.table.as_bytes());
        out.extend_from_slice(&(op.key.len() as u16).to_le_bytes());
        out.extend_from_slice(&op.key);
        match &op.value {
            None => out.push(DELETE),
            Some(value) => {
                out.push(PUT);
                out.extend_from_slice(&(value.len() as u32).to_le_bytes());
                out.extend_from_slice(value);
            }
        }
    }
}

/// The writes that `body` holds; `None` if it holds anything else.
pub(super) fn read(mut body: &[u8]) -> Option<Vec<Op>> {
    let mut ops = Vec::new();
    while !body.is_empty() {
        let [table_bytes] = take_array(&mut body)?;
        let table = std::str::from_utf8(take(&mut body, table_bytes as usize)?).ok()?.to_owned();
        let key_bytes = u16::from_le_bytes(take_array(&mut body)?);
        let key = take(&mut body, key_bytes as usize)?.to_vec();
        let value = match take_array(&mut body)? {
            [DELETE] => None,
            [PUT] => {
                let value_bytes = u32::from_le_bytes(take_array(&mut body)?);
                Some(take(&mut body, value_bytes as usize)?.to_vec())
            }
            _ => return None,
        };
        let valid = !table.is_empty() && table.len() <= TABLE_NAME_BYTES_MAX && key.len() <= KEY_BYTES_MAX;
        valid.then(|| ops.push(Op { table: Cow::Owned(table), key, value }))?;
    }
    Some(ops)
}

fn take<'a>(input: &mut &'a [u8], bytes: usize) -> Option<&'a [u8]> {
    let (head, tail) = input.split_at_checked(bytes)?;
    *input = tail;
    Some(head)
}

fn take_array<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = input.split_first_chunk::<N>()?;
    *input = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn writes_come_back(rows in proptest::collection::vec(("[a-z]{1,9}", any::<Vec<u8>>(), any::<Option<Vec<u8>>>()), 0..9)) {
            let ops: Vec<Op> =
                rows.into_iter().map(|(table, key, value)| Op { table: table.into(), key, value }).collect();
            let mut body = Vec::new();
            write(&ops, &mut body);
            prop_assert_eq!(read(&body), Some(ops));
        }

        #[test]
        fn foreign_bytes_are_refused_and_never_panic(body in any::<Vec<u8>>()) {
            let _ = read(&body);
        }
    }
}
