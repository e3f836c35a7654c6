//! What a whole node costs and how fast a swarm reacts: real processes of the program on loopback, asked over HTTP.
//!
//! `cargo bench --bench swarm`. Not here: the link's rates (transport/benches/link.rs) and membership at size (sim). The
//! machine's load is printed beside every round: an answer can't be faster than the processes get to run.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark panics and prints")]

#[path = "../tests/bee/mod.rs"]
mod bee;

use bee::{Bee, Hive, status};
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const ROUNDS: usize = 5;
/// How long a node does nothing before its memory is looked at.
const IDLE: Duration = Duration::from_secs(20);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure());
}

async fn measure() {
    let mut joins = Vec::new();
    let mut downs = Vec::new();
    let mut memory = Vec::new();
    for round in 1..=ROUNDS {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        println!("round {round} of {ROUNDS}, load {}", load.split(' ').take(3).collect::<Vec<_>>().join(" "));
        let hive = Hive::new();
        let alder = hive.start("alder").await;
        let birch = hive.join("birch", &alder).await;
        let invite = alder.skep(&["invite"]).await;
        let start = Instant::now();
        let cedar = hive.start_with("cedar", &[], &[("SKEP_JOIN", invite["token"].as_str().unwrap())]).await;
        runs_a_command(&alder, cedar.id()).await;
        joins.push(start.elapsed());
        sleep(IDLE).await;
        memory.extend([&alder, &birch, &cedar].map(resident));
        let id = cedar.id().to_string();
        let start = Instant::now();
        cedar.kill().await;
        for bee in [&alder, &birch] {
            bee.until("cedar is down", "/api/nodes", |nodes| status(nodes, &id) == Some("offline")).await;
        }
        downs.push(start.elapsed());
    }
    joins.sort();
    downs.sort();
    let show = |name: &str, times: &[Duration]| {
        let (median, worst) = (times[times.len() / 2].as_secs_f64(), times[times.len() - 1].as_secs_f64());
        println!("{name:52} {median:7.2} {worst:7.2}");
    };
    println!("\n{:52} {:>7} {:>7}", "", "median", "worst");
    show("process start, join, a command done there: s", &joins);
    show("kill -9 until both others list it as down: s", &downs);
    for (name, pick) in [("idle node of three, resident: MiB", 0), ("  of that, anonymous", 1)] {
        let mut values: Vec<f64> = memory.iter().map(|kib: &[f64; 2]| kib[pick] / 1024.0).collect();
        values.sort_by(f64::total_cmp);
        println!("{name:52} {:7.1} {:7.1}", values[values.len() / 2], values[values.len() - 1]);
    }
}

/// Has a command run on that node as soon as it may: until then it is unknown or down.
async fn runs_a_command(bee: &Bee, node: &str) {
    let task = loop {
        let wanted = json!({ "command": "true", "node": node });
        match bee.call("POST", "/api/tasks", Some(wanted)).await {
            (200..300, task) => break task,
            _ => sleep(Duration::from_millis(10)).await,
        }
    };
    let path = format!("/api/tasks/{}", task["id"].as_str().unwrap());
    let task = bee.until("it has run", &path, |task| task["status"] == "completed").await;
    assert_eq!(task["assigned_node"], node);
}

/// KiB that a node's process holds: all, and what is not a file's.
fn resident(bee: &Bee) -> [f64; 2] {
    let status = std::fs::read_to_string(format!("/proc/{}/status", bee.pid())).unwrap();
    let field = |name: &str| -> f64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    [field("VmRSS:"), field("RssAnon:")]
}
