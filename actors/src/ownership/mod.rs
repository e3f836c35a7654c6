//! Who decides about a shared record: its owner, in a term that grows with every takeover, and who comes after it.
//!
//! Commands ([`crate::scheduler`]) and jobs of external workers ([`crate::worker`]) are owned alike: whoever keeps such
//! records reads the [ledger](crate::ledger) and writes what was decided. What may be done twice is taken over by the first
//! node that is left ([`Wards`]). What may not, needs a [`lease`]: the OwnershipActor asks for it and votes on others'.

mod actor;
mod handle;
pub mod lease;
mod messages;
#[cfg(test)]
mod model;
mod term;
mod wards;

pub use actor::start;
pub use handle::{BALLOTS_MAX, Ownership, Want};
pub use messages::Message;
pub use term::Term;
pub use wards::{Presence, Wards, first};

/// The published name of a node's OwnershipActor.
pub const NAME: &str = "ownership";
