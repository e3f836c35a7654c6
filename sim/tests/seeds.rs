//! A seed always tells the same story, in any process. Thousands of seeds are `.ci/run`'s (`skep-sim --seeds`); here each
//! scenario holds under one, twice.

use skep_sim::scenario::{self, Scenario};
use std::process::{Command, Output};

const SEED: u64 = 7;

fn play(scenario: &Scenario, seed: u64) -> Output {
    let mut run = Command::new(env!("CARGO_BIN_EXE_skep-sim"));
    run.args(["--scenario", scenario.name, "--seed", &seed.to_string()]).env_remove("RUST_LOG");
    run.output().expect("the simulator starts")
}

fn said(played: &Output) -> String {
    let said = String::from_utf8_lossy(&played.stdout).into_owned();
    assert!(played.status.success(), "{said}\n{}", String::from_utf8_lossy(&played.stderr));
    said
}

/// Those that seeds may draw; the others take minutes or only measure. Every second one, as tests run side by side.
fn stories(of: usize) -> impl Iterator<Item = &'static Scenario> {
    scenario::ALL.iter().filter(|scenario| scenario.share > 5).skip(of).step_by(2)
}

fn same_twice(of: usize) {
    for scenario in stories(of) {
        assert_eq!(said(&play(scenario, SEED)), said(&play(scenario, SEED)), "{}", scenario.name);
    }
}

#[test]
fn two_processes_tell_the_same_story_byte_for_byte() {
    same_twice(0);
}

#[test]
fn and_so_do_the_other_half_of_the_scenarios() {
    same_twice(1);
}

#[test]
fn another_seed_is_another_story() {
    let crash = scenario::find("crash_one").expect("it is there");
    assert_ne!(said(&play(crash, SEED)), said(&play(crash, SEED + 1)));
}
