//! `skep spawn`: a sub-agent of a run that is at work, without its model having asked for it.

use super::{Here, path_part, screen};
use clap::Args;
use serde_json::json;

#[derive(Args)]
pub(crate) struct Spawn {
    /// The run: `skep agents` lists them.
    run: String,
    /// What is wanted, in words.
    #[arg(required = true)]
    goal: Vec<String>,
    /// The tools that it may use, with commas, of those that the run has.
    #[arg(long, value_delimiter = ',')]
    tools: Vec<String>,
    /// The machine that it shall live on.
    #[arg(long, value_name = "NODE")]
    on: Option<String>,
}

impl Spawn {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        let body = json!({ "goal": self.goal.join(" "), "tools": self.tools, "node_id": self.on });
        let spawned = here.client()?.post(&format!("/api/agents/{}/spawn", path_part(&self.run)), &body).await?;
        match here.json {
            true => screen::json(&spawned),
            false => screen::say!("{}", screen::text(&spawned["id"])),
        }
        Ok(())
    }
}
