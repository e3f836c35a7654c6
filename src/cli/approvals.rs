//! `skep approvals`: calls of agents that wait for the owner, and the owner's answers.

use super::{Here, screen};
use crate::client::{Client, Error};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

/// The calls that wait: as many as the node lists.
pub(super) const WAITING: &str = "/api/approvals?limit=1000";

#[derive(Args)]
pub(crate) struct Approvals {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// The calls that wait: who wants what, and for how long still. So without a word.
    List,
    /// One of them, or one that waited: exactly what it would do, and which rule asks.
    Show {
        /// Its id, or the beginning of it.
        id: String,
    },
    /// Let a call be made: once, with exactly these arguments.
    Allow {
        /// Its id, or the beginning of it.
        id: String,
        /// What the record says about it.
        #[arg(long, value_name = "TEXT")]
        because: Option<String>,
    },
    /// Refuse a call; it stays refused for this turn of its agent.
    Deny {
        /// Its id, or the beginning of it.
        id: String,
        /// What the agent is told.
        #[arg(long, value_name = "TEXT")]
        because: Option<String>,
    },
}

impl Approvals {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        let client = here.client()?;
        match self.action.unwrap_or(Action::List) {
            Action::List => list(here, &client).await,
            Action::Show { id } => show(here, &client, &id).await,
            Action::Allow { id, because } => decide(here, &client, &id, "approve", because).await,
            Action::Deny { id, because } => decide(here, &client, &id, "deny", because).await,
        }
    }
}

async fn list(here: &Here, client: &Client) -> anyhow::Result<()> {
    let answer = client.get(WAITING).await?;
    if here.json {
        screen::json(&answer);
        return Ok(());
    }
    let row = |approval: &Value| {
        vec![
            screen::text(&approval["id"]).chars().take(8).collect(),
            screen::text(&approval["requested_authority"]),
            screen::text(&approval["tool_name"]),
            screen::text(&approval["timeout_at"]),
            screen::one_line(&exact(&screen::text(&approval["tool_input"])), 80),
        ]
    };
    let rows: Vec<Vec<String>> = answer["pending"].as_array().into_iter().flatten().map(row).collect();
    match rows.is_empty() {
        true => screen::note!("no call waits for an approval (`skep policy` shows what agents have to ask about)"),
        false => {
            screen::table(&["ID", "WHO", "TOOL", "UNTIL", "WITH"], &rows);
            let more = answer["total"].as_u64().unwrap_or_default().saturating_sub(rows.len() as u64);
            if more > 0 {
                screen::note!("... and {more} more");
            }
            screen::note!("\nskep approvals show ID, then: skep approvals allow ID, or: skep approvals deny ID");
        }
    }
    Ok(())
}

async fn show(here: &Here, client: &Client, wanted: &str) -> anyhow::Result<()> {
    let id = find(client, wanted).await?;
    let approval = client.get(&format!("/api/approvals/{id}")).await?;
    if here.json {
        screen::json(&approval);
        return Ok(());
    }
    let lines = [
        ("id", "id"),
        ("who", "requested_authority"),
        ("tool", "tool_name"),
        ("status", "status"),
        ("until", "timeout_at"),
        ("rule", "rule_name"),
        ("reason", "reason"),
        ("run", "run_id"),
        ("machine", "node_id"),
        ("decided by", "decided_by"),
        ("because", "because"),
        ("SHA-256", "input_sha256"),
    ];
    let shown = lines.iter().filter(|(_, field)| !approval[*field].is_null());
    let rows: Vec<Vec<String>> =
        shown.map(|(label, field)| vec![(*label).to_owned(), screen::text(&approval[*field])]).collect();
    screen::table(&["APPROVAL", ""], &rows);
    // All of it: what is approved is what is seen.
    screen::say!("\n{}", exact(approval["tool_input"].as_str().unwrap_or_default()));
    Ok(())
}

async fn decide(here: &Here, client: &Client, wanted: &str, how: &str, because: Option<String>) -> anyhow::Result<()> {
    let id = find(client, wanted).await?;
    let by = super::who();
    let body = json!({ "decided_by": by, "because": because });
    let answer = client.post(&format!("/api/approvals/{id}/{how}"), &body).await?;
    if here.json {
        screen::json(&answer);
        return Ok(());
    }
    let (approval, done) = match how {
        "approve" => (&answer["approval"], "allowed, once"),
        _ => (&answer, "denied"),
    };
    screen::done(format!("{}: {done}", screen::text(&approval["tool_name"])));
    Ok(())
}

/// The id of the request that is meant. A whole one may have been decided already: its node says so.
async fn find(client: &Client, wanted: &str) -> Result<String, Error> {
    if wanted.len() >= 36 {
        return Ok(super::path_part(wanted));
    }
    let answer = client.get(WAITING).await?;
    let pending = answer["pending"].as_array().cloned().unwrap_or_default();
    let ids: Vec<String> = pending.iter().map(|approval| screen::text(&approval["id"])).collect();
    let found: Vec<&String> = ids.iter().filter(|id| !wanted.is_empty() && id.starts_with(wanted)).collect();
    let refused = |status, detail: String| Err(Error::Refused { status, detail });
    match found.as_slice() {
        [id] => Ok((*id).clone()),
        [] => refused(404, format!("no call that waits is called {wanted}: `skep approvals` lists them")),
        several => refused(409, format!("{wanted} could be any of {}: give more of its id", several.len())),
    }
}

/// A text of which nothing is hidden: characters that a screen doesn't show, or that turn others around, stand as their
/// numbers.
pub(crate) fn exact(text: &str) -> String {
    let unseen = |c: char| {
        c.is_control()
            || matches!(c,
                '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}')
    };
    text.chars().map(|c| if unseen(c) { c.escape_unicode().to_string() } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::canned;

    #[test]
    fn nothing_of_what_is_approved_is_hidden() {
        assert_eq!(exact("rm \u{202e}x\u{200b}y é 蜂"), "rm \\u{202e}x\\u{200b}y é 蜂");
    }

    #[tokio::test]
    async fn a_request_is_found_by_the_beginning_of_its_id_if_only_one_is_called_so() {
        let pending = r#"{"pending":[{"id":"aa11"},{"id":"aa22"},{"id":"bb"}],"total":3}"#;
        let node = canned::node(&[(WAITING, pending)]).await;
        assert_eq!(find(&node.client, "b").await.unwrap(), "bb");
        let status = async |wanted: &str| match find(&node.client, wanted).await {
            Err(Error::Refused { status, .. }) => status,
            other => panic!("{other:?}"),
        };
        assert_eq!((status("aa").await, status("c").await, status("").await), (409, 404, 404));
    }
}
