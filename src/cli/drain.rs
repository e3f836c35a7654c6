//! `skep drain` and `skep cordon`: a machine that is emptied, and one that only takes no new work.

use super::{Here, screen};
use clap::Args;
use serde_json::json;

#[derive(Args)]
pub(crate) struct Drain {
    /// The machine: its id, the beginning of its id, or its name; this one if absent.
    node: Option<String>,
    /// Seconds that what runs there has to end; what is left then runs elsewhere, from its beginning.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    within: u64,
    /// Take work again.
    #[arg(long)]
    undo: bool,
}

#[derive(Args)]
pub(crate) struct Cordon {
    /// The machine: its id, the beginning of its id, or its name; this one if absent.
    node: Option<String>,
    /// Take work again.
    #[arg(long)]
    undo: bool,
}

impl Drain {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        let query = format!("?within_s={}", self.within);
        let said = format!("takes no new work; what still runs there in {} s runs elsewhere", self.within);
        set(here, self.node, self.undo, &query, &said).await
    }
}

impl Cordon {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        set(here, self.node, self.undo, "", "takes no new work; what runs there goes on").await
    }
}

async fn set(here: &Here, node: Option<String>, undo: bool, query: &str, said: &str) -> anyhow::Result<()> {
    let client = here.client()?;
    let node = node.unwrap_or_else(|| client.note.node_id.to_string());
    let path = format!("/api/nodes/{}/drain", super::path_part(&node));
    let answer = match undo {
        true => client.delete(&path).await?,
        false => client.post(&format!("{path}{query}"), &json!({})).await?,
    };
    if here.json {
        screen::json(&answer);
    } else {
        screen::done(format!("{node} {}", if undo { "takes new work" } else { said }));
    }
    Ok(())
}
