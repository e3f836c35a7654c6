//! `skep token`: the API's bearer token, for other clients.

use super::{Here, screen};
use clap::Args;

#[derive(Args)]
pub(crate) struct Token {}

impl Token {
    pub(crate) fn run(self, here: &Here) -> anyhow::Result<()> {
        let token = here.home.read_token()?;
        if here.json {
            screen::json(&serde_json::json!({ "token": token }))
        } else {
            screen::say!("{token}")
        }
        Ok(())
    }
}
