//! `skep audit`: what agents wanted, who decided about it, what was done; and whether nobody has changed the record of it.

use super::{Here, approvals::exact, screen};
use crate::client::Client;
use anyhow::bail;
use clap::{Args, Subcommand};
use owo_colors::OwoColorize;
use serde_json::Value;
use std::process::ExitCode;

/// No log is known not to be whole, but not all of them were looked at.
const NOT_ALL: u8 = 6;

#[derive(Args)]
pub(crate) struct Audit {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// The newest entries of all machines, the newest first. So without a word.
    List {
        /// How many.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// The calls of tools of one turn: what they were given, what came of them.
    Turn {
        /// The turn's id; of a goal that is no turn of a thread, its run's.
        turn: String,
    },
    /// Check that no entry was changed, taken out or put in. Each machine that is up checks its own log, and is compared with
    /// what this one has seen of it; the first bad entry is named, and the exit code is 1. It is 6 if there is none, but a
    /// machine is away, whose log was not looked at.
    Verify,
}

impl Audit {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<ExitCode> {
        let client = here.client()?;
        match self.action.unwrap_or(Action::List { limit: 50 }) {
            Action::List { limit } => list(here, &client, limit).await?,
            Action::Turn { turn } => tools(here, &client, &turn).await?,
            Action::Verify => {
                let all = verify(here, &client).await?;
                return Ok(if all { ExitCode::SUCCESS } else { ExitCode::from(NOT_ALL) });
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn list(here: &Here, client: &Client, limit: u32) -> anyhow::Result<()> {
    let answer = client.get(&format!("/api/audit?limit={limit}")).await?;
    if here.json {
        screen::json(&answer);
        return Ok(());
    }
    let row = |entry: &Value| {
        let node: String = screen::text(&entry["node_id"]).chars().take(8).collect();
        vec![
            screen::text(&entry["created_at"]),
            format!("{node}-{}", entry["seq"]),
            screen::text(&entry["what"]),
            screen::text(&entry["tool_name"]),
            screen::text(&entry["result"]),
            screen::text(&entry["by"]),
            screen::one_line(&exact(&screen::text(&entry["text"])), 70),
        ]
    };
    let rows: Vec<Vec<String>> = answer["entries"].as_array().into_iter().flatten().map(row).collect();
    match rows.is_empty() {
        true => screen::note!("nothing yet: no agent has called a tool"),
        false => screen::table(&["WHEN", "ENTRY", "WHAT", "TOOL", "RESULT", "BY", "TEXT"], &rows),
    }
    Ok(())
}

async fn tools(here: &Here, client: &Client, turn: &str) -> anyhow::Result<()> {
    let answer = client.get(&format!("/api/audit/tools/{}", super::path_part(turn))).await?;
    if here.json {
        screen::json(&answer);
        return Ok(());
    }
    let row = |call: &Value| {
        vec![
            screen::text(&call["created_at"]),
            screen::text(&call["tool_name"]),
            screen::text(&call["status"]),
            screen::text(&call["duration_ms"]),
            screen::one_line(&exact(&screen::text(&call["input"])), 60),
            screen::one_line(&exact(&screen::text(&call["output"])), 60),
        ]
    };
    let rows: Vec<Vec<String>> = answer["tool_calls"].as_array().into_iter().flatten().map(row).collect();
    match rows.is_empty() {
        true => screen::note!("no machine that answers knows of a call of a tool in this turn"),
        false => screen::table(&["WHEN", "TOOL", "STATUS", "MS", "WITH", "GAVE"], &rows),
    }
    Ok(())
}

/// Whether all logs were looked at.
async fn verify(here: &Here, client: &Client) -> anyhow::Result<bool> {
    let check = client.post("/api/audit/verify", &serde_json::json!({})).await?;
    let logs = check["logs"].as_array().cloned().unwrap_or_default();
    if here.json {
        screen::json(&check);
    } else {
        let row = |log: &Value| {
            let state = match log["whole"].as_bool() {
                Some(true) => "whole".green().to_string(),
                Some(false) => "NOT WHOLE".red().to_string(),
                None => "not looked at".yellow().to_string(),
            };
            let remark = match (log["fault"].as_str(), log["anchored"].as_bool()) {
                (None, Some(false)) => "no other machine has seen it".into(),
                _ => screen::text(&log["fault"]),
            };
            let head: String = screen::text(&log["hash"]).chars().take(12).collect();
            vec![screen::text(&log["name"]), state, screen::text(&log["entries"]), head, remark]
        };
        screen::table(&["MACHINE", "LOG", "ENTRIES", "LAST", "REMARK"], &logs.iter().map(row).collect::<Vec<_>>());
    }
    let told =
        |log: &Value| format!("the audit log of {}: {}", screen::text(&log["name"]), screen::text(&log["fault"]));
    if let Some(bad) = logs.iter().find(|log| log["whole"] == false) {
        bail!(told(bad));
    }
    let unseen: Vec<String> = logs.iter().filter(|log| log["whole"] != true).map(told).collect();
    if !unseen.is_empty() {
        screen::note!("{} {}", "not all logs were looked at:".yellow(), unseen.join("; "));
    }
    Ok(unseen.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{client::canned, home::Home};

    #[tokio::test]
    async fn a_log_that_is_not_whole_fails_the_check_and_says_where_and_one_that_is_away_does_not_pass_it() {
        let check = |whole: &str| {
            format!(
                r#"{{"whole":false,"logs":[{{"name":"a","whole":true}},{{"name":"b","whole":{whole},"fault":"entry 7 was changed"}}]}}"#
            )
        };
        let bad = Err("the audit log of b: entry 7 was changed".to_owned());
        let here = Here { home: Home::at("nowhere"), json: true };
        for (answer, expected) in [(check("false"), bad), (check("null"), Ok(false)), (check("true"), Ok(true))] {
            let node = canned::node(&[("/api/audit/verify", answer.as_str())]).await;
            assert_eq!(verify(&here, &node.client).await.map_err(|error| error.to_string()), expected);
        }
    }
}
