//! Every scenario holds under a few seeds, and a seed always tells the same story. Each run is a process of its own.

use skep_sim::scenario;
use std::process::{Command, Output};

/// Seeds of each scenario here; many more are for whoever has the time (`--seeds`).
const SEEDS: std::ops::RangeInclusive<u64> = 1..=3;

fn play(name: &str, seed: u64) -> Output {
    let mut run = Command::new(env!("CARGO_BIN_EXE_skep-sim"));
    run.args([name, "--seed", &seed.to_string()]).env_remove("RUST_LOG");
    run.output().expect("the simulator starts")
}

fn holds(name: &str) {
    for seed in SEEDS {
        let played = play(name, seed);
        let said = String::from_utf8_lossy(&played.stdout);
        assert!(played.status.success(), "{said}\n{}", String::from_utf8_lossy(&played.stderr));
    }
}

#[test]
fn tokens_are_never_overspent() {
    holds("budget");
}

#[test]
fn commands_run_where_they_should_and_again_when_their_node_dies() {
    holds("command");
}

#[test]
fn a_crash_is_noticed_and_a_return_too() {
    holds("crash_one");
}

#[test]
fn the_evicted_are_not_obeyed() {
    holds("evict");
}

#[test]
fn a_node_alone_is_a_swarm_of_one() {
    holds("form_1");
}

#[test]
fn three_nodes_become_a_swarm() {
    holds("form_3");
}

#[test]
fn ten_nodes_become_a_swarm() {
    holds("form_10");
}

#[test]
fn discovery_makes_nobody_a_member_and_finds_everyone_again() {
    holds("gather");
}

#[test]
fn both_sides_of_a_partition_may_admit() {
    holds("join_during_partition");
}

#[test]
fn a_join_that_was_interrupted_can_be_tried_again() {
    holds("join_interrupted");
}

#[test]
fn after_a_storm_all_is_well() {
    holds("storm");
}

#[test]
fn who_goes_in_order_is_known_to_have_gone() {
    holds("leave");
}

#[test]
fn a_healed_partition_leaves_no_trace() {
    holds("partition_and_heal");
}

#[test]
fn a_swarm_survives_the_restart_of_all_its_nodes() {
    holds("rolling_restart");
}

#[test]
fn every_scenario_is_among_these_tests() {
    let source = include_str!("seeds.rs");
    for scenario in scenario::ALL {
        assert!(source.contains(&format!("holds(\"{}\")", scenario.name)), "{} has no test", scenario.name);
    }
}

#[test]
fn two_processes_tell_the_same_story_byte_for_byte() {
    for name in ["crash_one", "partition_and_heal", "command"] {
        let (one, other) = (play(name, 7), play(name, 7));
        assert_eq!(String::from_utf8_lossy(&one.stdout), String::from_utf8_lossy(&other.stdout));
    }
    assert_ne!(play("crash_one", 7).stdout, play("crash_one", 8).stdout);
}
