//! Many runs, each in a process of its own, as many at a time as there are cores; and what came of them together.

use crate::{
    Outcome, Play,
    scenario::{self, Scenario},
    world::Wishes,
};
use anyhow::{Context, Result, ensure};
use futures::{StreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};
use tokio::{process::Command, runtime::Builder, time::timeout};

/// Virtual seconds of one run at most: a month.
pub const UNTIL_SECONDS_MAX: u64 = 30 * 24 * 3600;
/// How long one process may take beside the virtual time that was asked for: a run that hangs outside of virtual time has
/// to be noticed, too. The longest of those that seeds may draw take two minutes on a busy core.
const RUN_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// Failures that are printed whole; of further ones only the seeds.
const FAILURES_SHOWN_MAX: usize = 5;

/// Every seed that ever failed, with what it found.
const REGRESSIONS: &str = include_str!("../regressions.txt");

/// What is to be played.
pub struct Campaign {
    /// The runs, in order.
    pub runs: Vec<(&'static Scenario, u64)>,
    /// What holds for all of them.
    pub wishes: Wishes,
    /// Processes at a time; `None` is one a core.
    pub jobs: Option<usize>,
    /// One JSON object a run instead of words.
    pub json: bool,
}

/// A run in numbers: what a child tells its parent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    /// The scenario's name.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// What failed, the last lines before it, and how to see it again.
    pub failure: Option<String>,
    /// Virtual seconds.
    pub virtual_s: f64,
    /// Seconds of processor time, 0 where the system doesn't tell.
    pub processor_s: f64,
    /// Datagrams sent, their bytes, and how many were lost.
    pub datagrams: (u64, u64, u64),
    /// What the scenario measured.
    pub measures: Vec<(String, f64)>,
    /// Digest of the trace's lines.
    pub trace: String,
    /// Digest of the datagrams' contents.
    pub contents: String,
}

impl Row {
    /// What came of `play`.
    pub fn new(play: Play, outcome: &Outcome) -> Row {
        let Play { scenario, seed, wishes } = play;
        let failure = outcome
            .error
            .as_ref()
            .map(|error| format!("{}  seed {seed}: {error:#}\n{}", outcome.last_lines, replay(scenario, seed, wishes)));
        let sums = outcome.sums;
        Row {
            scenario: scenario.name.to_owned(),
            seed,
            failure,
            virtual_s: outcome.virtual_time.as_secs_f64(),
            processor_s: outcome.processor_time.unwrap_or_default().as_secs_f64(),
            datagrams: (sums.datagrams, sums.bytes, sums.lost),
            measures: outcome.measures.clone(),
            trace: format!("{:016x}", sums.lines),
            contents: format!("{:016x}", sums.contents),
        }
    }

    /// A run that ended without a word: the simulator itself fell, or hung.
    fn mute(scenario: &Scenario, seed: u64, wishes: Wishes, why: &str) -> Row {
        Row {
            scenario: scenario.name.to_owned(),
            seed,
            failure: Some(format!("  seed {seed}: {why}\n{}", replay(scenario, seed, wishes))),
            virtual_s: 0.0,
            processor_s: 0.0,
            datagrams: (0, 0, 0),
            measures: Vec::new(),
            trace: String::new(),
            contents: String::new(),
        }
    }

    /// Virtual seconds in a second of processor time.
    pub fn speed(&self) -> Option<f64> {
        (self.processor_s > 0.0).then(|| self.virtual_s / self.processor_s)
    }
}

/// The command that shows a run again.
fn replay(scenario: &Scenario, seed: u64, wishes: Wishes) -> String {
    let mut command = format!("replay: cargo run -p skep-sim -- --scenario {} --seed {seed}", scenario.name);
    command += &wishes.nodes.map(|nodes| format!(" --nodes {nodes}")).unwrap_or_default();
    command += &wishes.until.map(|time| format!(" --until {}s", time.as_secs())).unwrap_or_default();
    command + " --trace FILE --timeline FILE.html"
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.failure.is_some() { "FAILED" } else { "ok" };
        let (datagrams, bytes, lost) = self.datagrams;
        write!(
            f,
            "{} seed {}: {verdict}, {:.1} s virtual, {datagrams} datagrams ({bytes} bytes, {lost} lost), trace {}, \
             contents {}",
            self.scenario, self.seed, self.virtual_s, self.trace, self.contents
        )
    }
}

/// The runs of `sim/regressions.txt`.
pub fn regressions() -> Result<Vec<(&'static Scenario, u64)>> {
    let lines = REGRESSIONS.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let runs = lines.filter(|line| !line.is_empty()).map(|line| {
        let (name, seed) = line.split_once(char::is_whitespace).with_context(|| format!("{line:?} has no seed"))?;
        let scenario = scenario::find(name).with_context(|| format!("{name} is no scenario"))?;
        Ok((scenario, seed.trim().parse().with_context(|| format!("{line:?} has no seed"))?))
    });
    runs.collect()
}

