//! A seed always tells the same story, in any process. Thousands of seeds are `.ci/run`'s (`skep-sim --seeds`); here each
//! scenario holds under one, twice, also with a trace and a timeline.

use skep_sim::scenario::{self, Scenario};
use std::process::{Command, Output};

const SEED: u64 = 7;

fn command(scenario: &Scenario, seed: u64) -> Command {
    let mut run = Command::new(env!("CARGO_BIN_EXE_skep-sim"));
    run.args(["--scenario", scenario.name, "--seed", &seed.to_string()]).env_remove("RUST_LOG");
    run
}

fn play(scenario: &Scenario, seed: u64) -> Output {
    command(scenario, seed).output().expect("the simulator starts")
}

fn said(played: &Output) -> String {
    let said = String::from_utf8_lossy(&played.stdout).into_owned();
    assert!(played.status.success(), "{said}\n{}", String::from_utf8_lossy(&played.stderr));
    said
}

/// A hundred nodes cost minutes; each of these scenarios stands for the larger one beside it.
const TOO_LARGE: [&str; 2] = ["form_100", "form_together_100"];

/// Every second one, as tests run side by side.
fn stories(of: usize) -> impl Iterator<Item = &'static Scenario> {
    scenario::ALL.iter().filter(|scenario| !TOO_LARGE.contains(&scenario.name)).skip(of).step_by(2)
}

fn same_twice(of: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    for scenario in stories(of) {
        // Whoever looks at a run must see that run, not another.
        let mut watched = command(scenario, SEED);
        watched.arg("--trace").arg(folder.path().join("trace")).arg("--timeline").arg(folder.path().join("page.html"));
        let watched = watched.output().expect("the simulator starts");
        assert_eq!(said(&play(scenario, SEED)), said(&watched), "{}", scenario.name);
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
    // Those of the largest would take as long as all the others.
    for scenario in scenario::ALL.iter().filter(|scenario| scenario.share > 10) {
        assert_ne!(said(&play(scenario, SEED)), said(&play(scenario, SEED + 1)), "{}", scenario.name);
    }
}
