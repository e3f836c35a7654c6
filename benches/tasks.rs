//! How many small commands a node gets done, from the request to the recorded end: one real process of the program, asked
//! over HTTP, every command acknowledged once it is on disk.
//!
//! `cargo bench --bench tasks [-- --ray PYTHON]`. Beside it, in the same run: `xargs -P2`, which keeps nothing and promises
//! nothing, and, with a Python that has it, Ray's tasks that start the same process.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark panics and prints")]

#[path = "../tests/bee/mod.rs"]
mod bee;

use bee::{Bee, Hive};
use futures::{StreamExt, stream};
use serde_json::json;
use std::{
    process::{Command, Stdio},
    time::Duration,
};
use tokio::time::Instant;

/// Commands of one round.
const COMMANDS: usize = 4000;
/// Requests under way.
const CLIENTS: usize = 64;
const ROUNDS: usize = 3;

const RAY: &str = "
import subprocess, sys, time, ray
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level='ERROR')
@ray.remote
def echo(n): return subprocess.run(['echo', str(n)], capture_output=True).returncode
n = int(sys.argv[1])
ray.get([echo.remote(i) for i in range(200)])
start = time.time()
ray.get([echo.remote(i) for i in range(n)])
print(n / (time.time() - start))
";

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure());
}

async fn measure() {
    let args: Vec<String> = std::env::args().collect();
    let python = args.iter().position(|arg| arg == "--ray").and_then(|at| args.get(at + 1));
    let hive = Hive::new();
    let bee = hive.start("alder").await;
    println!("{:>24} {:>12} {:>12} {:>10} {:>9}", "", "taken/s", "done/s", "of xargs", "of Ray");
    for round in 1..=ROUNDS {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        println!("round {round} of {ROUNDS}, load {}", load.split(' ').take(3).collect::<Vec<_>>().join(" "));
        let xargs = xargs();
        let ray = python.map(|python| ray(python));
        let (taken, done) = skep(&bee).await;
        let of_ray = ray.map_or("-".into(), |ray| format!("{:.2}", done / ray));
        println!("{:>24} {taken:>12.0} {done:>12.0} {:>10.2} {of_ray:>9}", "skep over REST", done / xargs);
        println!("{:>24} {:>12} {xargs:>12.0}", "xargs -P2", "");
        if let Some(ray) = ray {
            println!("{:>24} {:>12} {ray:>12.0}", "Ray, 2 workers", "");
        }
    }
}

/// Commands acknowledged and ended in a second.
async fn skep(bee: &Bee) -> (f64, f64) {
    let before = ended(bee).await;
    let start = Instant::now();
    let submit = |n: usize| async move {
        let wanted = json!({ "command": "echo", "args": [n.to_string()] });
        let (status, answer) = bee.call("POST", "/api/tasks", Some(wanted)).await;
        assert!((200..300).contains(&status), "{status} {answer}");
    };
    stream::iter(0..COMMANDS).map(submit).buffer_unordered(CLIENTS).collect::<Vec<_>>().await;
    let taken = start.elapsed();
    while ended(bee).await < before + COMMANDS as u64 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let rate = |time: Duration| COMMANDS as f64 / time.as_secs_f64();
    (rate(taken), rate(start.elapsed()))
}

/// Commands that completed so far.
async fn ended(bee: &Bee) -> u64 {
    bee.get("/api/scheduler/stats").await["completed"].as_u64().unwrap()
}

fn xargs() -> f64 {
    let start = Instant::now();
    let mut xargs = Command::new("xargs");
    xargs.args(["-P2", "-n1", "echo"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut xargs = xargs.spawn().unwrap();
    let lines: String = (0..COMMANDS).map(|n| format!("{n}\n")).collect();
    std::io::Write::write_all(&mut xargs.stdin.take().unwrap(), lines.as_bytes()).unwrap();
    assert!(xargs.wait().unwrap().success());
    COMMANDS as f64 / start.elapsed().as_secs_f64()
}

fn ray(python: &str) -> f64 {
    let output = Command::new(python).args(["-c", RAY, &COMMANDS.to_string()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap().trim().parse().unwrap()
}
