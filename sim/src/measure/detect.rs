//! How soon a crash is known to all, and how soon after a partition all views are true, over many seeds.

use super::{Spread, Weather, cores};
use skep_transport::membership::Policy;
use std::{fmt::Write, time::Duration};

/// The sizes measured, and the part of the seeds that each gets: a hundred nodes take long.
const NODES: [(usize, u64); 4] = [(3, 1), (10, 1), (50, 1), (100, 10)];
/// The crash comes at any moment of this long, so that it meets every phase of the others' probes.
const SOMETIME: Duration = Duration::from_secs(5);
/// How long anything may take that is waited for.
const KNOWN_TIMEOUT: Duration = Duration::from_secs(60);

/// What one seed gave; `None` if it took longer than was waited for.
struct Outcome {
    crash: Option<Duration>,
    back: Option<Duration>,
    heal: Option<Duration>,
}

/// The table over this many seeds.
pub fn table(seeds: u64) -> String {
    let mut text = String::from(
        "| nodes | seeds | crash known to all, p50 s | p99 s | restart known to all, p50 s | p99 s | views true after a \
         partition, p50 s | p99 s |\n|---|---|---|---|---|---|---|---|\n",
    );
    for (nodes, part) in NODES {
        let seeds: Vec<u64> = (1..=seeds.div_ceil(part)).collect();
        let outcomes = cores::each(&seeds, |seed| play(*seed, nodes));
        let (mut crash, mut back, mut heal) = (Spread::default(), Spread::default(), Spread::default());
        crash.extend(outcomes.iter().map(|outcome| outcome.crash));
        back.extend(outcomes.iter().map(|outcome| outcome.back));
        heal.extend(outcomes.iter().map(|outcome| outcome.heal));
        let _ = writeln!(text, "| {nodes} | {} | {crash} | {back} | {heal} |", crash.count());
    }
    text
}

fn play(seed: u64, nodes: usize) -> Outcome {
    let mut mesh = Weather::FAIR.mesh(seed, nodes, Policy::LIFEGUARD);
    let moment = mesh.draw(Duration::ZERO, SOMETIME);
    mesh.run_until(mesh.now() + SOMETIME + moment);
    let number = mesh.draw_machine();
    mesh.crash(number);
    let crash = mesh.run_while_not(KNOWN_TIMEOUT, |mesh| mesh.is_missed_by_all(number));
    mesh.start(number);
    let back = mesh.run_while_not(KNOWN_TIMEOUT, |mesh| mesh.is_true());
    mesh.partition(nodes / 2);
    let _ = mesh.run_while_not(KNOWN_TIMEOUT, |mesh| mesh.is_true());
    mesh.run_until(mesh.now() + SOMETIME + moment);
    mesh.heal();
    let heal = mesh.run_while_not(KNOWN_TIMEOUT, |mesh| mesh.is_true());
    Outcome { crash, back, heal }
}
