//! `skep tasks`: the commands of the swarm.

use super::{Here, screen};
use clap::Args;
use serde_json::Value;

#[derive(Args)]
pub(crate) struct Tasks {}

impl Tasks {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        let tasks = here.client()?.get("/api/tasks").await?;
        if here.json {
            screen::json(&tasks);
            return Ok(());
        }
        let tasks = tasks.as_array().cloned().unwrap_or_default();
        let rows: Vec<_> = tasks
            .iter()
            .map(|t| {
                vec![
                    screen::text(&t["id"]),
                    screen::state(&screen::text(&t["status"])),
                    screen::text(&t["assigned_node"]).chars().take(8).collect(),
                    t["sandbox"].as_str().map_or("-".into(), screen::plain),
                    t["exit_code"].as_i64().map_or("-".into(), |c| c.to_string()),
                    screen::one_line(&line(t), 60),
                ]
            })
            .collect();
        screen::table(&["TASK", "STATUS", "NODE", "SANDBOX", "EXIT", "COMMAND"], &rows);
        Ok(())
    }
}

/// The command as it was given, program and arguments.
fn line(task: &Value) -> String {
    let args = task["args"].as_array().into_iter().flatten();
    [&task["command"]].into_iter().chain(args).map(screen::text).collect::<Vec<_>>().join(" ")
}
