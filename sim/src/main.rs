//! `skep-sim --scenario NAME --seed N`: plays a scenario, or replays it; `--seeds A..B` plays many, on all cores.
//!
//! Standard output holds what follows from the seeds alone, so that two runs can be compared; what depends on the
//! machine goes to standard error. `RUST_LOG` shows the nodes' own log, in virtual time.

use anyhow::{Context, Result, bail};
use clap::Parser;
use skep_sim::{
    Outcome, Play, alarm,
    campaign::{self, Campaign},
    clock, log, run,
    scenario::{self, Scenario},
    world::Wishes,
};
use std::{
    fs::File,
    io::{self, BufWriter, Write},
    ops::Range,
    path::PathBuf,
    process::{Command, ExitCode},
    time::Duration,
};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Plays whole swarms from a seed. Without arguments it lists the scenarios.
#[derive(Parser)]
#[command(name = "skep-sim", version)]
struct Args {
    /// Which story; without it each seed draws one
    #[arg(long)]
    scenario: Option<String>,
    /// One seed, or the first of them
    #[arg(long)]
    seed: Option<u64>,
    /// Many seeds, each in a process of its own: 0..1000
    #[arg(long, value_parser = range, conflicts_with = "seed")]
    seeds: Option<Range<u64>>,
    /// Plays every seed that ever failed, from sim/regressions.txt
    #[arg(long, conflicts_with_all = ["seed", "seeds", "scenario"])]
    regressions: bool,
    /// How many nodes, where the scenario leaves that open: 2 to 300
    #[arg(long, value_parser = nodes)]
    nodes: Option<usize>,
    /// How much virtual time, where the scenario leaves that open: 90s, 10m, 2h
    #[arg(long, value_parser = time)]
    until: Option<Duration>,
    /// Writes every datagram and every line that a node logged
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Writes a page that shows who believed what about whom
    #[arg(long, value_name = "FILE")]
    timeline: Option<PathBuf>,
    /// Processes at the same time; as many as there are cores
    #[arg(long)]
    jobs: Option<usize>,
    /// Prints one JSON object a run
    #[arg(long)]
    json: bool,
}

/// Nodes of one run: all pairs of them hold connections, some 100 KiB each.
const NODES_MAX: usize = 300;
/// How many threads the engine computes with; it reads nothing else, and only once.
const ENGINE_THREADS: &str = "CANDLE_NUM_THREADS";

fn main() -> Result<ExitCode> {
    // A simulated world is one thread, and what it computes must be.
    if std::env::var(ENGINE_THREADS).is_err() {
        let mut again = Command::new(std::env::current_exe()?);
        let status = again.args(std::env::args_os().skip(1)).env(ENGINE_THREADS, "1").status()?;
        return Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from));
    }
    let args = Args::parse();
    let wishes = Wishes { nodes: args.nodes, until: args.until, timeline: args.timeline.is_some() };
    let scenario = args.scenario.as_deref().map(find).transpose()?;
    let runs = match (&args.seeds, args.regressions) {
        (Some(seeds), _) => {
            seeds.clone().map(|seed| (scenario.unwrap_or_else(|| scenario::drawn(seed)), seed)).collect()
        }
        (None, true) => campaign::regressions()?,
        (None, false) if scenario.is_none() && args.seed.is_none() => return list(),
        (None, false) => {
            let seed = args.seed.unwrap_or(1);
            let play = Play { scenario: scenario.unwrap_or_else(|| scenario::drawn(seed)), seed, wishes };
            return one(play, &args);
        }
    };
    if args.trace.is_some() || args.timeline.is_some() {
        bail!("--trace and --timeline show one run: give --seed");
    }
    campaign::run(Campaign { runs, wishes, jobs: args.jobs, json: args.json })
}

fn find(name: &str) -> Result<&'static Scenario> {
    scenario::find(name).with_context(|| format!("no scenario {name}; without arguments all are listed"))
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("it is FROM..TO, such as 0..1000")?;
    let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no number"));
    let range = number(from)?..number(to)?;
    if range.is_empty() { Err("it holds no seed".into()) } else { Ok(range) }
}

fn nodes(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (2..=NODES_MAX).contains(number));
    number.ok_or_else(|| format!("it is a number from 2 to {NODES_MAX}"))
}

fn time(text: &str) -> Result<Duration, String> {
    let (number, seconds) = match text.split_at_checked(text.len().saturating_sub(1)) {
        Some((number, "s")) => (number, 1),
        Some((number, "m")) => (number, 60),
        Some((number, "h")) => (number, 3600),
        _ => return Err("it is a number and s, m or h, such as 10m".into()),
    };
    let number: u64 = number.parse().map_err(|_| format!("{number:?} is no number"))?;
    Ok(Duration::from_secs(number.saturating_mul(seconds).min(campaign::UNTIL_SECONDS_MAX)))
}

fn list() -> Result<ExitCode> {
    let mut out = io::stdout().lock();
    writeln!(out, "skep-sim --scenario NAME --seed N plays one; --help says what else there is.\n")?;
    for scenario in scenario::ALL {
        writeln!(out, "  {:24}{}", scenario.name, scenario.about)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn one(play: Play, args: &Args) -> Result<ExitCode> {
    let log = std::env::var_os("RUST_LOG").map(|_| {
        let log = tracing_subscriber::fmt::layer().with_timer(clock::Virtual).with_writer(io::stderr).with_ansi(false);
        log.with_filter(EnvFilter::from_default_env())
    });
    tracing_subscriber::registry().with(alarm::errors()).with(log::lines()).with(log).init();
    let create = |path: &PathBuf| File::create(path).with_context(|| format!("{} can't be written", path.display()));
    let text = args.trace.as_ref().map(create).transpose()?;
    let text = text.map(|file| Box::new(BufWriter::new(file)) as Box<dyn Write + Send>);
    let outcome = run(play, text)?;
    if let (Some(path), Some(page)) = (&args.timeline, &outcome.timeline) {
        std::fs::write(path, page).with_context(|| format!("{} can't be written", path.display()))?;
    }
    report(play, &outcome, args.json)?;
    Ok(if outcome.error.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report(play: Play, outcome: &Outcome, json: bool) -> Result<()> {
    let mut out = io::stdout().lock();
    let row = campaign::Row::new(play, outcome);
    if json {
        writeln!(out, "{}", serde_json::to_string(&row)?)?;
        return Ok(());
    }
    writeln!(out, "{row}")?;
    if let Some(failure) = &row.failure {
        writeln!(out, "{failure}")?;
    }
    if let Some(speed) = row.speed() {
        writeln!(io::stderr(), "{:.2} s of processor time, {speed:.0} virtual seconds in one", row.processor_s)?;
    }
    Ok(())
}
