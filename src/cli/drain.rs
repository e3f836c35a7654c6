//! `skep drain`: a node that takes no new work.

use super::{Here, screen};
use clap::Args;
use serde_json::json;

#[derive(Args)]
pub(crate) struct Drain {
    /// The machine: its id, the beginning of its id, or its name; this one if absent.
    node: Option<String>,
    /// Take work again.
    #[arg(long)]
    undo: bool,
}

impl Drain {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        let client = here.client()?;
        let node = self.node.unwrap_or_else(|| client.note.node_id.to_string());
        let path = format!("/api/nodes/{}/drain", super::path_part(&node));
        let answer = if self.undo { client.delete(&path).await? } else { client.post(&path, &json!({})).await? };
        if here.json {
            screen::json(&answer);
        } else {
            screen::done(format!("{node} takes {} work", if self.undo { "new" } else { "no new" }));
        }
        Ok(())
    }
}
