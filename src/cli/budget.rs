//! `skep budget`: what threads may spend and have spent.

use super::{Here, screen};
use clap::Args;
use serde_json::Value;

#[derive(Args)]
pub(crate) struct Budget {
    /// One thread.
    thread: Option<String>,
}

impl Budget {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        let client = here.client()?;
        let answer = match &self.thread {
            Some(thread) => client.get(&format!("/api/v1/usage/threads/{}", super::path_part(thread))).await?,
            None => client.get("/api/v1/usage/threads").await?,
        };
        if here.json {
            screen::json(&answer);
            return Ok(());
        }
        let threads = answer["threads"].as_array().cloned().unwrap_or_else(|| vec![answer.clone()]);
        let row = |t: &Value| {
            vec![
                screen::text(&t["thread_id"]),
                t["total_tokens"].to_string(),
                t["max_tokens"].to_string(),
                t["remaining"].to_string(),
                format!("{:.1} %", t["percent_used"].as_f64().unwrap_or_default()),
            ]
        };
        screen::table(&["THREAD", "SPENT", "BUDGET", "LEFT", "USED"], &threads.iter().map(row).collect::<Vec<_>>());
        Ok(())
    }
}
