//! `skep run`: a command where there is room, its output followed, its exit code ours.

use super::{Here, logs, screen};
use clap::Args;
use serde_json::json;
use std::process::ExitCode;

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

    /// Seconds after which it is ended.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    timeout: u64,

    /// urgent, critical, high, normal or low.
    #[arg(long, default_value = "normal")]
    priority: String,

    /// A name for this submission: once more with the same one, it is not run again.
    #[arg(long, value_name = "TEXT")]
    key: Option<String>,

    /// Added to its environment, which is clean otherwise.
    #[arg(long = "env", value_name = "KEY=VALUE")]
    env: Vec<String>,

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
            "sandbox": self.sandbox,
            "network": self.network,
            "readable": self.readable,
            "writable": self.writable,
            "dir": self.dir,
        });
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

/// Bytes. More than there can be stays more than there can be.
fn mib(mib: u64) -> u64 {
    mib.saturating_mul(1 << 20).min(i64::MAX as u64)
}
