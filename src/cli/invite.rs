//! `skep invite`: opens the door for ten minutes, once.

use super::{Here, screen};
use clap::Args;

/// Takes no options: an invite is always valid for 10 minutes and once.
#[derive(Args)]
pub(crate) struct Invite {}

impl Invite {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        let client = here.client()?;
        let invite = client.get("/api/cluster/join-token").await?;
        if here.json {
            screen::json(&invite);
            return Ok(());
        }
        let (line, code) = (screen::text(&invite["token"]), screen::text(&invite["short_code"]));
        screen::note!("On the other machine, within 10 minutes:\n");
        screen::say!("  skep up --join {line}\n");
        // Where the socket listens is no place to go to: it may be every interface.
        let addresses = invite["addresses"].as_array().map_or(&[][..], Vec::as_slice);
        if let Some(first) = addresses.first() {
            screen::note!("or, to type less:\n\n  skep join {code}@{}\n", screen::text(first));
        }
        Ok(())
    }
}
