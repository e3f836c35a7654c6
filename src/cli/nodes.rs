//! `skep nodes`: the machines of the swarm.

use super::{Here, screen};
use clap::Args;
use serde_json::Value;

#[derive(Args)]
pub(crate) struct Nodes {}

impl Nodes {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        let client = here.client()?;
        let nodes = client.get("/api/nodes").await?;
        if here.json {
            screen::json(&nodes);
            return Ok(());
        }
        screen::table(&HEADER, &rows(&nodes, &client.note.node_id.to_string()));
        Ok(())
    }
}

pub(crate) const HEADER: [&str; 8] = ["NODE", "NAME", "STATUS", "CPU", "MEMORY", "GPU", "SANDBOX", "ADDRESS"];

/// The rows of a list of nodes; `me` is marked.
pub(crate) fn rows(nodes: &Value, me: &str) -> Vec<Vec<String>> {
    let nodes = nodes.as_array().cloned().unwrap_or_default();
    let row = |n: &Value| {
        let id = screen::text(&n["id"]);
        let mark = if id == me { " *" } else { "" };
        let used = (n["ram_used"].as_u64().unwrap_or_default(), n["ram_total"].as_u64().unwrap_or_default());
        vec![
            format!("{}{mark}", id.chars().take(8).collect::<String>()),
            screen::text(&n["name"]),
            screen::state(&screen::text(&n["status"])),
            n["cpu_percent"].as_f64().map_or("-".into(), |p| format!("{p:.0} %")),
            if used.1 == 0 { "-".into() } else { format!("{} of {}", screen::bytes(used.0), screen::bytes(used.1)) },
            n["gpu"]["name"].as_str().map_or("-".into(), screen::plain),
            screen::text(&n["sandbox"]),
            screen::text(&n["addresses"][0]),
        ]
    };
    nodes.iter().map(row).collect()
}
