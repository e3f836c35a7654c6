//! `skep token`: the API's bearer token, for other clients.

use super::{Here, screen};
use crate::{client, home::Error};
use clap::Args;
use std::io::ErrorKind::NotFound;

#[derive(Args)]
pub(crate) struct Token {}

impl Token {
    pub(crate) fn run(self, here: &Here) -> anyhow::Result<()> {
        // It is made at the first start and stays; a node needn't run for it to be read.
        let token = match here.home.read_token() {
            Err(Error::Io { error, .. }) if error.kind() == NotFound => {
                return Err(client::Error::from(Error::NotRunning(here.home.path().into())).into());
            }
            token => token?,
        };
        if here.json {
            screen::json(&serde_json::json!({ "token": token }))
        } else {
            screen::say!("{token}")
        }
        Ok(())
    }
}
