//! All scenarios, by name.

use super::{
    approvals, asymmetric_ring, at_most_once, bit_flip, budget, budget_rush, cloned_key, command, crash_half,
    crash_one, cron, detection, disk_full, endurance, evict, files, flapping_link, form, gang, gather, invite_reused,
    join_during_partition, join_interrupted, leave, lossy_lan, owner_gone, partition_and_heal, pipeline, power_cut,
    quick_restart, renumber, rolling_restart, sleeping_laptop, slow_link, slow_node, steps, storm, sub_agents,
    task_owner_dies, threads, whole_restart, workers,
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
    /// How many of a thousand seeds or so draw it, if they may draw: more where more can differ, none where one costs
    /// minutes.
    pub share: u64,
    /// Plays it.
    pub run: for<'a> fn(&'a mut World) -> LocalBoxFuture<'a, Result<()>>,
}

/// Every scenario, in the order of their names.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "approvals",
        about: "agents have to ask, people answer at any node, while nodes crash and the swarm falls apart",
        share: 40,
        run: |world| Box::pin(approvals::run(world)),
    },
    Scenario {
        name: "asymmetric_ring",
        about: "every node loses a part of what it sends to its successor, then the cables are good again",
        share: 30,
        run: |world| Box::pin(asymmetric_ring::run(world)),
    },
    Scenario {
        name: "at_most_once",
        about: "commands that never may run twice at once, while their nodes and owners die and the swarm falls apart",
        share: 60,
        run: |world| Box::pin(at_most_once::run(world)),
    },
    Scenario {
        name: "bit_flip",
        about: "bits of disks turn over while their nodes are off",
        share: 20,
        run: |world| Box::pin(bit_flip::run(world)),
    },
    Scenario {
        name: "budget",
        about: "four nodes spend one budget while holders crash and the owner is cut off",
        share: 60,
        run: |world| Box::pin(budget::run(world)),
    },
    Scenario {
        name: "budget_rush",
        about: "three nodes spend one budget faster than their disks flush, and die in the middle of it",
        share: 20,
        run: |world| Box::pin(budget_rush::run(world)),
    },
    Scenario {
        name: "cloned_key",
        about: "a machine is copied, key included, and the copy runs beside it",
        share: 20,
        run: |world| Box::pin(cloned_key::run(world)),
    },
    Scenario {
        name: "command",
        about: "commands are given to one node for others; a node dies under its command",
        share: 40,
        run: |world| Box::pin(command::run(world)),
    },
    Scenario {
        name: "crash_half",
        about: "half of eight nodes die at once and come back",
        share: 40,
        run: |world| Box::pin(crash_half::run(world)),
    },
    Scenario {
        name: "crash_one",
        about: "one of five nodes crashes and comes back",
        share: 60,
        run: |world| Box::pin(crash_one::run(world)),
    },
    Scenario {
        name: "cron",
        about: "jobs are due every few seconds while their owners die and come back, and the swarm falls apart",
        share: 40,
        run: |world| Box::pin(cron::run(world)),
    },
    Scenario {
        name: "detection",
        about: "measures how soon a crash is known and a partition healed; --nodes",
        share: 0,
        run: |world| Box::pin(detection::run(world)),
    },
    Scenario {
        name: "disk_full",
        about: "the disk of a node fills up under its work, and has room again",
        share: 20,
        run: |world| Box::pin(disk_full::run(world)),
    },
    Scenario {
        name: "endurance",
        about: "measures false alarms while every machine is slowed by half; --nodes, --until",
        share: 0,
        run: |world| Box::pin(endurance::run(world)),
    },
    Scenario {
        name: "evict",
        about: "a running, a crashed and a cut off member are evicted; those that were not told come back and learn it",
        share: 60,
        run: |world| Box::pin(evict::run(world)),
    },
    Scenario {
        name: "files",
        about: "files are stored on nodes that die at once, and commands elsewhere need them",
        share: 30,
        run: |world| Box::pin(files::run(world)),
    },
    Scenario {
        name: "flapping_link",
        about: "the way between two of five nodes fails and comes back, again and again",
        share: 30,
        run: |world| Box::pin(flapping_link::run(world)),
    },
    Scenario {
        name: "form_1",
        about: "a node that is alone",
        share: 5,
        run: |world| Box::pin(form::one_by_one(world, 1)),
    },
    Scenario {
        name: "form_2",
        about: "two nodes become a swarm",
        share: 15,
        run: |world| Box::pin(form::one_by_one(world, 2)),
    },
    Scenario {
        name: "form_3",
        about: "three nodes become a swarm by invites",
        share: 30,
        run: |world| Box::pin(form::one_by_one(world, 3)),
    },
    Scenario {
        name: "form_10",
        about: "ten nodes become a swarm by invites, one after another",
        share: 20,
        run: |world| Box::pin(form::one_by_one(world, 10)),
    },
    Scenario {
        name: "form_50",
        about: "fifty nodes become a swarm, one after another",
        share: 2,
        run: |world| Box::pin(form::one_by_one(world, 50)),
    },
    Scenario {
        name: "form_100",
        about: "a hundred nodes become a swarm, one after another",
        share: 0,
        run: |world| Box::pin(form::one_by_one(world, 100)),
    },
    Scenario {
        name: "form_together_10",
        about: "nine nodes join one at the same time",
        share: 20,
        run: |world| Box::pin(form::all_at_once(world, 10)),
    },
    Scenario {
        name: "form_together_30",
        about: "29 nodes join one at the same time",
        share: 3,
        run: |world| Box::pin(form::all_at_once(world, 30)),
    },
    Scenario {
        name: "form_together_100",
        about: "99 nodes join at the same time, as many as there are invites to be had",
        share: 0,
        run: |world| Box::pin(form::all_at_once(world, 100)),
    },
    Scenario {
        name: "gang",
        about: "commands that are placed together or not at all, while nodes die, are emptied and cut off",
        share: 60,
        run: |world| Box::pin(gang::run(world)),
    },
    Scenario {
        name: "gather",
        about: "neighbours that discovery shows stay strangers until they are invited; then all crash and come back",
        share: 40,
        run: |world| Box::pin(gather::run(world)),
    },
    Scenario {
        name: "invite_reused",
        about: "two machines use one invite at once, a third one later, a fourth one that is too old",
        share: 40,
        run: |world| Box::pin(invite_reused::run(world)),
    },
    Scenario {
        name: "join_during_partition",
        about: "both sides of a partition admit somebody, then it heals",
        share: 60,
        run: |world| Box::pin(join_during_partition::run(world)),
    },
    Scenario {
        name: "join_interrupted",
        about: "the network fails in the middle of a join, which is tried again when it is healed",
        share: 60,
        run: |world| Box::pin(join_interrupted::run(world)),
    },
    Scenario {
        name: "leave",
        about: "one node stops in order and comes back, another leaves for good",
        share: 40,
        run: |world| Box::pin(leave::run(world)),
    },
    Scenario {
        name: "lossy_lan",
        about: "a LAN that loses, delays, reorders and doubles datagrams all the time",
        share: 30,
        run: |world| Box::pin(lossy_lan::run(world)),
    },
    Scenario {
        name: "owner_gone",
        about: "who keeps the records of commands dies for good, one after the other: the next ones take over",
        share: 40,
        run: |world| Box::pin(owner_gone::run(world)),
    },
    Scenario {
        name: "partition_and_heal",
        about: "five nodes fall apart, in both directions or in one, and find together",
        share: 60,
        run: |world| Box::pin(partition_and_heal::run(world)),
    },
    Scenario {
        name: "pipeline",
        about: "a model split over three nodes answers while a node of it dies",
        share: 20,
        run: |world| Box::pin(pipeline::run(world)),
    },
    Scenario {
        name: "power_cut",
        about: "nodes take commands while their power fails, with writes under way",
        share: 50,
        run: |world| Box::pin(power_cut::run(world)),
    },
    Scenario {
        name: "quick_restart",
        about: "nodes are restarted sooner than anybody could miss them",
        share: 40,
        run: |world| Box::pin(quick_restart::run(world)),
    },
    Scenario {
        name: "renumber",
        about: "a machine gets another address while its node runs",
        share: 30,
        run: |world| Box::pin(renumber::run(world)),
    },
    Scenario {
        name: "rolling_restart",
        about: "each of five nodes is restarted in turn, in order or by a crash",
        share: 50,
        run: |world| Box::pin(rolling_restart::run(world)),
    },
    Scenario {
        name: "sleeping_laptop",
        about: "machines sleep for moments and for minutes, and wake",
        share: 30,
        run: |world| Box::pin(sleeping_laptop::run(world)),
    },
    Scenario {
        name: "slow_link",
        about: "one machine is behind a link of 1 Mbit/s",
        share: 20,
        run: |world| Box::pin(slow_link::run(world)),
    },
    Scenario {
        name: "slow_node",
        about: "a node gets a fraction of its machine while the swarm is full of work",
        share: 20,
        run: |world| Box::pin(slow_node::run(world)),
    },
    Scenario {
        name: "steps",
        about: "commands wait for others, fail, are late and make others wait, while nodes die and are emptied",
        share: 60,
        run: |world| Box::pin(steps::run(world)),
    },
    Scenario {
        name: "storm",
        about: "all kinds of faults at once on six nodes, for two minutes: never quiet; then calm",
        share: 80,
        run: |world| Box::pin(storm::run(world)),
    },
    Scenario {
        name: "sub_agents",
        about: "a goal's sub-agents work on other nodes, which die under them",
        share: 20,
        run: |world| Box::pin(sub_agents::run(world)),
    },
    Scenario {
        name: "task_owner_dies",
        about: "who keeps the records of commands dies or is cut off while they run elsewhere",
        share: 40,
        run: |world| Box::pin(task_owner_dies::run(world)),
    },
    Scenario {
        name: "threads",
        about: "agents are told things while the nodes that own the threads and those that think die, and the swarm falls apart",
        share: 40,
        run: |world| Box::pin(threads::run(world)),
    },
    Scenario {
        name: "whole_restart",
        about: "all nodes die at once and start again in any order",
        share: 40,
        run: |world| Box::pin(whole_restart::run(world)),
    },
    Scenario {
        name: "workers",
        about: "external workers take jobs at whichever node, and fall silent with them, while nodes crash and come back",
        share: 40,
        run: |world| Box::pin(workers::run(world)),
    },
];

/// The scenario of this name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}

/// The scenario that a seed draws: each as often as its share says. Neighbours draw different ones.
pub fn drawn(seed: u64) -> &'static Scenario {
    let shares: u64 = ALL.iter().map(|scenario| scenario.share).sum();
    // Any odd multiplier scatters neighbours; this is 2^64 divided by the golden ratio.
    let mut place = ((u128::from(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)) * u128::from(shares)) >> 64) as u64;
    let found = ALL.iter().find(|scenario| {
        let here = place < scenario.share;
        place = place.saturating_sub(scenario.share);
        here
    });
    found.expect("a place is smaller than the sum of all shares")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_seeds_draw_every_scenario_about_as_often_as_its_share_says() {
        let shares: u64 = ALL.iter().map(|scenario| scenario.share).sum();
        for scenario in ALL {
            let count = (0..1000).filter(|seed| drawn(*seed).name == scenario.name).count() as u64;
            assert!(count.abs_diff(scenario.share * 1000 / shares) <= 2, "{} {count}", scenario.name);
        }
    }
}
