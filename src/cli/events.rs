//! `skep events`: what happens in the swarm, a line each, until it is stopped.

use super::{Here, path_part, screen};
use clap::Args;
use futures::StreamExt;
use owo_colors::OwoColorize;
use serde_json::Value;
use std::{collections::BTreeMap, io::Write};

/// Characters of what is told of one event.
const LINE_CHARS_MAX: usize = 120;

/// What says most about an event, in the order in which it is shown.
const TOLD: [&str; 14] = [
    "status", "state", "name", "command", "goal", "step", "tool", "role", "delta", "content", "model", "detail",
    "error", "count",
];

#[derive(Args)]
pub(crate) struct Events {
    /// Only these, with commas between them: node_joined, node_offline, task_submitted, task_updated, agent_started, ...
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    types: Vec<String>,
}

impl Events {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        let client = here.client()?;
        let mut names = super::agent::names(&client).await?;
        let types: Vec<String> = self.types.iter().map(|name| path_part(name.trim())).collect();
        let path = match types.is_empty() {
            true => "/api/events".to_owned(),
            false => format!("/api/events?types={}", types.join(",")),
        };
        let mut events = client.watch(&path).await?;
        while let Some(event) = events.next().await {
            let event = event?;
            let line = match (event.name.as_str(), here.json) {
                ("dropped", _) => anyhow::bail!("{}", screen::text(&event.data["detail"])),
                (_, true) => event.data.to_string(),
                ("connected", false) => {
                    greet(&event.data, &names);
                    continue;
                }
                (name, false) => line(name, &event.data, &mut names),
            };
            // A closed pipe is the reader's wish to stop reading.
            if writeln!(anstream::stdout().lock(), "{line}").is_err() {
                return Ok(());
            }
        }
        anyhow::bail!("the node ended the stream: is it still running? `skep status` tells")
    }
}

fn greet(data: &Value, names: &BTreeMap<String, String>) {
    let unreached = data["unreached"].as_array().map_or(&[][..], Vec::as_slice);
    let unreached: Vec<String> = unreached.iter().map(|id| name(&screen::text(id), names)).collect();
    match unreached.is_empty() {
        true => screen::note!("{}", "listening to all machines that are up; Ctrl-C stops".dimmed()),
        false => screen::note!("what happens on {} is not heard yet", unreached.join(", ")),
    }
}

fn line(kind: &str, data: &Value, names: &mut BTreeMap<String, String>) -> String {
    if let (true, Some(id), Some(name)) = (kind.starts_with("node_"), data["id"].as_str(), data["name"].as_str()) {
        names.insert(id.into(), screen::plain(name));
    }
    let time = screen::text(&data["timestamp"]);
    let time: String = time.chars().skip(11).take(8).collect();
    let told = TOLD.iter().map(|key| &data[*key]).filter(|value| !value.is_null()).map(screen::text);
    let told = screen::one_line(&told.collect::<Vec<_>>().join(" "), LINE_CHARS_MAX);
    let node = name(&screen::text(&data["node_id"]), names);
    format!("{} {:<16} {:<10} {told}", time.dimmed(), screen::plain(kind).cyan(), node)
}

fn name(id: &str, names: &BTreeMap<String, String>) -> String {
    names.get(id).cloned().unwrap_or_else(|| id.chars().take(8).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_is_one_line_that_says_when_what_where_and_how() {
        let mut names = BTreeMap::from([("abcdefghijk".to_owned(), "alder".to_owned())]);
        let task = json!({ "timestamp": "2026-03-01T07:30:15.123Z", "node_id": "abcdefghijk", "status": "failed",
            "command": "exit\n3", "error": null, "attempts": 1 });
        let shown = anstream::adapter::strip_str(&line("task_updated", &task, &mut names)).to_string();
        assert_eq!(shown, "07:30:15 task_updated     alder      failed exit 3");
        let node =
            json!({ "id": "zyxwvutsrqp", "name": "birch\u{1b}[2J", "status": "online", "node_id": "zyxwvutsrqp" });
        let shown = anstream::adapter::strip_str(&line("node_joined", &node, &mut names)).to_string();
        assert!(shown.contains("birch[2J") && !shown.contains('\u{1b}'), "{shown}");
    }
}
