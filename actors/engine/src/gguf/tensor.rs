//! The list of tensors: where each lies, checked against the file's length and against each other.

use std::io::Read;

use super::TensorType;
use super::bytes::Bytes;
use crate::defaults::{DIMENSIONS_MAX, NAME_BYTES_MAX};
use crate::error::GgufError;

/// Where a tensor's data lie and how they are stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Dimensions as in the file: the length of a row first, then the number of rows.
    pub dimensions: Vec<u64>,
    /// How elements are stored.
    pub kind: TensorType,
    /// Offset from the start of the tensor data, in bytes.
    pub offset: u64,
    /// Length in bytes.
    pub bytes: u64,
}

/// The fewest bytes that one entry of the list takes: name length, one-byte name, one dimension, type, offset.
pub(super) const ENTRY_BYTES_MIN: u64 = 8 + 1 + 4 + 8 + 4 + 8;

/// Reads one entry of the list.
pub(super) fn read<R: Read>(bytes: &mut Bytes<R>) -> Result<(String, Tensor), GgufError> {
    let name = bytes.text("the name of a tensor", NAME_BYTES_MAX)?;
    let rank = bytes.u32("the number of dimensions")?;
    if rank > DIMENSIONS_MAX {
        return Err(GgufError::TooMany { what: "dimensions", found: rank.into(), max: DIMENSIONS_MAX.into() });
    }
    let mut dimensions = Vec::with_capacity(rank as usize);
    for _ in 0..rank {
        dimensions.push(bytes.u64("a dimension")?);
    }
    let number = bytes.u32("the type of a tensor")?;
    let offset = bytes.u64("the offset of a tensor")?;
    let Some(kind) = TensorType::from_number(number) else {
        return Err(GgufError::UnknownTensorType { name, kind: number });
    };
    match length(&dimensions, kind) {
        Ok(bytes) => Ok((name, Tensor { dimensions, kind, offset, bytes })),
        Err(why) => Err(GgufError::Shape { name, dimensions, why }),
    }
}

fn length(dimensions: &[u64], kind: TensorType) -> Result<u64, &'static str> {
    let Some(&row) = dimensions.first() else {
        return Err("there are none");
    };
    if dimensions.contains(&0) {
        return Err("one of them is zero");
    }
    if row % kind.block_elements() != 0 {
        return Err("a row is not a whole number of blocks");
    }
    let elements = dimensions.iter().try_fold(1_u64, |product, &next| product.checked_mul(next));
    elements
        .and_then(|elements| (elements / kind.block_elements()).checked_mul(kind.block_bytes()))
        .ok_or("they are too large")
}

/// Fails unless every tensor is aligned, lies within `data_bytes` and overlaps no other.
pub(super) fn check_placement<'t>(
    tensors: impl Iterator<Item = (&'t String, &'t Tensor)>,
    alignment: u64,
    data_bytes: u64,
) -> Result<(), GgufError> {
    let refuse = |name: &str, tensor: &Tensor, why| GgufError::Placement {
        name: name.to_owned(),
        offset: tensor.offset,
        bytes: tensor.bytes,
        why,
    };
    let mut ordered: Vec<_> = tensors.collect();
    ordered.sort_by_key(|(_, tensor)| tensor.offset);
    let mut end = 0;
    for (name, tensor) in ordered {
        if tensor.offset % alignment != 0 {
            return Err(refuse(name, tensor, "is not aligned"));
        }
        if tensor.offset < end {
            return Err(refuse(name, tensor, "overlaps the tensor before it"));
        }
        end = tensor.offset.saturating_add(tensor.bytes);
        if end > data_bytes {
            return Err(refuse(name, tensor, "lies behind the end of the file; the download is incomplete"));
        }
    }
    Ok(())
}
