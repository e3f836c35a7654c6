//! How tensors are stored: blocks of so many elements in so many bytes. A table, no arithmetic on weights.
//! Source: `ggml_type` and `type_traits` in ggml.

/// A storage type that GGUF knows. Whether there is a kernel for it, `kernel::matrix` says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TensorType(&'static Row);

#[derive(PartialEq, Eq)]
struct Row {
    number: u32,
    name: &'static str,
    block_elements: u64,
    block_bytes: u64,
}

impl TensorType {
    /// The type with this number in a file.
    pub fn from_number(number: u32) -> Option<Self> {
        TABLE.iter().find(|row| row.number == number).map(Self)
    }

    /// The type with this name, such as `Q8_0`.
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.name == name).map(Self)
    }

    /// Its number in a file.
    pub fn number(self) -> u32 {
        self.0.number
    }

    /// Its name, such as `Q4_K`.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Elements of a block.
    pub fn block_elements(self) -> u64 {
        self.0.block_elements
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> u64 {
        self.0.block_bytes
    }
}

impl std::fmt::Debug for TensorType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

const fn row(number: u32, name: &'static str, block_elements: u64, block_bytes: u64) -> Row {
    Row { number, name, block_elements, block_bytes }
}

static TABLE: [Row; 32] = [
    row(0, "F32", 1, 4),
    row(1, "F16", 1, 2),
    row(2, "Q4_0", 32, 18),
    row(3, "Q4_1", 32, 20),
    row(6, "Q5_0", 32, 22),
    row(7, "Q5_1", 32, 24),
    row(8, "Q8_0", 32, 34),
    row(9, "Q8_1", 32, 36),
    row(10, "Q2_K", 256, 84),
    row(11, "Q3_K", 256, 110),
    row(12, "Q4_K", 256, 144),
    row(13, "Q5_K", 256, 176),
    row(14, "Q6_K", 256, 210),
    row(15, "Q8_K", 256, 292),
    row(16, "IQ2_XXS", 256, 66),
    row(17, "IQ2_XS", 256, 74),
    row(18, "IQ3_XXS", 256, 98),
    row(19, "IQ1_S", 256, 50),
    row(20, "IQ4_NL", 32, 18),
    row(21, "IQ3_S", 256, 110),
    row(22, "IQ2_S", 256, 82),
    row(23, "IQ4_XS", 256, 136),
    row(24, "I8", 1, 1),
    row(25, "I16", 1, 2),
    row(26, "I32", 1, 4),
    row(27, "I64", 1, 8),
    row(28, "F64", 1, 8),
    row(29, "IQ1_M", 256, 56),
    row(30, "BF16", 1, 2),
    row(34, "TQ1_0", 256, 54),
    row(35, "TQ2_0", 256, 66),
    row(39, "MXFP4", 32, 17),
];
