//! Arithmetic on flat `f32` slices, row after row. Knows no model, no file and no sequence.
//!
//! `matrix`, with `shifted`, and `pool` are the places that touch the tensor library; the rest is plain
//! loops that the compiler turns into vector code. Replacing the back end means replacing those.

mod attention;
mod elementwise;
mod matrix;
mod pool;
mod rotary;
mod shifted;
mod stored;
mod vector;

pub(crate) use attention::{Attention, attend};
pub(crate) use elementwise::{add, add_bias, gate, rms_norm, rms_norm_in_place};
pub(crate) use matrix::{Failure, Matrix, dequantise, quantise, resident_bytes};
pub use pool::threads;
pub(crate) use rotary::{Angles, Rotary};
pub(crate) use stored::Stored;
