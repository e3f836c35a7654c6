//! How many small commands a node gets done, from the request to the recorded end: one real process of the program, asked
//! over HTTP, every command acknowledged once it is on disk.
//!
//! `cargo bench --bench tasks [-- --ray PYTHON]`. Beside it, in the same run: `xargs -P2`, which keeps nothing and promises
//! nothing, and, with a Python that has it, Ray's tasks that start the same process. Neither of them fences anything in, so
//! what the fences cost is shown level by level, and beside the strongest `xargs` of `bwrap` with as little as it can do.
//!
//! Then as many commands as a node takes are queued on one that runs nothing: what each of them costs of its memory, how long
//! a request takes with few of them waiting and with all, and what the next one is told.

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
/// Commands that a node lets wait; the next one is refused.
const QUEUE: usize = 100_000;
/// Requests, one after the other, whose times are compared.
const REQUESTS: usize = 500;

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
    // Where bubblewrap isn't found, landlock is what there is.
    let without = hive.start_with("cedar", &[], &[("PATH", "/nowhere")]).await;
    println!("{:>24} {:>12} {:>12} {:>10} {:>9}", "", "taken/s", "done/s", "of xargs", "of Ray");
    for round in 1..=ROUNDS {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        println!("round {round} of {ROUNDS}, load {}", load.split(' ').take(3).collect::<Vec<_>>().join(" "));
        let xargs_alone = xargs(&["echo"]);
        let ray = python.map(|python| ray(python));
        println!("{:>24} {:>12} {xargs_alone:>12.0}", "xargs -P2", "");
        if let Some(ray) = ray {
            println!("{:>24} {:>12} {ray:>12.0}", "Ray, 2 workers", "");
        }
        let rows =
            [("no fence", &bee, Some("none")), ("without bubblewrap", &without, None), ("strongest", &bee, None)];
        for (name, bee, sandbox) in rows {
            let (taken, done) = skep(bee, sandbox).await;
            let of_ray = ray.map_or("-".into(), |ray| format!("{:.2}", done / ray));
            println!("{name:>24} {taken:>12.0} {done:>12.0} {:>10.2} {of_ray:>9}", done / xargs_alone);
        }
        let bare =
            xargs(&["bwrap", "--ro-bind", "/", "/", "--unshare-all", "--proc", "/proc", "--dev", "/dev", "echo"]);
        println!("{:>24} {:>12} {bare:>12.0}", "xargs -P2 bwrap", "");
    }
    flood(&hive).await;
}

/// Queues all that a node lets wait.
async fn flood(hive: &Hive) {
    let bee = hive.start("birch").await;
    bee.skep(&["cordon", "birch"]).await;
    let one = |n: usize| {
        let wanted = json!({ "command": "echo", "args": [n.to_string()] });
        bee.call("POST", "/api/tasks", Some(wanted))
    };
    let times = async |what: &str| {
        let mut times = Vec::new();
        for n in 0..REQUESTS {
            let start = Instant::now();
            let (status, answer) = one(n).await;
            times.push(start.elapsed().as_secs_f64() * 1000.0);
            assert!((200..300).contains(&status), "{status} {answer}");
        }
        times.sort_by(f64::total_cmp);
        let (p50, p99) = (times[REQUESTS / 2], times[REQUESTS * 99 / 100]);
        println!("{what:>24} {p50:>9.2} ms p50 {p99:>9.2} ms p99, one request after the other");
        p50
    };
    let few = times("an empty queue").await;
    let before = memory(&bee);
    let start = Instant::now();
    let many = QUEUE - 2 * REQUESTS;
    let taken = async |n| assert!((200..300).contains(&one(n).await.0), "{n} was refused");
    stream::iter(0..many).map(taken).buffer_unordered(CLIENTS).collect::<Vec<_>>().await;
    let rate = many as f64 / start.elapsed().as_secs_f64();
    let each = memory(&bee).saturating_sub(before) / many as u64;
    println!("{:>24} {rate:>9.0} a second, {each} bytes of the node's memory each", "queued");
    let full = times("a full one").await;
    println!("{:>24} {:>9.2}", "the second of the first", full / few);
    let (status, answer) = one(0).await;
    assert_eq!(status, 503, "{answer}");
    println!("{:>24} {status} {}", "one more", answer["detail"].as_str().unwrap_or_default());
}

/// Bytes that a node's process holds of this machine's memory.
fn memory(bee: &Bee) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", bee.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Commands acknowledged and ended in a second.
async fn skep(bee: &Bee, sandbox: Option<&str>) -> (f64, f64) {
    let before = ended(bee).await;
    let start = Instant::now();
    let submit = |n: usize| async move {
        let wanted = json!({ "command": "/bin/echo", "args": [n.to_string()], "sandbox": sandbox });
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

fn xargs(line: &[&str]) -> f64 {
    let start = Instant::now();
    let mut xargs = Command::new("xargs");
    xargs.args(["-P2", "-n1"]).args(line).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut xargs = xargs.spawn().unwrap();
    let lines: String = (0..COMMANDS).map(|n| format!("{n}\n")).collect();
    // It may have ended before it read them.
    let _ = std::io::Write::write_all(&mut xargs.stdin.take().unwrap(), lines.as_bytes());
    // Where there is no bubblewrap that is all there is to say.
    if !xargs.wait().unwrap().success() {
        return f64::NAN;
    }
    COMMANDS as f64 / start.elapsed().as_secs_f64()
}

fn ray(python: &str) -> f64 {
    let output = Command::new(python).args(["-c", RAY, &COMMANDS.to_string()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap().trim().parse().unwrap()
}
