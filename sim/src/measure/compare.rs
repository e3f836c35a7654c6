//! Plain SWIM and Lifeguard in the same weather: how often live nodes are called dead, and how soon dead ones are.

use super::{Spread, Weather, cores};
use skep_transport::membership::Policy;
use std::{fmt::Write, time::Duration};

/// The sizes compared.
const NODES: [usize; 3] = [10, 30, 100];
/// The policies compared.
const POLICIES: [(&str, Policy); 2] = [("plain", Policy::PLAIN), ("Lifeguard", Policy::LIFEGUARD)];
/// Between a crash and the one before, a mesh has so long to be measured at rest,
const REST: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(20));
/// and after each crash and each return, it has so long to know it.
const KNOWN_TIMEOUT: Duration = Duration::from_secs(60);

/// One row.
struct Row {
    hours: f64,
    false_downs: usize,
    hours_at_rest: f64,
    accusations: u64,
    detection: Spread,
}

/// The whole table, with so many crashes in each row.
pub fn table(crashes: usize) -> String {
    let mut rows = Vec::new();
    for nodes in NODES {
        for weather in Weather::ALL {
            rows.extend(POLICIES.map(|policy| (nodes, weather, policy)));
        }
    }
    // The large ones last longest: they go first, so that no core waits for the other.
    rows.reverse();
    let mut measured = cores::each(&rows, |(nodes, weather, (_, policy))| row(*nodes, weather, *policy, crashes));
    rows.reverse();
    measured.reverse();

    let mut text = String::from(
        "| nodes | weather | policy | false downs | a node-hour | false accusations a node-hour | crash known to all, p50 s | \
         p99 s |\n|---|---|---|---|---|---|---|---|\n",
    );
    for ((nodes, weather, (policy, _)), row) in rows.iter().zip(measured) {
        let node_hours = row.hours * *nodes as f64;
        let _ = writeln!(
            text,
            "| {nodes} | {} | {policy} | {} | {:.3} | {:.2} | {} |",
            weather.name,
            row.false_downs,
            row.false_downs as f64 / node_hours,
            row.accusations as f64 / (row.hours_at_rest * *nodes as f64),
            row.detection
        );
    }
    text
}

/// Seeds are the same for every row: what differs is the policy's doing, or the weather's.
fn row(nodes: usize, weather: &Weather, policy: Policy, crashes: usize) -> Row {
    let mut mesh = weather.mesh(1, nodes, policy);
    let start = mesh.now();
    let (mut at_rest, mut accusations, mut detection) = (Duration::ZERO, 0, Spread::default());
    for _ in 0..crashes {
        let rest = mesh.draw(REST.0, REST.1);
        let accused = mesh.accusations();
        mesh.run_until(mesh.now() + rest);
        // Nobody is dead now, so each is false.
        (at_rest, accusations) = (at_rest + rest, accusations + mesh.accusations() - accused);
        let number = mesh.draw_machine();
        mesh.crash(number);
        detection.extend([mesh.run_while_not(KNOWN_TIMEOUT, |mesh| mesh.is_missed_by_all(number))]);
        mesh.start(number);
        // In bad weather it may never be quite true; that is no reason to stop.
        let _ = mesh.run_while_not(KNOWN_TIMEOUT, |mesh| mesh.is_true());
    }
    Row {
        hours: (mesh.now() - start).as_secs_f64() / 3600.0,
        false_downs: mesh.false_downs(),
        hours_at_rest: at_rest.as_secs_f64() / 3600.0,
        accusations,
        detection,
    }
}
