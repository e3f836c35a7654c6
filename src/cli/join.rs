//! `skep join`: makes the running node a member of another swarm.

use super::{Here, screen};
use clap::Args;
use serde_json::json;

#[derive(Args)]
pub(crate) struct Join {
    /// The line that `skep invite` printed, or CODE@HOST:PORT. `-` reads it from standard input.
    #[arg(value_name = "INVITE", env = "SKEP_JOIN", hide_env_values = true)]
    invite: String,
}

impl Join {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        let invite = match self.invite.as_str() {
            "-" => std::io::read_to_string(std::io::stdin())?,
            invite => invite.into(),
        };
        let client = here.client()?;
        let answer = client.post("/api/cluster/join", &json!({ "token": invite.trim() })).await?;
        if here.json {
            screen::json(&answer);
        } else {
            screen::done("joined; `skep nodes` shows the swarm");
        }
        Ok(())
    }
}
