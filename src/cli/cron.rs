//! `skep cron`: commands that run at times.

use super::{Here, screen};
use crate::client::{Client, Error};
use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

#[derive(Args)]
pub(crate) struct Cron {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Run a command at times: --every 5m, --at "2026-03-01 07:30", or --cron "30 7 * * 1-5".
    Add(Box<Add>),
    /// The jobs of the swarm.
    List,
    /// One job, by its id, the beginning of its id, or its name.
    Show {
        /// Which job.
        job: String,
    },
    /// Remove a job for good; what it has started goes on.
    Rm {
        /// Which job.
        job: String,
    },
    /// What came of the last runs, the newest first.
    Runs {
        /// Of this job only.
        job: Option<String>,
        /// How many.
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
}

#[derive(Args)]
struct Add {
    /// Minute, hour, day, month and weekday, such as "30 7 * * 1-5"; six fields begin with seconds.
    #[arg(long, value_name = "EXPRESSION")]
    cron: Option<String>,

    /// A period from now on, such as 30s, 5m, 1h30m or 1d.
    #[arg(long, value_name = "PERIOD", conflicts_with = "cron")]
    every: Option<String>,

    /// Once, such as "2026-03-01 07:30" in the zone of --tz, or 2026-03-01T07:30:00Z.
    #[arg(long, value_name = "TIME", conflicts_with_all = ["cron", "every"])]
    at: Option<String>,

    /// The time zone, such as Europe/Zurich; this machine's if absent.
    #[arg(long, value_name = "ZONE")]
    tz: Option<String>,

    /// What people call it; the command if absent.
    #[arg(long)]
    name: Option<String>,

    /// What it is good for.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,

    /// The machine that it must run on: its id, the beginning of its id, or its name.
    #[arg(long, value_name = "NODE", conflicts_with = "prefer")]
    on: Option<String>,

    /// The machine to prefer if it has room.
    #[arg(long, value_name = "NODE")]
    prefer: Option<String>,

    /// A condition on the machine's labels, as in `skep run --where`.
    #[arg(long = "where", value_name = "CONDITION")]
    labels: Vec<String>,

    /// Cores that it needs.
    #[arg(long, default_value_t = 0)]
    cpus: u16,

    /// Seconds after which a run is ended.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    timeout: u64,

    /// urgent, critical, high, normal or low.
    #[arg(long, default_value = "normal")]
    priority: String,

    /// Added to its environment, which is clean otherwise.
    #[arg(long = "env", value_name = "KEY=VALUE")]
    env: Vec<String>,

