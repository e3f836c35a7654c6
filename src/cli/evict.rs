//! `skep evict`: takes a machine off the roster for good.

use super::{Here, screen};
use clap::Args;

#[derive(Args)]
pub(crate) struct Evict {
    /// The machine: its id, the beginning of its id, or its name.
    node: String,
    /// Go on although half of the swarm doesn't answer: the other half may evict this half meanwhile.
    #[arg(long)]
    force: bool,
}

impl Evict {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        let path = format!("/api/nodes/{}?force={}", super::path_part(&self.node), self.force);
        let answer = here.client()?.delete(&path).await?;
        if here.json {
            screen::json(&answer)
        } else {
            screen::done(format!("{} is out; its key is not let in again", self.node))
        }
        Ok(())
    }
}
