//! `skep logs`: the output of a command, from its beginning, and on until it ends.

use super::{Here, screen};
use crate::client::{Client, Error};
use clap::Args;
use futures::StreamExt;
use serde_json::Value;
use std::io::Write;

#[derive(Args)]
pub(crate) struct Logs {
    /// The task's id.
    task: String,
    /// Don't wait for more.
    #[arg(long)]
    no_follow: bool,
}

impl Logs {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        let client = here.client()?;
        let id = super::path_part(&self.task);
        if here.json || self.no_follow {
            let task = client.get(&format!("/api/tasks/{id}")).await?;
            if here.json {
                screen::json(&task)
            } else {
                screen::say!("{}", screen::text(&task["output"]))
            }
            return Ok(());
        }
        follow(&client, &id, true).await?;
        Ok(())
    }
}

/// Follows a command to its end and gives its record; with `show`, its output goes to standard output as it comes.
pub(crate) async fn follow(client: &Client, id: &str, show: bool) -> Result<Value, Error> {
    let mut events = client.watch(&format!("/api/tasks/{id}/events")).await?;
    while let Some(event) = events.next().await {
        let event = event?;
        match event.name.as_str() {
            "output" if show => {
                // A closed pipe is the reader's wish to stop reading, not a failure of the command.
                let mut out = std::io::stdout().lock();
                let text = event.data["text"].as_str().unwrap_or_default();
                let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
            }
            "skipped" if show => screen::note!(
                "[{} are no longer kept]",
                screen::bytes(event.data["bytes"].as_u64().unwrap_or_default())
            ),
            _ => {}
        }
    }
    client.get(&format!("/api/tasks/{id}")).await
}
