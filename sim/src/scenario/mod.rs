//! What is done to a world: one story a file. The checks are `property`'s.
//!
//! A scenario draws its details (who, when, how long) from the world's seed, so that each seed is another story of the
//! same kind. Equal seeds tell equal stories.

mod budget;
mod catalogue;
mod command;
mod crash_one;
mod evict;
mod form;
mod gather;
mod join_during_partition;
mod join_interrupted;
mod leave;
mod partition_and_heal;
mod rolling_restart;
mod storm;

pub use catalogue::{ALL, Scenario, find};
