//! `skep agent`: gives a goal to an agent and follows it and its sub-agents to the answer.

use super::{Here, approvals::WAITING, screen};
use crate::client::Client;
use clap::Args;
use futures::StreamExt;
use owo_colors::OwoColorize;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time::timeout;

/// How long a run may say nothing before it is looked whether it waits for an approval.
const QUIET: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(crate) struct Agent {
    /// The goal, in words.
    #[arg(required = true)]
    goal: Vec<String>,
    /// How it is worked on: answer, react (think and call tools) or map-reduce (over documents). If absent, map-reduce
    /// with a folder, react with tools, else answer.
    #[arg(long)]
    strategy: Option<String>,
    /// The tools that it may use, with commas: list_cluster_nodes, spawn_sub_agent, run_task, read_file.
    #[arg(long, value_delimiter = ',')]
    tools: Vec<String>,
    /// A folder whose text files are its documents.
    #[arg(long, value_name = "DIR")]
    folder: Option<std::path::PathBuf>,
    /// Tokens that it and its sub-agents may spend in all.
    #[arg(long, value_name = "TOKENS")]
    budget: Option<u64>,
    /// Money that it and its sub-agents may spend in all, by `skep budget prices`.
    #[arg(long, value_name = "MONEY")]
    budget_cost: Option<f64>,
    /// The model; the default one if absent.
    #[arg(long)]
    model: Option<String>,
    /// The machine that it shall live on.
    #[arg(long, value_name = "NODE")]
    on: Option<String>,
    /// Print its id and don't wait for it.
    #[arg(long)]
    detach: bool,
}

impl Agent {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        let client = here.client()?;
        let folder = self.folder.map(std::fs::canonicalize).transpose()?;
        let body = json!({
            "goal": self.goal.join(" "),
            "strategy": self.strategy.map(|s| s.replace('-', "_")),
            "tools": self.tools,
            "folder": folder,
            "budget": self.budget,
            "budget_cost": self.budget_cost,
            "model": self.model,
            "node_id": self.on,
        });
        let run = client.post("/api/agents", &body).await?;
        let id = screen::text(&run["id"]);
        if self.detach {
            if here.json {
                screen::json(&run)
            } else {
                screen::say!("{id}")
            }
            return Ok(());
        }
        // Ctrl-C ends the agent too; what it has so far is kept and shown.
        let run = tokio::select! {
            run = follow(&client, &id, !here.json) => run?,
            _ = tokio::signal::ctrl_c() => cancel(&client, &id).await?,
        };
        if here.json {
            screen::json(&run);
        } else if let Some(output) = run["output"].as_str() {
            screen::say!("{}", screen::plain(output));
        }
        match run["status"].as_str() {
            Some("completed") => Ok(()),
            status => anyhow::bail!("{}", run["error"].as_str().or(status).unwrap_or("the agent did not finish")),
        }
    }
}

/// Ends a run and gives its record: what it has so far is kept.
async fn cancel(client: &Client, id: &str) -> anyhow::Result<Value> {
    client.post(&format!("/api/agents/{id}/cancel"), &json!({})).await?;
    Ok(client.get(&format!("/api/agents/{id}")).await?)
}

/// Follows a run to its end and gives its record; with `show`, each new step of it and of its sub-agents is a
/// line on standard error: node, step, tokens spent of the budget.
pub(crate) async fn follow(client: &Client, id: &str, show: bool) -> anyhow::Result<Value> {
    let names = names(client).await?;
    let mut tree = Tree { root: id.into(), names, ..Tree::default() };
    let mut events = client.watch(&format!("/api/agents/{id}/events")).await?;
    loop {
        let event = match timeout(QUIET, events.next()).await {
            Ok(Some(event)) => event?,
            Ok(None) => break,
            // It thinks, or somebody is asked: no event tells.
            Err(_) if show => {
                tree.waits(client).await;
                continue;
            }
            Err(_) => continue,
        };
        match event.name.as_str() {
            "run" if show => tree.run(&event.data),
            "budget" => tree.budget = Some((number(&event.data, "spent"), number(&event.data, "max"))),
            "warning" if show => screen::note!("{}", screen::text(&event.data["message"]).yellow()),
            "failed" => anyhow::bail!("{}", screen::text(&event.data["error"])),
            _ => {}
        }
    }
    Ok(client.get(&format!("/api/agents/{id}")).await?)
}

