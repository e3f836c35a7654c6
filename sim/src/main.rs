//! `skep-sim SCENARIO [--seed N] [--seeds COUNT] [--trace]`: plays a scenario, or replays it.
//!
//! Standard output holds what follows from the seed alone, so that two runs can be compared; what depends on the
//! machine goes to standard error. `RUST_LOG` shows the nodes' own log, in virtual time.

use anyhow::{Context, Result, bail};
use skep_sim::{Outcome, alarm, clock, run, scenario};
use std::{
    env,
    io::{self, Write},
    process::{Command, ExitCode},
};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

const USAGE: &str = "usage: skep-sim SCENARIO [--seed N] [--seeds COUNT] [--trace]";

/// What the command line asks for.
struct Wanted {
    scenario: &'static scenario::Scenario,
    seed: u64,
    seeds: u64,
    trace: bool,
}

fn main() -> Result<ExitCode> {
    let Some(wanted) = parse(env::args().skip(1))? else { return list() };
    if wanted.seeds > 1 { each_in_a_process(&wanted) } else { one(&wanted) }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Wanted>> {
    let Some(name) = args.next().filter(|name| !name.starts_with('-')) else { return Ok(None) };
    let scenario =
        scenario::find(&name).with_context(|| format!("no scenario {name}; without arguments all are listed"))?;
    let mut wanted = Wanted { scenario, seed: 1, seeds: 1, trace: false };
    while let Some(arg) = args.next() {
        let mut number =
            || args.next().and_then(|n| n.parse().ok()).with_context(|| format!("{arg} needs a number\n{USAGE}"));
        match arg.as_str() {
            "--seed" => wanted.seed = number()?,
            "--seeds" => wanted.seeds = number()?,
            "--trace" => wanted.trace = true,
            _ => bail!("unknown argument {arg}\n{USAGE}"),
        }
    }
    Ok(Some(wanted))
}

fn list() -> Result<ExitCode> {
    let mut out = io::stdout().lock();
    writeln!(out, "{USAGE}\n")?;
    for scenario in scenario::ALL {
        writeln!(out, "  {:24}{}", scenario.name, scenario.about)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn each_in_a_process(wanted: &Wanted) -> Result<ExitCode> {
    let program = env::current_exe()?;
    let mut failed = Vec::new();
    for seed in wanted.seed..wanted.seed.saturating_add(wanted.seeds) {
        let mut child = Command::new(&program);
        child.args([wanted.scenario.name, "--seed", &seed.to_string()]);
        if wanted.trace {
            child.arg("--trace");
        }
        if !child.status()?.success() {
            failed.push(seed);
        }
    }
    writeln!(io::stdout(), "{} of {} seeds failed {failed:?}", failed.len(), wanted.seeds)?;
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn one(wanted: &Wanted) -> Result<ExitCode> {
    let Wanted { scenario, seed, .. } = *wanted;
    let log = env::var_os("RUST_LOG").map(|_| {
        let log = tracing_subscriber::fmt::layer().with_timer(clock::Virtual).with_writer(io::stderr).with_ansi(false);
        log.with_filter(EnvFilter::from_default_env())
    });
    tracing_subscriber::registry().with(alarm::errors()).with(log).init();
    let text = wanted.trace.then(|| Box::new(io::BufWriter::new(io::stdout())) as Box<dyn Write + Send>);
    let Outcome { error, sums, virtual_time, processor_time } = run(scenario, seed, text)?;
    let verdict = if error.is_some() { "FAILED" } else { "ok" };
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{} seed {seed}: {verdict}, {:.1} s virtual, {} datagrams ({} bytes, {} lost), trace {:016x}, contents {:016x}",
        scenario.name,
        virtual_time.as_secs_f64(),
        sums.datagrams,
        sums.bytes,
        sums.lost,
        sums.lines,
        sums.contents
    )?;
    if let Some(error) = error {
        writeln!(out, "{error:#}\nreplay: cargo run -p skep-sim -- {} --seed {seed} --trace", scenario.name)?;
        return Ok(ExitCode::FAILURE);
    }
    if let Some(seconds) = processor_time.map(|time| time.as_secs_f64()) {
        let speed = virtual_time.as_secs_f64() / seconds;
        writeln!(io::stderr(), "{seconds:.2} s of processor time, {speed:.0} virtual seconds in one")?;
    }
    Ok(ExitCode::SUCCESS)
}
