//! `skep workers`: the external workers that the swarm knows.

use super::{Here, screen};
use clap::Args;
use serde_json::{Value, json};

/// As many as a screen is scrolled through; the API's bound.
const WORKERS_MAX: u32 = 1000;

#[derive(Args)]
pub(crate) struct Workers {}

impl Workers {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        let found = here.client()?.post("/agents/discover", &json!({ "limit": WORKERS_MAX })).await?;
        if here.json {
            screen::json(&found["agents"]);
            return Ok(());
        }
        let rows: Vec<_> = found["agents"].as_array().into_iter().flatten().map(row).collect();
        screen::table(&["WORKER", "TYPE", "STATUS", "HEALTH", "TASKS", "DONE", "LAST HEARD OF", "CAPABILITIES"], &rows);
        Ok(())
    }
}

fn row(worker: &Value) -> Vec<String> {
    let capabilities: Vec<String> = worker["capabilities"].as_array().into_iter().flatten().map(screen::text).collect();
    vec![
        screen::text(&worker["agent_id"]),
        screen::text(&worker["agent_type"]),
        screen::state(&screen::text(&worker["status"])),
        worker["health_score"].as_f64().map_or("-".into(), |score| format!("{score:.2}")),
        screen::text(&worker["active_tasks"]),
        screen::text(&worker["completed_tasks"]),
        screen::text(&worker["last_heartbeat"]),
        screen::one_line(&capabilities.join(", "), 60),
    ]
}
