//! `skep approve`: lets in a machine that waits, by the six digits that both screens show.

use super::{Here, screen};
use clap::Args;
use serde_json::json;

#[derive(Args)]
pub(crate) struct Approve {
    /// The six digits on the other machine's screen; without them, the machines that wait are listed.
    code: Option<String>,
}

impl Approve {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        let client = here.client()?;
        let Some(code) = self.code else {
            let waiting = client.get("/api/cluster/waiting").await?;
            if here.json {
                screen::json(&waiting);
                return Ok(());
            }
            let waiting = waiting.as_array().cloned().unwrap_or_default();
            if waiting.is_empty() {
                screen::note!("Nobody waits. Start `skep up` on the other machine; it is listed here within seconds.");
                return Ok(());
            }
            let rows: Vec<_> = waiting
                .iter()
                .map(|w| vec![screen::text(&w["code"]), screen::text(&w["name"]), screen::text(&w["address"])])
                .collect();
            screen::table(&["CODE", "NAME", "ADDRESS"], &rows);
            screen::note!("\nCompare the code with the other machine's screen, then: skep approve CODE");
            return Ok(());
        };
        let answer = client.post("/api/cluster/approve", &json!({ "code": code })).await?;
        if here.json {
            screen::json(&answer)
        } else {
            screen::done(format!("node {} is in", screen::text(&answer["id"])))
        }
        Ok(())
    }
}
