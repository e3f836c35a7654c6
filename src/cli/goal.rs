//! `skep goal`: graphs of commands, from a file, and how far they are.

use super::{Here, screen};
use crate::client::Client;
use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::Value;
use std::{path::PathBuf, process::ExitCode, time::Duration};
use tokio::time::{MissedTickBehavior, interval};

/// Between two looks at a goal that runs.
const LOOK: Duration = Duration::from_millis(500);
/// Bytes of a file that describes a goal: what the API takes.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[derive(Args)]
pub(crate) struct Goal {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Set a goal and wait for it. FILE is JSON: {"title": ..., "tasks": [{"task_id": ..., "prerequisites": [...],
    /// "run": {"command": ...}}]}; - is standard input.
    Run {
        file: PathBuf,
        /// Print its id and don't wait for it.
        #[arg(long)]
        detach: bool,
    },
    /// The newest goals.
    List,
    /// One goal, and how each of its tasks stands.
    Show { goal: String },
    /// End what runs and what waits of a goal; one that has ended is forgotten.
    Cancel { goal: String },
}

impl Goal {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<ExitCode> {
        let client = here.client()?;
        match self.what {
            What::Run { file, detach } => {
                let text = super::read(&file, FILE_BYTES_MAX).with_context(|| format!("{}", file.display()))?;
                let plan: Value = serde_json::from_str(&text)
                    .with_context(|| format!("{} is not JSON; see skep goal run --help", file.display()))?;
                let goal = client.post("/api/goals", &plan).await?;
                match detach {
                    true => show_id(here, &goal),
                    false => return follow(here, &client, &goal).await,
                }
            }
            What::List => list(here, &client.get("/api/goals").await?),
            What::Show { goal } => show(here, &client.get(&path(&goal)).await?),
            What::Cancel { goal } => {
                let ended = client.delete(&path(&goal)).await?;
                match here.json {
                    true => screen::json(&ended),
                    false => {
                        screen::done(format!("{}: {}", screen::text(&ended["title"]), screen::text(&ended["status"])))
                    }
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn path(goal: &str) -> String {
    format!("/api/goals/{}", super::path_part(goal))
}

pub(crate) fn show_id(here: &Here, goal: &Value) {
    match here.json {
        true => screen::json(goal),
        false => screen::say!("{}", screen::text(&goal["goal_id"])),
    }
}

/// Waits until a goal is over; its exit status says how.
pub(crate) async fn follow(here: &Here, client: &Client, goal: &Value) -> anyhow::Result<ExitCode> {
    let path = path(&screen::text(&goal["goal_id"]));
    let bar = screen::progress();
    bar.set_message(screen::text(&goal["title"]));
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let goal = loop {
        tokio::select! {
            _ = look.tick() => {}
            // What the user sees in front of them ends with Ctrl-C.
            _ = tokio::signal::ctrl_c() => break client.delete(&path).await?,
        }
        let goal = client.get(&path).await?;
        let progress = &goal["progress"];
        let number = |name: &str| progress[name].as_u64().unwrap_or(0);
        screen::measured(&bar, number("total"));
        bar.set_position(number("completed") + number("failed") + number("cancelled"));
        if !matches!(goal["status"].as_str(), Some("pending" | "in_progress")) {
            break goal;
        }
    };
    bar.finish_and_clear();
    show(here, &goal);
    Ok(if goal["status"] == "completed" { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn list(here: &Here, list: &Value) {
    if here.json {
        return screen::json(list);
    }
    let goals = list["goals"].as_array().into_iter().flatten();
    let row = |goal: &Value| {
        vec![
            screen::text(&goal["goal_id"]),
            screen::state(&screen::text(&goal["status"])),
            format!("{}/{}", goal["progress"]["completed"], goal["progress"]["total"]),
            screen::one_line(&screen::text(&goal["title"]), 60),
        ]
    };
    screen::table(&["GOAL", "STATUS", "DONE", "TITLE"], &goals.map(row).collect::<Vec<_>>());
}

fn show(here: &Here, goal: &Value) {
    if here.json {
        return screen::json(goal);
    }
    let progress = &goal["progress"];
    screen::say!(
        "{}  {}  {} of {} completed",
        screen::one_line(&screen::text(&goal["title"]), 60),
        screen::state(&screen::text(&goal["status"])),
        progress["completed"],
        progress["total"]
    );
    let tasks = goal["tasks"].as_array().into_iter().flatten();
    let row = |task: &Value| {
        let status = match task["blocked"] == true {
            true => "blocked".into(),
            false => screen::text(&task["status"]),
        };
        vec![
            format!("{}[{}]", screen::text(&task["task_id"]), task["index"]),
            screen::state(&status),
            screen::text(&task["id"]),
            screen::one_line(&screen::text(&task["error"]), 60),
        ]
    };
    screen::table(&["STEP", "STATUS", "TASK", "WHY"], &tasks.map(row).collect::<Vec<_>>());
}
