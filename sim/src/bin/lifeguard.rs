//! `lifeguard compare | detect | endure`: measures membership on the bare mesh and prints a table.
//!
//! With `--write` the table also takes its place in `sim/RESULTS.md`. Not here: what is measured
//! ([`skep_sim::measure`]).

use anyhow::{Context, Result, bail};
use skep_sim::measure::{compare, cores, detect, endure, page};
use std::{
    env, fs,
    io::{self, Write},
    path::Path,
};
use time::OffsetDateTime;

const USAGE: &str = "usage: lifeguard compare [--crashes N] | detect [--seeds N] | \
                     endure [--hours H] [--nodes N] [--slow K] [--stumble]   (and --write: into sim/RESULTS.md)";

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (mut crashes, mut seeds, mut write) = (100, 1000, false);
    let mut long = endure::Wanted { hours: 24.0, nodes: 50, slow: 2, stumble: false };
    let mut rest = arguments.iter().skip(1);
    while let Some(argument) = rest.next() {
        let mut number = || -> Result<f64> {
            let number = rest.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0.0);
            number.with_context(|| format!("{argument} needs a number\n{USAGE}"))
        };
        match argument.as_str() {
            "--crashes" => crashes = number()? as usize,
            "--seeds" => seeds = number()? as u64,
            "--hours" => long.hours = number()?,
            "--nodes" => long.nodes = number()? as usize,
            "--slow" => long.slow = number()? as u32,
            "--stumble" => long.stumble = true,
            "--write" => write = true,
            _ => bail!("unknown argument {argument}\n{USAGE}"),
        }
    }
    let mode = arguments.first().map(String::as_str);
    let table = match mode {
        Some("compare") => compare::table(crashes),
        Some("detect") => detect::table(seeds),
        Some("endure") => endure::table(long, |hours| tell(&format!("{hours:.1} hours"))),
        _ => bail!("{USAGE}"),
    };
    let asked: Vec<&str> = arguments.iter().map(String::as_str).filter(|argument| *argument != "--write").collect();
    let text = format!(
        "`cargo run --release -p skep-sim --bin lifeguard -- {}`, {}, {} cores\n\n{table}",
        asked.join(" "),
        OffsetDateTime::now_utc().date(),
        cores::count()
    );
    io::stdout().write_all(text.as_bytes())?;
    if write {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("RESULTS.md");
        let old = fs::read_to_string(&path).with_context(|| format!("{} has to be there", path.display()))?;
        let name = if mode == Some("endure") { asked.join(" ") } else { asked[0].into() };
        fs::write(&path, page::with_part(&old, &format!("lifeguard {name}"), &text))?;
    }
    Ok(())
}

/// Says how far it has come, where it is no part of the result.
fn tell(what: &str) {
    let _ = write!(io::stderr(), "\r{what} ");
}
