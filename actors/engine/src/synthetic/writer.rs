//! Writes GGUF version 3: metadata and tensors in the order given.

use crate::gguf::TensorType;
use crate::kernel;

/// Alignment of tensor data, the format's default.
const ALIGNMENT: usize = 32;

/// Collects metadata and tensors, then gives the file's bytes.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    metadata: Vec<u8>,
    metadata_count: u64,
    tensors: Vec<u8>,
    tensor_count: u64,
    data: Vec<u8>,
}

impl Writer {
    /// An empty file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a text.
    pub fn text(&mut self, key: &str, text: &str) -> &mut Self {
        self.entry(key, 8);
        put_text(&mut self.metadata, text);
        self
    }

    /// Adds a whole number (32 bits).
    pub fn number(&mut self, key: &str, number: u32) -> &mut Self {
        self.entry(key, 4);
        self.metadata.extend(number.to_le_bytes());
        self
    }

    /// Adds a floating-point number (32 bits).
    pub fn float(&mut self, key: &str, number: f32) -> &mut Self {
        self.entry(key, 6);
        self.metadata.extend(number.to_le_bytes());
        self
    }

    /// Adds a truth value.
    pub fn flag(&mut self, key: &str, flag: bool) -> &mut Self {
        self.entry(key, 7);
        self.metadata.push(flag.into());
        self
    }

    /// Adds an array of texts.
    pub fn texts<T: AsRef<str>>(&mut self, key: &str, texts: &[T]) -> &mut Self {
        self.array(key, 8, texts.len());
        for text in texts {
            put_text(&mut self.metadata, text.as_ref());
        }
        self
    }

    /// Adds an array of whole numbers (32 bits, signed).
    pub fn numbers(&mut self, key: &str, numbers: &[i32]) -> &mut Self {
        self.array(key, 5, numbers.len());
        self.metadata.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        self
    }

    /// Adds an array of floating-point numbers (32 bits).
    pub fn floats(&mut self, key: &str, numbers: &[f32]) -> &mut Self {
        self.array(key, 6, numbers.len());
        self.metadata.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        self
    }

    /// Adds a tensor whose first dimension is the length of a row, stored as `kind`.
    ///
    /// # Panics
    /// If there is no kernel for `kind`, or the dimensions don't fit the values or the blocks.
    pub fn tensor(&mut self, name: &str, dimensions: &[u64], kind: TensorType, values: &[f32]) -> &mut Self {
        let columns = dimensions[0] as usize;
        let bytes = kernel::quantise(kind, values, columns).expect("a synthetic tensor fits its type");
        self.raw_tensor(name, dimensions, kind.number(), &bytes)
    }

    /// Adds a tensor with any bytes behind it, right or wrong.
    pub fn raw_tensor(&mut self, name: &str, dimensions: &[u64], kind: u32, bytes: &[u8]) -> &mut Self {
        self.data.resize(self.data.len().next_multiple_of(ALIGNMENT), 0);
        let offset = self.data.len() as u64;
        self.data.extend_from_slice(bytes);
        self.raw_tensor_at(name, dimensions, kind, offset)
    }

    /// Adds a tensor that claims to lie at `offset`, right or wrong.
    pub fn raw_tensor_at(&mut self, name: &str, dimensions: &[u64], kind: u32, offset: u64) -> &mut Self {
        put_text(&mut self.tensors, name);
        self.tensors.extend((dimensions.len() as u32).to_le_bytes());
        self.tensors.extend(dimensions.iter().flat_map(|dimension| dimension.to_le_bytes()));
        self.tensors.extend(kind.to_le_bytes());
        self.tensors.extend(offset.to_le_bytes());
        self.tensor_count += 1;
        self
    }

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(3_u32.to_le_bytes());
        file.extend(self.tensor_count.to_le_bytes());
        file.extend(self.metadata_count.to_le_bytes());
        file.extend_from_slice(&self.metadata);
        file.extend_from_slice(&self.tensors);
        file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
        file.extend_from_slice(&self.data);
        file
    }

    fn entry(&mut self, key: &str, kind: u32) {
        put_text(&mut self.metadata, key);
        self.metadata.extend(kind.to_le_bytes());
        self.metadata_count += 1;
    }

    fn array(&mut self, key: &str, kind: u32, count: usize) {
        self.entry(key, 9);
        self.metadata.extend(kind.to_le_bytes());
        self.metadata.extend((count as u64).to_le_bytes());
    }
}

fn put_text(into: &mut Vec<u8>, text: &str) {
    into.extend((text.len() as u64).to_le_bytes());
    into.extend_from_slice(text.as_bytes());
}
