//! Who belongs to the swarm: signed records, and what follows from them.
//!
//! A [`Roster`] is a set of [`Record`]s that chain to the record that founded the swarm; who is a member is a
//! function of the set, so merging two rosters is a union and the order of news never matters. The
//! [`Keeper`] holds this node's roster, writes it to disk before it counts, and says when it changed.
//!
//! Not here: how records travel (`swarm::exchange`) and who may be admitted (`join`).

mod core;
mod keeper;
mod record;

pub use core::{Invalid, Membership, Merged, Roster};
pub use keeper::Keeper;
pub use record::{Mark, Record, RecordId, Statement, SwarmId, tidy, tidy_name};
