//! `skep status`: the swarm in a few lines.

use super::{Here, screen};
use clap::Args;

#[derive(Args)]
pub(crate) struct Status {}

impl Status {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        let client = here.client()?;
        let status = client.get("/api/status").await?;
        if here.json {
            screen::json(&status);
            return Ok(());
        }
        let n = |key: &str| status[key].as_u64().unwrap_or_default();
        screen::say!("{} ({})", client.note.name, &client.note.node_id.short());
        screen::say!("  nodes    {} online of {}", n("online_count"), n("node_count"));
        screen::say!("  memory   {} of {} in use", screen::bytes(n("used_ram")), screen::bytes(n("total_ram")));
        screen::say!("  disk     {} of {} in use", screen::bytes(n("used_storage")), screen::bytes(n("total_storage")));
        screen::say!("  api      {}", client.url());
        screen::say!("  quic     {}", client.note.quic);
        Ok(())
    }
}
