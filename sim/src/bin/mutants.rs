//! `mutants`: builds the nodes with one deliberate fault after the other, and says within how many seeds each is found.
//!
//! A simulator that finds nothing proves nothing. The faults are features of the crates that they are in, off by
//! default; `--write` puts the table into `sim/RESULTS.md`. The last build is a sound one again.

use anyhow::{Context, Result, bail, ensure};
use skep_sim::{campaign::Row, measure::page};
use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
};

/// Seeds that are tried before a mutant counts as one that survived.
const SEEDS_MAX: u64 = 100;
/// Seeds under which the sound program must pass first: `.ci/run` plays many more.
const SOUND_SEEDS: u64 = 10;

/// A deliberate fault, and the story that ought to find it.
struct Mutant {
    feature: &'static str,
    fault: &'static str,
    scenario: &'static str,
}

const MUTANTS: [Mutant; 6] = [
    Mutant {
        feature: "mutant-unfenced",
        fault: "an attempt that was taken back may still end its command",
        scenario: "task_owner_dies",
    },
    Mutant {
        feature: "mutant-unleashed",
        fault: "a node that has lost touch with a command's owner goes on running it",
        scenario: "at_most_once",
    },
    Mutant { feature: "mutant-lease-twice", fault: "a lease is granted and not counted", scenario: "budget" },
    Mutant {
        feature: "mutant-flush-skipped",
        fault: "a write is acknowledged before it is flushed",
        scenario: "power_cut",
    },
    Mutant {
        feature: "mutant-evicted-return",
        fault: "an eviction is forgotten when the evicted node comes back",
        scenario: "evict",
    },
    Mutant {
        feature: "mutant-join-once",
        fault: "who doesn't answer at first is neither greeted nor dialled again",
        scenario: "partition_and_heal",
    },
];

fn main() -> Result<()> {
    let (write, only) = match env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => (false, None),
        [flag] if flag == "--write" => (true, None),
        [feature] if MUTANTS.iter().any(|mutant| mutant.feature == feature) => (false, Some(feature.clone())),
        _ => bail!("usage: mutants [--write | FEATURE]"),
    };
    let wanted = |mutant: &&Mutant| only.as_ref().is_none_or(|feature| feature == mutant.feature);
    let mut table =
        "`cargo run -p skep-sim --bin mutants`\n\n| fault | scenario | found by seed | as |\n|---|---|---|---|\n"
            .to_owned();
    let mut survived = 0;
    // What fails without a fault finds no fault.
    let sound = build(None)?;
    for mutant in MUTANTS.iter().filter(wanted) {
        let found = hunt(&sound, mutant.scenario, SOUND_SEEDS)?;
        ensure!(found.is_none(), "{} fails without a fault: {found:?}", mutant.scenario);
    }
    for mutant in MUTANTS.iter().filter(wanted) {
        let program = build(Some(mutant.feature))?;
        let found = hunt(&program, mutant.scenario, SEEDS_MAX)?;
        survived += usize::from(found.is_none());
        let (seed, says) = match found {
            Some((seed, says)) => (seed.to_string(), says),
            None => (format!("not within {SEEDS_MAX}"), String::new()),
        };
        let line = format!("| {} (`{}`) | {} | {seed} | {says} |\n", mutant.fault, mutant.feature, mutant.scenario);
        io::stdout().write_all(line.as_bytes())?;
        table += &line;
    }
    build(None)?;
    if write {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("RESULTS.md");
        let old = fs::read_to_string(&path).with_context(|| format!("{} has to be there", path.display()))?;
        fs::write(&path, page::with_part(&old, "mutants", &table))?;
    }
    ensure!(survived == 0, "{survived} mutants survived");
    Ok(())
}

/// Builds the simulator with this feature, or sound, in the profile of the tests; gives the program.
fn build(feature: Option<&str>) -> Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    // The whole workspace's features: with those of one package alone all dependencies would compile anew.
    build.args(["build", "--quiet", "--workspace", "--bin", "skep-sim"]);
    if let Some(feature) = feature {
        build.args(["--features", &format!("skep-sim/{feature}")]);
    }
    ensure!(build.status()?.success(), "the build with {feature:?} failed");
    Ok(env::current_exe()?.parent().context("a program lies in a folder")?.join("skep-sim"))
}

/// The first seed under which the scenario fails, and what it says.
fn hunt(program: &Path, scenario: &str, seeds: u64) -> Result<Option<(u64, String)>> {
    for seed in 1..=seeds {
        let _ = write!(io::stderr(), "\r{scenario} seed {seed} ");
        let play =
            Command::new(program).args(["--scenario", scenario, "--seed", &seed.to_string(), "--json"]).output()?;
        let row: Row =
            serde_json::from_slice(&play.stdout).with_context(|| format!("{scenario} seed {seed} is mute"))?;
        if let Some(failure) = row.failure {
            let says = failure.lines().rev().nth(1).unwrap_or_default().trim();
            let says = says.split_once(": ").map_or(says, |(_, what)| what);
            return Ok(Some((seed, says.chars().take(120).collect())));
        }
    }
    Ok(None)
}