/// Plays them all; fails if one did.
pub fn run(campaign: Campaign) -> Result<ExitCode> {
    let jobs = campaign.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} runs, {msg} failed, {eta} to go")?;
    let bar = ProgressBar::new(campaign.runs.len() as u64).with_style(style).with_message("0");
    let rows = Builder::new_current_thread().enable_all().build()?.block_on(async {
        let plays = campaign.runs.iter().map(|(scenario, seed)| child(scenario, *seed, campaign.wishes));
        let mut playing = stream::iter(plays).buffer_unordered(jobs);
        let (mut rows, mut failed) = (Vec::new(), 0);
        while let Some(row) = playing.next().await {
            let row = row?;
            bar.inc(1);
            if campaign.json {
                writeln!(io::stdout(), "{}", serde_json::to_string(&row)?)?;
            } else if let Some(failure) = &row.failure {
                failed += 1;
                bar.set_message(failed.to_string());
                if failed <= FAILURES_SHOWN_MAX {
                    bar.suspend(|| writeln!(io::stdout(), "{row}\n{failure}\n"))?;
                }
            }
            rows.push(row);
        }
        anyhow::Ok(rows)
    })?;
    bar.finish_and_clear();
    if !campaign.json {
        summary(&rows)?;
    }
    Ok(if rows.iter().any(|row| row.failure.is_some()) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn child(scenario: &Scenario, seed: u64, wishes: Wishes) -> Result<Row> {
    let mut child = Command::new(std::env::current_exe()?);
    child.args(["--scenario", scenario.name, "--seed", &seed.to_string(), "--json"]).kill_on_drop(true);
    if let Some(nodes) = wishes.nodes {
        child.args(["--nodes", &nodes.to_string()]);
    }
    if let Some(until) = wishes.until {
        child.args(["--until", &format!("{}s", until.as_secs())]);
    }
    let patience = RUN_TIMEOUT + wishes.until.unwrap_or_default();
    let Ok(output) = timeout(patience, child.output()).await else {
        let why = format!("it hangs: no word after {} s", patience.as_secs());
        return Ok(Row::mute(scenario, seed, wishes, &why));
    };
    let output = output?;
    Ok(serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        let said = String::from_utf8_lossy(&output.stderr);
        let why = format!("it ended without a word ({}): {said}", output.status);
        Row::mute(scenario, seed, wishes, &why)
    }))
}

fn summary(rows: &[Row]) -> Result<()> {
    let mut by_name: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        by_name.entry(&row.scenario).or_default().push(row);
    }
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{:24}{:>6}{:>12}{:>14}{:>16}  failed seeds",
        "scenario", "runs", "virtual s", "processor s", "virtual/proc."
    )?;
    for (name, rows) in by_name.into_iter().chain([("all", rows.iter().collect())]) {
        let sum = |of: fn(&Row) -> f64| rows.iter().map(|row| of(row)).sum::<f64>();
        let (virtual_s, processor_s) = (sum(|row| row.virtual_s), sum(|row| row.processor_s));
        let failed: Vec<u64> = rows.iter().filter(|row| row.failure.is_some()).map(|row| row.seed).collect();
        let speed = virtual_s / processor_s.max(1e-9);
        writeln!(out, "{name:24}{:>6}{virtual_s:>12.0}{processor_s:>14.1}{speed:>16.0}  {failed:?}", rows.len())?;
    }
    ensure!(!rows.is_empty(), "nothing was played");
    spread(&mut out, rows)
}

/// What the scenarios measured, over all runs.
fn spread(out: &mut impl Write, rows: &[Row]) -> Result<()> {
    let mut by_name: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (what, value) in rows.iter().flat_map(|row| &row.measures) {
        by_name.entry(what).or_default().push(*value);
    }
    if by_name.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{:40}{:>10}{:>12}{:>12}{:>12}", "measured", "times", "p50", "p99", "max")?;
    for (what, mut values) in by_name {
        values.sort_by(f64::total_cmp);
        let at = |part: f64| values[((values.len() as f64 * part) as usize).min(values.len() - 1)];
        writeln!(out, "{what:40}{:>10}{:>12.1}{:>12.1}{:>12.1}", values.len(), at(0.5), at(0.99), at(1.0))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_broke_what_came_before_and_how_to_see_it_again() {
        let wishes = Wishes { nodes: Some(9), until: Some(Duration::from_secs(90)), timeline: false };
        let play = Play { scenario: scenario::find("storm").unwrap(), seed: 17, wishes };
        let outcome = Outcome {
            error: Some(anyhow::anyhow!("two owners")),
            last_lines: "1.0 crash 3\n".into(),
            timeline: None,
            measures: Vec::new(),
            sums: Default::default(),
            virtual_time: Duration::from_secs(2),
            processor_time: None,
        };
        let failure = Row::new(play, &outcome).failure.unwrap();
        assert!(failure.starts_with("1.0 crash 3\n") && failure.contains("seed 17: two owners"), "{failure}");
        assert!(failure.contains("--scenario storm --seed 17 --nodes 9 --until 90s"), "{failure}");
    }

    #[test]
    fn a_run_that_falls_silent_is_a_failure_that_can_be_seen_again() {
        let row = Row::mute(scenario::find("storm").unwrap(), 5, Wishes::default(), "it hangs");
        assert!(row.failure.unwrap().contains("it hangs\nreplay: cargo run -p skep-sim -- --scenario storm --seed 5"));
    }

    #[test]
    fn every_regression_names_a_scenario_and_a_seed() {
        regressions().unwrap();
    }
}
