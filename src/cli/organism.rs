//! `skep organism`: the agents that the swarm has defined.

use super::{Here, path_part, screen};
use crate::client::Client;
use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Bytes of a definition: what the API takes.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[derive(Args)]
pub(crate) struct Organism {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand)]
enum What {
    /// The agents, and what each of them does.
    List,
    /// How an agent is defined, and what a message to it looks like.
    Show {
        /// Its name.
        agent: String,
    },
    /// Take the definition in a file, in TOML or YAML, in place of what there is: everything that is wrong with it is told.
    Load {
        /// The file; - is standard input.
        file: PathBuf,
    },
    /// Read organism.toml or organism.yaml in the node's folder again.
    Reload,
    /// Let an agent begin nothing new; what it is told waits.
    Pause {
        /// Its name.
        agent: String,
    },
    /// Let a paused agent go on.
    Resume {
        /// Its name.
        agent: String,
    },
    /// Let an agent take nothing more.
    Stop {
        /// Its name.
        agent: String,
    },
    /// Let a stopped agent work.
    Start {
        /// Its name.
        agent: String,
    },
}

impl Organism {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        let client = here.client()?;
        match self.what.unwrap_or(What::List) {
            What::List => list(here, &client).await,
            What::Show { agent } => show(here, &client, &agent).await,
            What::Load { file } => {
                let text = super::read(&file, FILE_BYTES_MAX).with_context(|| file.display().to_string())?;
                let change = client.put("/api/v1/organism/definition", &json!({ "definition": text })).await?;
                changed(here, &change);
                Ok(())
            }
            What::Reload => {
                changed(here, &client.post("/api/v1/organism/reload", &Value::Null).await?);
                Ok(())
            }
            What::Pause { agent } => {
                act(here, &client, &format!("/api/v1/agents/{}/pause", path_part(&agent)), "is paused").await
            }
            What::Resume { agent } => {
                act(here, &client, &format!("/api/v1/agents/{}/resume", path_part(&agent)), "goes on").await
            }
            What::Stop { agent } => {
                act(here, &client, &format!("/api/agents/{}/stop", path_part(&agent)), "is stopped").await
            }
            What::Start { agent } => {
                act(here, &client, &format!("/api/agents/{}/start", path_part(&agent)), "works").await
            }
        }
    }
}

fn changed(here: &Here, change: &Value) {
    if here.json {
        return screen::json(change);
    }
    let mut said = false;
    for (word, sign) in [("added", "+"), ("updated", "~"), ("removed", "-")] {
        for name in change[word].as_array().into_iter().flatten() {
            screen::say!("{sign} {}", screen::text(name));
            said = true;
        }
    }
    screen::done(if said { "the agents are as the definition says" } else { "nothing has changed" });
}

async fn act(here: &Here, client: &Client, path: &str, what: &str) -> anyhow::Result<()> {
    let done = client.post(path, &Value::Null).await?;
    if here.json {
        screen::json(&done);
    } else {
        let name = if done["agent"].is_null() { &done["id"] } else { &done["agent"] };
        screen::done(format!("{} {what}", screen::text(name)));
    }
    Ok(())
}

async fn list(here: &Here, client: &Client) -> anyhow::Result<()> {
    let agents = client.get("/api/v1/agents").await?;
    if here.json {
        screen::json(&agents);
        return Ok(());
    }
    let rows: Vec<_> = agents["agents"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|agent| {
            vec![
                screen::text(&agent["name"]),
                screen::state(&screen::text(&agent["state"])),
                agent["queueDepth"].to_string(),
                agent["messageCount"].to_string(),
                screen::one_line(&screen::text(&agent["description"]), 60),
            ]
        })
        .collect();
    screen::table(&["AGENT", "STATE", "WAITING", "MESSAGES", "FOR"], &rows);
    if rows.len() == 1 {
        screen::note!("`skep organism load FILE` defines more; `skep ask main TEXT` asks this one");
    }
    Ok(())
}

async fn show(here: &Here, client: &Client, agent: &str) -> anyhow::Result<()> {
    let name = path_part(agent);
    let config = client.get(&format!("/api/v1/agents/{name}/config")).await?;
    let schema = client.get(&format!("/api/v1/capabilities/{name}")).await?;
    if here.json {
        screen::json(&json!({ "config": config, "capability": schema }));
        return Ok(());
    }
    let list = |value: &Value| {
        let words: Vec<String> = value.as_array().into_iter().flatten().map(screen::text).collect();
        if words.is_empty() { "none".to_owned() } else { words.join(", ") }
    };
    screen::say!("{}", screen::text(&config["name"]));
    screen::say!("  for        {}", screen::text(&config["description"]));
    screen::say!(
        "  model      {}",
        if config["model"].is_null() { "the default one".into() } else { screen::text(&config["model"]) }
    );
    screen::say!("  tools      {}", list(&config["tools"]));
    screen::say!("  asks       {}", list(&config["peers"]));
    if !config["budget"].is_null() {
        screen::say!("  budget     {} tokens an answer", config["budget"]);
    }
    screen::say!("  a message  {}", screen::text(&schema["exampleXml"]));
    Ok(())
}
