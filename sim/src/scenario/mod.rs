//! What is done to a world: one story a file. The checks are `property`'s.
//!
//! A scenario draws its details (who, when, how long) from the world's seed, so that each seed is another story of the
//! same kind. Equal seeds tell equal stories.

mod approvals;
mod asymmetric_ring;
mod at_most_once;
mod bit_flip;
mod budget;
mod budget_rush;
mod catalogue;
mod cloned_key;
mod command;
mod crash_half;
mod crash_one;
mod cron;
mod detection;
mod disk_full;
mod endurance;
mod errand;
mod evict;
mod files;
mod flapping_link;
mod form;
mod gang;
mod gather;
mod invite_reused;
mod join_during_partition;
mod join_interrupted;
mod leave;
mod lossy_lan;
mod owner_gone;
mod partition_and_heal;
mod pipeline;
mod power_cut;
mod quick_restart;
mod renumber;
mod rolling_restart;
mod sleeping_laptop;
mod slow_link;
mod slow_node;
mod spending;
mod steps;
mod storm;
mod sub_agents;
mod task_owner_dies;
mod threads;
mod whole_restart;
mod workers;

pub use catalogue::{ALL, Scenario, drawn, find};
