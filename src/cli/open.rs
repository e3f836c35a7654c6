//! `skep open`: the way into the dashboard, a link that signs one browser in.
//!
//! It is printed and not given to a browser: arguments of programs show in the list of processes.

use super::{Here, screen};
use clap::Args;
use serde_json::json;

#[derive(Args)]
pub(crate) struct Open {}

impl Open {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        let client = here.client()?;
        let link = client.post("/api/session", &json!({})).await?;
        let url = format!("{}{}", client.url(), screen::text(&link["path"]));
        if here.json {
            screen::json(&json!({ "url": url, "expires_in_s": link["expires_in_s"] }));
            return Ok(());
        }
        screen::note!("Open this in a browser of this machine, once, within {} s:\n", link["expires_in_s"]);
        screen::say!("  {url}");
        Ok(())
    }
}
