//! Who decides about a shared record: its owner, in a term that grows with every takeover, and who comes after it.
//!
//! Commands ([`crate::scheduler`]) and jobs of external workers ([`crate::worker`]) are owned alike. No I/O: whoever
//! keeps such records reads the [ledger](crate::ledger) and writes what was decided.

mod term;
mod wards;

pub use term::Term;
pub use wards::{Presence, Wards, first};
