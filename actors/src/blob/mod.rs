//! BlobsActor: files that commands are given and leave, named by what is in them, so that each is stored once on a node and
//! checked wherever it goes.
//!
//! ```text
//! Put  -> part -> hashed, flushed, named -> a copy on one other member -> answered
//! Get  -> here? sent : fetched from whoever has it, checked, kept, sent
//! task -> place its inputs in its folder, store what it left
//! ```
//!
//! A copy that nobody has needed for long goes when room is needed; one that a command still waits for stays. Not here:
//! which command is given what (`scheduler::files`), and weights, which are planned with and lie in a folder of their own
//! (`model`).

mod actor;
mod messages;
mod part;
mod shelf;
mod travel;

pub use actor::start;
pub use messages::{Blob, BlobError, Held, Message};
pub use shelf::Blobs;

use crate::{agent, cron, digest::Digest, ledger::Ledger, scheduler};
use skep_runtime::store;
use std::collections::BTreeSet;

/// The published name of a node's BlobsActor.
pub const NAME: &str = "blobs";

/// Files that commands and goals need which have not ended, and those that jobs give to theirs, as far as this node knows.
/// Reads all of their records.
///
/// # Errors
/// They can't be read: then nothing is known to be idle.
pub fn needed(ledger: &Ledger) -> Result<BTreeSet<Digest>, store::Error> {
    let mut needed = scheduler::files::needed(ledger)?;
    needed.extend(cron::needed(ledger)?);
    needed.extend(agent::needed(ledger)?);
    Ok(needed)
}
