//! `skep run`: a command where there is room, its output followed, its exit code ours.

use super::{Here, files, goal, logs, screen};
use crate::client::Client;
use clap::Args;
use serde_json::{Value, json};
use std::{path::PathBuf, process::ExitCode};

/// What `timeout(1)` exits with, so that scripts know it.
const TIMED_OUT: u8 = 124;

#[derive(Args)]
pub(crate) struct Run {
    /// The machine that it must run on: its id, the beginning of its id, or its name.
    #[arg(long, value_name = "NODE", conflicts_with = "prefer")]
    on: Option<String>,

    /// The machine to prefer if it has room.
    #[arg(long, value_name = "NODE")]
    prefer: Option<String>,

    /// Cores that it needs.
    #[arg(long, default_value_t = 0)]
    cpus: u16,

    /// Memory that it needs, in MiB; with more, it is ended.
    #[arg(long, value_name = "MIB", default_value_t = 0)]
    memory: u64,

    /// Graphics processors that it needs.
    #[arg(long, default_value_t = 0)]
    gpus: u16,

    /// Memory that each of them must have, in MiB; alone it asks for one.
    #[arg(long, value_name = "MIB", default_value_t = 0)]
    vram: u64,

    /// Free room that it needs on the disk, in MiB; if it writes more, it is ended.
    #[arg(long, value_name = "MIB", default_value_t = 0)]
    disk: u64,

    /// A model whose weights must lie there.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,

    /// A condition on the machine's labels: KEY, !KEY, KEY=VALUE or KEY!=VALUE, such as arch=aarch64; several must all
    /// hold.
    #[arg(long = "where", value_name = "CONDITION")]
    labels: Vec<String>,

    /// The same, but only preferred.
    #[arg(long = "rather", value_name = "CONDITION")]
    prefers: Vec<String>,

    /// A taint that it puts up with: a machine labelled taint.NAME takes no other commands. `*` is every one.
    #[arg(long = "tolerate", value_name = "NAME")]
    tolerates: Vec<String>,

    /// A group whose commands never share a machine.
    #[arg(long, value_name = "GROUP")]
    apart: Option<String>,

    /// How to choose among machines with room: spread, round_robin, weighted, resource_based, random or bin_pack.
    #[arg(long, default_value = "spread")]
    strategy: String,
    /// At least this strong a fence around it: bubblewrap, landlock or none. Without this, the strongest that its machine
    /// has, but never none.
    #[arg(long, value_name = "LEVEL")]
    sandbox: Option<String>,

    /// Give it the network, which it has not behind a fence.
    #[arg(long)]
    network: bool,

    /// A file or folder of its machine that it may read; the system's own it may anyway.
    #[arg(long, value_name = "PATH")]
    readable: Vec<String>,

    /// A folder of its machine that it may change, beside its own.
    #[arg(long, value_name = "DIR")]
    writable: Vec<String>,

    /// Its working folder, which it may read; a new one of its own without this.
    #[arg(long, value_name = "DIR")]
    dir: Option<String>,

    /// A file, or a folder with all its files, that lies in its folder when it starts, whichever machine that is.
    #[arg(long = "input", value_name = "[NAME=]FILE")]
    inputs: Vec<String>,

    /// A file or folder in its folder that is kept when it has ended, an hour at least; fetched then, but with --detach or
    /// --array, where `skep fetch` does that.
    #[arg(long = "output", value_name = "PATH")]
    outputs: Vec<String>,

    /// Where the outputs go; the current folder without this. Files of the same names there are replaced.
    #[arg(long, value_name = "DIR", default_value = ".", conflicts_with_all = ["array", "detach"])]
    into: PathBuf,

    /// Seconds after which it is ended.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    timeout: u64,

    /// How often it is run again if it fails, after growing pauses.
    #[arg(long, value_name = "TIMES", default_value_t = 0)]
    retries: u8,

    /// Seconds from now by which it must have ended, or it fails.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    deadline: u64,

    /// A task that must have completed before, by its id; several must all have.
    #[arg(long, value_name = "TASK")]
    after: Vec<String>,

    /// If there is no room, commands of lower classes make way: they are ended and run again later.
    #[arg(long)]
    preempt: bool,

    /// Never run it on two machines at the same time, whatever becomes of them: one that is cut off ends it, only then is it
    /// run elsewhere, and it waits while half of the swarm is away.
    #[arg(long)]
    at_most_once: bool,

    /// urgent, critical, high, normal or low.
    #[arg(long, default_value = "normal")]
    priority: String,

    /// A name for this submission: once more with the same one, it is not run again.
    #[arg(long, value_name = "TEXT")]
    key: Option<String>,

