//! `skep policy`: the rules about what agents may do, as a file.

use super::{Here, approvals::exact, screen};
use crate::client::Client;
use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Bytes of a policy's file: more than the node takes.
const FILE_BYTES_MAX: u64 = 256 << 10;

#[derive(Args)]
pub(crate) struct Policy {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// The policy of the swarm, as TOML that `set` takes. So without a word.
    Show,
    /// Set another one, all of it. FILE is TOML (or JSON), with rules of which the first that fits a call counts:
    /// [[rules]] name = "commands", tool = "run_task", when = { command = "*" }, verdict = "ask"; - is standard input.
    Set {
        /// The file.
        file: PathBuf,
    },
}

impl Policy {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        let client = here.client()?;
        match self.action.unwrap_or(Action::Show) {
            Action::Show => show(here, &client).await,
            Action::Set { file } => set(here, &client, &file).await,
        }
    }
}

async fn show(here: &Here, client: &Client) -> anyhow::Result<()> {
    let mut policy = client.get("/api/policy").await?;
    if here.json {
        screen::json(&policy);
        return Ok(());
    }
    let changed = (screen::text(&policy["changed_at"]), screen::text(&policy["changed_by"]));
    if let Some(policy) = policy.as_object_mut() {
        policy.retain(|name, _| !name.starts_with("changed_"));
        let no_rules = policy.get("rules").and_then(Value::as_array).is_some_and(Vec::is_empty);
        if no_rules {
            screen::note!("# no rules: whatever tools a goal names, its agents may call");
            policy.remove("rules");
        }
    }
    if changed.0 != "-" {
        screen::note!("# since {}, by {}", changed.0, changed.1);
    }
    let text = toml::to_string_pretty(&policy).context("the policy is no TOML")?;
    let lines: Vec<String> = text.lines().map(exact).collect();
    screen::say!("{}", lines.join("\n"));
    Ok(())
}

async fn set(here: &Here, client: &Client, file: &Path) -> anyhow::Result<()> {
    let text = super::read(file, FILE_BYTES_MAX).with_context(|| format!("{}", file.display()))?;
    let mut policy = parsed(&text).with_context(|| format!("{}", file.display()))?;
    let by = super::who();
    policy["changed_by"] = json!(by);
    let set = client.put("/api/policy", &policy).await?;
    match here.json {
        true => screen::json(&set),
        false => {
            let rules = set["rules"].as_array().map_or(0, Vec::len);
            screen::done(format!(
                "the policy has {rules} rules, and {} where none fits",
                screen::text(&set["default"])
            ));
        }
    }
    Ok(())
}

/// The policy in a text. A file without rules has none: that it says so is for people.
fn parsed(text: &str) -> anyhow::Result<Value> {
    let mut policy: Value = match text.trim_start().starts_with('{') {
        true => serde_json::from_str(text).context("it is no JSON")?,
        false => toml::from_str(text).context("it is no TOML; see `skep policy set --help`")?,
    };
    ensure!(policy.is_object(), "it is no policy");
    if policy["rules"].is_null() {
        policy["rules"] = json!([]);
    }
    Ok(policy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_the_same_in_toml_and_in_json() {
        let toml = r#"
            default = "ask"
            [[rules]]
            name = "looks"
            tool = "run_task"
            when = { command = "ls *", node = "?*" }
            verdict = "allow"
        "#;
        let json = r#"{"default":"ask","rules":[{"name":"looks","tool":"run_task",
            "when":{"command":"ls *","node":"?*"},"verdict":"allow"}]}"#;
        assert_eq!(parsed(toml).unwrap(), parsed(json).unwrap());
        let again = toml::to_string_pretty(&parsed(toml).unwrap()).unwrap();
        assert_eq!(parsed(&again).unwrap(), parsed(toml).unwrap(), "{again}");
        assert_eq!(parsed("").unwrap(), json!({"rules": []}));
        assert!(parsed("[[rules]").is_err() && parsed("{").is_err());
    }
}
