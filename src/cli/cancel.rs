//! `skep cancel`: ends a command, or an agent, and all that it started.

use super::{Here, screen};
use crate::client::Error;
use clap::Args;
use serde_json::json;

#[derive(Args)]
pub(crate) struct Cancel {
    /// The id of a task or of an agent.
    id: String,
}

impl Cancel {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        let client = here.client()?;
        let id = super::path_part(&self.id);
        let answer = match client.delete(&format!("/api/tasks/{id}")).await {
            // Ids are unique over tasks and agents, so the second question can't hit a stranger.
            Err(Error::Refused { status: 404, .. }) => {
                match client.post(&format!("/api/agents/{id}/cancel"), &json!({})).await {
                    Err(Error::Refused { status: 404, .. }) => {
                        let why =
                            "no command and no agent has this id: `skep tasks` and `skep agents` list them".to_owned();
                        return Err(Error::Refused { status: 404, detail: why }.into());
                    }
                    answer => answer?,
                }
            }
            answer => answer?,
        };
        if here.json {
            screen::json(&answer)
        } else {
            screen::done("ended")
        }
        Ok(())
    }
}