    /// Added to its environment, which is clean otherwise.
    #[arg(long = "env", value_name = "KEY=VALUE")]
    env: Vec<String>,

    /// Run it so many times, at once where there is room: a goal of one step. Each finds its number, from 0, in
    /// `SKEP_INDEX`.
    #[arg(long, value_name = "TIMES", value_parser = clap::value_parser!(u32).range(1..=1024))]
    array: Option<u32>,

    /// All of the array at the same time, or none of it: it waits until there is room for every one. When one can't stay where
    /// it runs, all wait again; when one fails for good, the rest does.
    #[arg(long, requires = "array", conflicts_with_all = ["at_most_once", "preempt"])]
    gang: bool,

    /// Print its id and don't wait for it.
    #[arg(long)]
    detach: bool,

    /// One argument is a line for the shell; several are a program and its arguments, of which all belong to it.
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Run {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<ExitCode> {
        let client = here.client()?;
        let (command, args) = self.command.split_first().expect("clap wants one");
        let inputs = files::upload(&client, &self.inputs).await?;
        let body = json!({
            "command": command,
            "args": args,
            "env": self.env,
            "node": self.on,
            "preferred_node": self.prefer,
            "priority": self.priority,
            "idempotency_key": self.key,
            "timeout_s": self.timeout,
            "cpus": self.cpus,
            "memory_bytes": mib(self.memory),
            "gpus": self.gpus,
            "vram_bytes": mib(self.vram),
            "disk_bytes": mib(self.disk),
            "model": self.model,
            "labels": self.labels,
            "prefers": self.prefers,
            "tolerates": self.tolerates,
            "apart": self.apart,
            "strategy": self.strategy,
            "retries": self.retries,
            "deadline_s": self.deadline,
            "after": self.after,
            "preempts": self.preempt,
            "delivery": self.at_most_once.then_some("at_most_once"),
            "sandbox": self.sandbox,
            "network": self.network,
            "readable": self.readable,
            "writable": self.writable,
            "dir": self.dir,
            "inputs": inputs,
            "outputs": self.outputs,
        });
        if let Some(count) = self.array {
            return array(here, &client, (count, self.gang), body, self.detach).await;
        }
        let task = client.post("/api/tasks", &body).await?;
        let id = screen::text(&task["id"]);
        if self.detach {
            if here.json {
                screen::json(&task)
            } else {
                screen::say!("{id}")
            }
            return Ok(ExitCode::SUCCESS);
        }
        // Ctrl-C ends the command too: it is what the user sees in front of them.
        let ended = tokio::select! {
            ended = logs::follow(&client, &id, !here.json) => ended?,
            _ = tokio::signal::ctrl_c() => {
                client.delete(&format!("/api/tasks/{id}")).await?;
                client.get(&format!("/api/tasks/{id}")).await?
            }
        };
        if here.json {
            screen::json(&ended);
        }
        match files::download(&client, &ended, &self.into).await {
            Ok(0) => {}
            Ok(left) => screen::done(format!("{left} files are in {}", self.into.display())),
            // How the command ended is said all the same.
            Err(e) => screen::note!("its files were not fetched: {e:#}; `skep fetch {id}` tries again"),
        }
        let code = ended["exit_code"].as_i64();
        match (ended["status"].as_str(), code) {
            (Some("completed"), _) => Ok(ExitCode::SUCCESS),
            (_, Some(code)) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(1))),
            (status, None) => {
                let why = ended["error"].as_str().map_or_else(|| status.unwrap_or("ended").to_string(), screen::plain);
                screen::note!("{why}");
                Ok(ExitCode::from(if why.contains("ran out of time") { TIMED_OUT } else { 1 }))
            }
        }
    }
}

/// The same command several times.
async fn array(
    here: &Here,
    client: &Client,
    (count, gang): (u32, bool),
    mut run: Value,
    detach: bool,
) -> anyhow::Result<ExitCode> {
    // The goal has the key: its commands' follow from it.
    let key = run.as_object_mut().and_then(|run| run.remove("idempotency_key"));
    let title: String = screen::text(&run["command"]).chars().filter(|c| !c.is_control()).take(60).collect();
    let step = json!({ "task_id": "run", "count": count, "gang": gang, "run": run });
    let plan = json!({ "title": title, "tasks": [step], "idempotency_key": key });
    let goal = client.post("/api/goals", &plan).await?;
    if !detach {
        return goal::follow(here, client, &goal).await;
    }
    goal::show_id(here, &goal);
    Ok(ExitCode::SUCCESS)
}

/// Bytes. More than there can be stays more than there can be.
fn mib(mib: u64) -> u64 {
    mib.saturating_mul(1 << 20).min(i64::MAX as u64)
}