    /// One argument is a line for the shell; several are a program and its arguments, of which all belong to it.
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Cron {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        let client = here.client()?;
        match self.action {
            Action::Add(add) => add.run(here, &client).await,
            Action::List => list(here, &client).await,
            Action::Show { job } => show(here, &client, &job).await,
            Action::Rm { job } => remove(here, &client, &job).await,
            Action::Runs { job, limit } => runs(here, &client, job.as_deref(), limit).await,
        }
    }
}

impl Add {
    async fn run(self, here: &Here, client: &Client) -> anyhow::Result<()> {
        let (kind, expr) = match (&self.cron, &self.every, &self.at) {
            (Some(expr), ..) => ("cron", expr),
            (_, Some(period), _) => ("every", period),
            (_, _, Some(at)) => ("once", at),
            (None, None, None) => bail!("say when: --every 5m, --at \"2026-03-01 07:30\", or --cron \"30 7 * * 1-5\""),
        };
        let zone = self.tz.clone().unwrap_or_else(zone_of_machine);
        let (command, args) = self.command.split_first().expect("clap wants one");
        let name = self.name.clone().unwrap_or_else(|| screen::one_line(&self.command.join(" "), 40));
        let body = json!({
            "name": name,
            "description": self.description,
            "schedule_kind": kind,
            "schedule_expr": expr,
            "schedule_tz": zone,
            "task": {
                "command": command,
                "args": args,
                "env": self.env,
                "node": self.on,
                "preferred_node": self.prefer,
                "labels": self.labels,
                "cpus": self.cpus,
                "timeout_s": self.timeout,
                "priority": self.priority,
            },
        });
        let made = client.post("/api/cron/jobs", &body).await?;
        if here.json {
            screen::json(&made);
            return Ok(());
        }
        screen::done(format!(
            "{} runs first at {} ({zone})",
            screen::plain(&name),
            screen::text(&made["job"]["next_run_at"])
        ));
        screen::say!("{}", screen::text(&made["job_id"]));
        screen::note!("what comes of it: skep cron runs {}", screen::text(&made["job_id"]));
        Ok(())
    }
}

async fn list(here: &Here, client: &Client) -> anyhow::Result<()> {
    let answer = client.get("/api/cron/jobs").await?;
    if here.json {
        screen::json(&answer);
        return Ok(());
    }
    let row = |job: &Value| {
        vec![
            screen::text(&job["id"]).chars().take(8).collect(),
            screen::one_line(&screen::text(&job["name"]), 40),
            format!("{} {}", screen::text(&job["schedule_kind"]), screen::text(&job["schedule_expr"])),
            screen::text(&job["next_run_at"]),
            screen::state(&screen::text(&job["last_status"])),
            job["consecutive_errors"].to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = answer["jobs"].as_array().into_iter().flatten().map(row).collect();
    match rows.is_empty() {
        true => screen::note!("no cron jobs yet: skep cron add --every 5m 'echo hello'"),
        false => screen::table(&["JOB", "NAME", "SCHEDULE", "NEXT", "LAST", "ERRORS"], &rows),
    }
    Ok(())
}

async fn show(here: &Here, client: &Client, wanted: &str) -> anyhow::Result<()> {
    let id = find(client, wanted).await?;
    let job = client.get(&format!("/api/cron/jobs/{id}")).await?;
    if here.json {
        screen::json(&job);
        return Ok(());
    }
    let lines = [
        ("id", "id"),
        ("name", "name"),
        ("about", "description"),
        ("kind", "schedule_kind"),
        ("schedule", "schedule_expr"),
        ("zone", "schedule_tz"),
        ("runs", "payload_json"),
        ("next", "next_run_at"),
        ("last", "last_run_at"),
        ("status", "last_status"),
        ("took ms", "last_duration_ms"),
        ("error", "last_error"),
        ("errors", "consecutive_errors"),
        ("owner", "owner_node"),
    ];
    let rows: Vec<Vec<String>> =
        lines.iter().map(|(label, field)| vec![(*label).to_owned(), screen::text(&job[*field])]).collect();
    screen::table(&["CRON JOB", ""], &rows);
    Ok(())
}

async fn remove(here: &Here, client: &Client, wanted: &str) -> anyhow::Result<()> {
    let id = find(client, wanted).await?;
    let answer = client.delete(&format!("/api/cron/jobs/{id}")).await?;
    match here.json {
        true => screen::json(&answer),
        false => screen::done("removed; what it has started goes on (skep tasks, skep cancel)"),
    }
    Ok(())
}

async fn runs(here: &Here, client: &Client, wanted: Option<&str>, limit: u32) -> anyhow::Result<()> {
    let of = match wanted {
        Some(wanted) => format!("&job_id={}", find(client, wanted).await?),
        None => String::new(),
    };
    let answer = client.get(&format!("/api/cron/runs?limit={limit}{of}")).await?;
    if here.json {
        screen::json(&answer);
        return Ok(());
    }
    let row = |run: &Value| {
        let said = if run["error"].is_null() { &run["output_text"] } else { &run["error"] };
        vec![
            screen::text(&run["created_at"]),
            screen::one_line(&screen::text(&run["job_name"]), 30),
            screen::state(&screen::text(&run["status"])),
            screen::text(&run["duration_ms"]),
            screen::one_line(&screen::text(said), 60),
        ]
    };
    let rows: Vec<Vec<String>> = answer["runs"].as_array().into_iter().flatten().map(row).collect();
    match rows.is_empty() {
        true => screen::note!("nothing has run yet: skep cron list shows what is due next"),
        false => screen::table(&["DUE", "JOB", "STATUS", "MS", "SAID"], &rows),
    }
    Ok(())
}

/// The id of the job that is meant.
async fn find(client: &Client, wanted: &str) -> Result<String, Error> {
    let answer = client.get("/api/cron/jobs").await?;
    let jobs = answer["jobs"].as_array().cloned().unwrap_or_default();
    let meant = |job: &&Value| job["id"].as_str().is_some_and(|id| id.starts_with(wanted)) || job["name"] == wanted;
    let found: Vec<String> = jobs.iter().filter(meant).map(|job| screen::text(&job["id"])).collect();
    let refused = |status, detail: String| Err(Error::Refused { status, detail });
    match found.as_slice() {
        [id] => Ok(id.clone()),
        [] => refused(404, format!("no cron job is called {wanted}: `skep cron list` shows them")),
        several => refused(409, format!("{wanted} could be {}: give more of its id", several.join(" or "))),
    }
}

/// The zone that this machine's clocks show, if it says; UTC otherwise.
fn zone_of_machine() -> String {
    let told = std::env::var("TZ").ok().filter(|zone| !zone.is_empty() && !zone.contains([':', ',']));
    let link = || {
        std::fs::read_link("/etc/localtime").ok()?.to_str()?.split_once("zoneinfo/").map(|(_, zone)| zone.to_owned())
    };
    told.or_else(link).unwrap_or_else(|| "UTC".into())
}
