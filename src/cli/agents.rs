//! `skep agents`: the agents of the swarm.

use super::{Here, screen};
use clap::Args;

#[derive(Args)]
pub(crate) struct Agents {}

impl Agents {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        let agents = here.client()?.get("/api/agents").await?;
        if here.json {
            screen::json(&agents);
            return Ok(());
        }
        let runs = agents["runs"].as_array().cloned().unwrap_or_default();
        let rows: Vec<_> = runs
            .iter()
            .map(|r| {
                vec![
                    screen::text(&r["id"]),
                    screen::state(&screen::text(&r["status"])),
                    screen::text(&r["node_id"]).chars().take(8).collect(),
                    r["tokens"].to_string(),
                    screen::one_line(&screen::text(&r["goal"]), 60),
                ]
            })
            .collect();
        screen::table(&["AGENT", "STATUS", "NODE", "TOKENS", "GOAL"], &rows);
        Ok(())
    }
}
