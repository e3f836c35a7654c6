//! `skep logs`: the output of a command, from its beginning, and on until it ends.

use super::{Here, screen};
use crate::client::Client;
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
/// Without its end it is no record: the command may go on.
pub(crate) async fn follow(client: &Client, id: &str, show: bool) -> anyhow::Result<Value> {
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
            "ended" => return Ok(client.get(&format!("/api/tasks/{id}")).await?),
            "failed" => anyhow::bail!("{} ({})", lost(id), screen::text(&event.data["error"])),
            _ => {}
        }
    }
    anyhow::bail!("{}", lost(id))
}

fn lost(id: &str) -> String {
    format!("the output can't be followed any more, though the command may go on: `skep logs {id}` looks again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::canned;

    #[tokio::test]
    async fn output_that_breaks_off_is_not_the_end_of_the_command() {
        let output = "event: output\ndata: {\"text\":\"x\"}\n\n";
        let failed = format!("{output}event: failed\ndata: {{\"error\":\"link down\"}}\n\n");
        for (stream, why) in [(output, "look"), (failed.as_str(), "link down")] {
            let node =
                canned::node(&[("/api/tasks/7/events", stream), ("/api/tasks/7", r#"{"status":"running"}"#)]).await;
            let error = follow(&node.client, "7", false).await.unwrap_err().to_string();
            assert!(error.contains("may go on") && error.contains(why), "{error}");
        }
        let ended = format!("{output}event: ended\ndata: {{\"status\":\"completed\"}}\n\n");
        let node =
            canned::node(&[("/api/tasks/7/events", ended.as_str()), ("/api/tasks/7", r#"{"status":"completed"}"#)])
                .await;
        assert_eq!(follow(&node.client, "7", false).await.unwrap()["status"], "completed");
    }
}
