//! `skep leave`: says goodbye.

use super::{Here, screen};
use clap::Args;
use serde_json::json;

#[derive(Args)]
pub(crate) struct Leave {
    /// Take this machine off the roster for good; it becomes a swarm of one and needs a new invite to come back.
    #[arg(long)]
    forget: bool,
}

impl Leave {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        let answer = here.client()?.post(&format!("/api/cluster/leave?forget={}", self.forget), &json!({})).await?;
        if here.json {
            screen::json(&answer)
        } else {
            screen::done(match self.forget {
                true => "this machine is off the roster: a swarm of one",
                false => "said goodbye; it stays a member, and comes back when its node is started again",
            })
        }
        Ok(())
    }
}