/// What was shown already, so that each change is one line.
#[derive(Default)]
struct Tree {
    root: String,
    names: BTreeMap<String, String>,
    shown: BTreeMap<String, (usize, String)>,
    budget: Option<(u64, u64)>,
    thread: String,
    /// Approvals that were told of.
    asked: BTreeSet<String>,
}

impl Tree {
    /// Says once of each call of this tree that it waits for an approval, and how to give it.
    async fn waits(&mut self, client: &Client) {
        // It is only a remark: a node that doesn't answer is found out by the events.
        let Ok(answer) = client.get(WAITING).await else { return };
        let ours = |approval: &&Value| approval["session_id"] == self.thread.as_str();
        let pending: Vec<Value> = answer["pending"].as_array().into_iter().flatten().filter(ours).cloned().collect();
        for approval in pending {
            let id = screen::text(&approval["id"]);
            if self.asked.insert(id.clone()) {
                let (tool, id) = (screen::text(&approval["tool_name"]), id.chars().take(8).collect::<String>());
                let with = screen::one_line(&super::approvals::exact(&screen::text(&approval["tool_input"])), 60);
                screen::note!("{} {tool} {with}: skep approvals allow {id}, or deny", "waits for your word:".yellow());
            }
        }
    }

    fn run(&mut self, run: &Value) {
        let id = screen::text(&run["id"]);
        if id == self.root {
            self.thread = screen::text(&run["thread_id"]);
        }
        let node = screen::text(&run["node_id"]);
        let node = self.names.get(&node).cloned().unwrap_or_else(|| node.chars().take(8).collect());
        let branch = if id == self.root { "" } else { "  └ " };
        let (seen, last) = self.shown.entry(id).or_default();
        let steps = run["steps"].as_array().map_or(&[][..], Vec::as_slice);
        for step in steps.iter().skip(*seen).filter(|s| s["status"] != "running" && s["status"] != "pending") {
            *seen += 1;
            let what = step["result"].as_str().or(step["args"].as_str()).unwrap_or_default();
            let spent = self.budget.map_or(String::new(), |(spent, max)| format!("{spent}/{max} tokens"));
            let line = format!(
                "{branch}{:<8} {:<16} {}",
                node.cyan(),
                screen::text(&step["tool"]),
                screen::one_line(what, 60)
            );
            screen::note!("{line} {}", spent.dimmed());
        }
        let status = screen::text(&run["status"]);
        if *last != status && status != "running" {
            let why = run["error"].as_str().map(|e| format!(": {}", screen::one_line(e, 80))).unwrap_or_default();
            screen::note!("{branch}{:<8} {}{why}", node.cyan(), screen::state(&status));
        }
        *last = status;
    }
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_default()
}

/// Node ids and their names.
pub(super) async fn names(client: &Client) -> anyhow::Result<BTreeMap<String, String>> {
    let nodes = client.get("/api/nodes").await?;
    let nodes = nodes.as_array().cloned().unwrap_or_default();
    Ok(nodes.iter().map(|n| (screen::text(&n["id"]), screen::text(&n["name"]))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::canned;

    #[tokio::test]
    async fn a_run_that_was_ended_shows_what_it_has() {
        let record = r#"{"status":"cancelled","output":"half"}"#;
        let node = canned::node(&[("/api/agents/7/cancel", ""), ("/api/agents/7", record)]).await;
        assert_eq!(cancel(&node.client, "7").await.unwrap()["output"], "half");
    }
}
