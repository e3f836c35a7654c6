//! LedgerActor: small shared state that survives a lost machine. Every node holds all of it; a write is acknowledged once
//! it is on the disk here *and* on one other member that answers, if there is one.
//!
//! ```text
//! Ledger::write -> keeper -> core (stamp) -> disk -> push to all who are up ------> LedgerActor there -> keeper -> ...
//!                                                 <- acknowledged: on one of them
//! mender: with each member that came up, and with one after the other anyway:
//!         digests of 64 branches, of 64 leaves of those that differ, lists of those -> what each lacks
//! ```
//!
//! `stamp`, `forest` and `core` decide and do no I/O; `keeper` alone writes the disk; `mender` talks to others. The last
//! writer wins, within a record's term (`entry`): whoever owns a record raises its term when it takes it over.
//!
//! Not here: who owns what ([`crate::scheduler`]), and what values say (a [`Collection`] is its user's). Any roster
//! member may write anything: to be on the roster is to be trusted with that.

mod actor;
mod collection;
pub mod core;
mod entry;
mod feed;
pub mod forest;
mod handle;
mod keeper;
mod mender;
mod messages;
mod peers;
pub mod stamp;
#[cfg(test)]
mod tests;

pub use self::core::{TooLarge, Write, Written};
pub use actor::start;
pub use collection::{Collection, Record};
pub use entry::{Entry, ID_BYTES_MAX, Key, VALUE_BYTES_MAX, Version};
pub use feed::Feed;
pub use handle::Ledger;
pub use messages::{Error, Message};
pub use stamp::Stamp;

/// The published name of a node's LedgerActor.
pub const NAME: &str = "ledger";
