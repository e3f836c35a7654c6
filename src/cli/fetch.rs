//! `skep fetch`: the files that a command left.

use super::{Here, files, screen};
use anyhow::ensure;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct Fetch {
    /// The task's id.
    task: String,
    /// The folder that they go to; the current one without this. Files of the same names there are replaced.
    #[arg(long, value_name = "DIR", default_value = ".")]
    into: PathBuf,
}

impl Fetch {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        let client = here.client()?;
        let task = client.get(&format!("/api/tasks/{}", super::path_part(&self.task))).await?;
        let status = task["status"].as_str().unwrap_or_default();
        let over = !matches!(status, "pending" | "running");
        ensure!(
            over,
            "the task is {status}: its files are kept when it has ended; `skep logs {}` waits for that",
            self.task
        );
        let outputs = task["outputs"].as_array().map_or(0, Vec::len);
        ensure!(outputs > 0, "the task was not told to leave files: `skep run --output PATH` says which");
        let count = files::download(&client, &task, &self.into).await?;
        if here.json {
            screen::json(&task["artefacts"]);
        } else {
            screen::done(format!("{count} files are in {}", self.into.display()));
        }
        Ok(())
    }
}
