//! Matrices as a file stores them, and their products with rows. With `pool`, the only user of the tensor library.
//!
//! Quantised weights stay in their blocks; the library unpacks them into tiles of its own on first
//! use and keeps both, which [`resident_bytes`] accounts for.

use candle_core::quantized::{GgmlDType, QTensor, ggml_file};
use candle_core::{CpuStorage, CustomOp1, Device, Layout, Shape, Tensor};

use super::shifted::Shifted;
use super::stored::Stored;
use crate::error::{ForwardError, LoadError};
use crate::gguf::{self, TensorType};

/// A matrix of `rows` outputs by `columns` inputs.
pub(crate) struct Matrix {
    weights: Weights,
    rows: usize,
    columns: usize,
}

enum Weights {
    /// Blocks, multiplied without unpacking.
    Blocks(QTensor),
    /// Q4_1, taken apart.
    Shifted(Shifted),
    /// Plain floats of 32 bits, because that is what the matrix multiplication takes.
    Floats(Tensor),
}

/// Why a matrix could not be made or used.
#[derive(Debug)]
pub(crate) enum Failure {
    /// There is no kernel for this storage type.
    NoKernel(&'static str),
    /// The library failed.
    Library(String),
}

impl Failure {
    /// As an error of loading the tensor `name`.
    pub(crate) fn loading(self, name: &str) -> LoadError {
        match self {
            Self::NoKernel(kind) => LoadError::TensorType { name: name.to_owned(), kind },
            Self::Library(why) => LoadError::Kernel(format!("{name}: {why}")),
        }
    }

    /// As an error of a forward pass.
    pub(crate) fn computing(self) -> ForwardError {
        match self {
            Self::NoKernel(why) => ForwardError::Kernel(format!("no kernel for {why}")),
            Self::Library(why) => ForwardError::Kernel(why),
        }
    }
}

impl From<candle_core::Error> for Failure {
    fn from(error: candle_core::Error) -> Self {
        Self::Library(error.to_string())
    }
}

impl Matrix {
    /// A matrix to multiply with.
    pub(crate) fn new(stored: &Stored) -> Result<Self, Failure> {
        let table = Self::table(stored)?;
        match table.weights {
            Weights::Blocks(blocks) if blocks.dtype() == GgmlDType::Q4_1 => {
                let weights = Shifted::new(stored, table.rows, table.columns)?;
                Ok(Self { weights: Weights::Shifted(weights), ..table })
            }
            Weights::Blocks(blocks) if needs_floats(blocks.dtype(), table.columns) => {
                let weights = Weights::Floats(blocks.dequantize(&Device::Cpu)?);
                Ok(Self { weights, ..table })
            }
            _ => Ok(table),
        }
    }

    /// A matrix to look rows up in; stays as small as it is in the file.
    pub(crate) fn table(stored: &Stored) -> Result<Self, Failure> {
        let (rows, columns) = match *stored.dimensions.as_slice() {
            [columns, rows] => (rows as usize, columns as usize),
            _ => return Err(Failure::Library("not a matrix".to_owned())),
        };
        let weights = Weights::Blocks(tensor(stored, vec![rows, columns])?);
        Ok(Self { weights, rows, columns })
    }

    /// Multiplies rows of `columns` values; gives rows of `rows` values.
    pub(crate) fn apply(&self, input: &[f32]) -> Result<Vec<f32>, Failure> {
        let count = input.len() / self.columns;
        let shape = Shape::from((count, self.columns));
        match &self.weights {
            Weights::Blocks(blocks) => multiply(blocks, input, shape),
            Weights::Shifted(shifted) => {
                let mut output = multiply(&shifted.blocks, input, shape)?;
                super::add(&mut output, &shifted.correction(input, count)?);
                Ok(output)
            }
            Weights::Floats(floats) => {
                let input = Tensor::from_slice(input, shape, &Device::Cpu)?;
                Ok(input.matmul(&floats.t()?)?.flatten_all()?.to_vec1()?)
            }
        }
    }

    /// Looks up the rows `ids`, which must be in range, one after the other.
    pub(crate) fn look_up(&self, ids: &[u32]) -> Result<Vec<f32>, Failure> {
        let ids = Tensor::from_slice(ids, ids.len(), &Device::Cpu)?;
        let rows = match &self.weights {
            Weights::Shifted(shifted) => return shifted.look_up(&ids),
            Weights::Blocks(blocks) => blocks.embedding(&ids)?,
            Weights::Floats(floats) => floats.index_select(&ids, 0)?,
        };
        Ok(rows.flatten_all()?.to_vec1()?)
    }

