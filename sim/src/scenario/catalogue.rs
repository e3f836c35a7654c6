//! All scenarios, by name.

use super::{
    budget, command, crash_one, evict, form, gather, join_during_partition, join_interrupted, leave,
    partition_and_heal, rolling_restart, storm,
};
use crate::World;
use anyhow::Result;
use futures::future::LocalBoxFuture;

/// A story with a name.
pub struct Scenario {
    /// Its name, for the command line.
    pub name: &'static str,
    /// What happens in it.
    pub about: &'static str,
    /// Plays it.
    pub run: for<'a> fn(&'a mut World) -> LocalBoxFuture<'a, Result<()>>,
}

/// Every scenario, in the order of their names.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "budget",
        about: "four nodes spend one budget while holders crash and the owner is cut off",
        run: |world| Box::pin(budget::run(world)),
    },
    Scenario {
        name: "command",
        about: "commands are given to one node for others; a node dies under its command",
        run: |world| Box::pin(command::run(world)),
    },
    Scenario {
        name: "crash_one",
        about: "one of five nodes crashes and comes back",
        run: |world| Box::pin(crash_one::run(world)),
    },
    Scenario {
        name: "evict",
        about: "a running, a crashed and a cut off member are evicted; those that were not told come back and learn it",
        run: |world| Box::pin(evict::run(world)),
    },
    Scenario { name: "form_1", about: "a node that is alone", run: |world| Box::pin(form::run(world, 1)) },
    Scenario {
        name: "form_3",
        about: "three nodes become a swarm by invites",
        run: |world| Box::pin(form::run(world, 3)),
    },
    Scenario {
        name: "form_10",
        about: "ten nodes become a swarm by invites",
        run: |world| Box::pin(form::run(world, 10)),
    },
    Scenario {
        name: "gather",
        about: "neighbours that discovery shows stay strangers until they are invited; then all crash and come back",
        run: |world| Box::pin(gather::run(world)),
    },
    Scenario {
        name: "join_during_partition",
        about: "both sides of a partition admit somebody, then it heals",
        run: |world| Box::pin(join_during_partition::run(world)),
    },
    Scenario {
        name: "join_interrupted",
        about: "the network fails in the middle of a join, which is tried again when it is healed",
        run: |world| Box::pin(join_interrupted::run(world)),
    },
    Scenario {
        name: "leave",
        about: "one node stops in order and comes back, another leaves for good",
        run: |world| Box::pin(leave::run(world)),
    },
    Scenario {
        name: "partition_and_heal",
        about: "five nodes fall apart, in both directions or in one, and find together",
        run: |world| Box::pin(partition_and_heal::run(world)),
    },
    Scenario {
        name: "rolling_restart",
        about: "each of five nodes is restarted in turn, in order or by a crash",
        run: |world| Box::pin(rolling_restart::run(world)),
    },
    Scenario {
        name: "storm",
        about: "six nodes in two minutes of crashes, restarts, partitions, cuts and bad links",
        run: |world| Box::pin(storm::run(world)),
    },
];

/// The scenario of this name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}
