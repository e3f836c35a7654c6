//! What membership is worth, in numbers: false alarms and detection times on the bare mesh, as tables.
//!
//! Not here: the mesh ([`crate::bare`]), and what has to hold in any case (tests, [`crate::property`]). A measurement
//! fails at nothing; it says what is so.

pub mod compare;
pub mod cores;
pub mod detect;
pub mod endure;
pub mod page;
mod spread;
mod weather;

pub use spread::Spread;
pub use weather::Weather;