    /// Bytes of the weights as they are held, without the library's tiles.
    pub(crate) fn bytes(&self) -> u64 {
        match &self.weights {
            Weights::Blocks(blocks) => blocks.storage_size_in_bytes() as u64,
            Weights::Shifted(shifted) => shifted.bytes() as u64,
            Weights::Floats(_) => (self.rows * self.columns * size_of::<f32>()) as u64,
        }
    }
}

fn multiply(blocks: &QTensor, input: &[f32], shape: Shape) -> Result<Vec<f32>, Failure> {
    let storage = CpuStorage::F32(input.to_vec());
    match blocks.cpu_fwd(&storage, &Layout::contiguous(shape))? {
        (CpuStorage::F32(output), _) => Ok(output),
        _ => Err(Failure::Library("the product is not in 32-bit floats".to_owned())),
    }
}

/// A stored vector as floats.
pub(crate) fn dequantise(stored: &Stored) -> Result<Vec<f32>, Failure> {
    let length = stored.dimensions.iter().product::<u64>() as usize;
    Ok(tensor(stored, vec![length])?.dequantize(&Device::Cpu)?.to_vec1()?)
}

/// Stores rows of `columns` floats as `kind`; for files that the engine writes itself.
pub(crate) fn quantise(kind: TensorType, values: &[f32], columns: usize) -> Result<Vec<u8>, Failure> {
    let shape = (values.len() / columns, columns);
    let floats = Tensor::from_slice(values, shape, &Device::Cpu)?;
    Ok(QTensor::quantize(&floats, library_type(kind)?)?.data()?.into_owned())
}

/// Bytes of memory that a matrix takes at most: its blocks and the tiles that the library makes.
///
/// Tiles exist for three types when a row is a multiple of 256; sizes follow from the library's
/// tile structures (6, 10 and 8.5 bits a weight; Q4_K has a third copy for AMX of about 9).
pub(crate) fn resident_bytes(tensor: &gguf::Tensor) -> u64 {
    let elements: u64 = tensor.dimensions.iter().product();
    let row = tensor.dimensions.first().copied().unwrap_or(0);
    let tiled = tensor.dimensions.len() == 2 && row.is_multiple_of(256) && tensor.dimensions[1].is_multiple_of(16);
    let bits = match tensor.kind.name() {
        "F16" | "BF16" => return elements * 4,
        "Q5_0" | "Q5_1" if !row.is_multiple_of(64) => return elements * 4,
        "Q4_1" => 1, // shifts, see `shifted`
        "Q4_K" if tiled => 15,
        "Q6_K" if tiled => 10,
        "Q8_0" if tiled => 9,
        _ => 0,
    };
    tensor.bytes + elements * bits / 8
}

/// The library's own form of a stored tensor.
pub(super) fn tensor(stored: &Stored, shape: Vec<usize>) -> Result<QTensor, Failure> {
    let kind = library_type(stored.kind)?;
    Ok(ggml_file::qtensor_from_ggml(kind, stored.bytes(), shape, &Device::Cpu)?)
}

/// Whether there is no product for blocks of `kind` in rows of `columns` values: plain floats have
/// none, and the two others are multiplied two blocks at a time.
fn needs_floats(kind: GgmlDType, columns: usize) -> bool {
    match kind {
        GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16 => true,
        GgmlDType::Q5_0 | GgmlDType::Q5_1 => !(columns / kind.block_size()).is_multiple_of(2),
        _ => false,
    }
}

fn library_type(kind: TensorType) -> Result<GgmlDType, Failure> {
    Ok(match kind.name() {
        "F32" => GgmlDType::F32,
        "F16" => GgmlDType::F16,
        "BF16" => GgmlDType::BF16,
        "Q4_0" => GgmlDType::Q4_0,
        "Q4_1" => GgmlDType::Q4_1,
        "Q5_0" => GgmlDType::Q5_0,
        "Q5_1" => GgmlDType::Q5_1,
        "Q8_0" => GgmlDType::Q8_0,
        "Q2_K" => GgmlDType::Q2K,
        "Q3_K" => GgmlDType::Q3K,
        "Q4_K" => GgmlDType::Q4K,
        "Q5_K" => GgmlDType::Q5K,
        "Q6_K" => GgmlDType::Q6K,
        name => return Err(Failure::NoKernel(name)),
    })
}
