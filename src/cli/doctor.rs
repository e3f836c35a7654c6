//! `skep doctor`: why don't I see my peers?

use super::{Here, screen};
use clap::Args;
use owo_colors::OwoColorize;

#[derive(Args)]
pub(crate) struct Doctor {}

impl Doctor {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        let report = here.client()?.get("/api/cluster/doctor").await?;
        if here.json {
            screen::json(&report);
            return Ok(());
        }
        let findings = report.as_array().cloned().unwrap_or_default();
        for finding in &findings {
            let mark = if finding["ok"] == true { "✓".green().to_string() } else { "✗".red().to_string() };
            screen::say!("{mark} {:<12} {}", screen::text(&finding["check"]), screen::text(&finding["detail"]));
        }
        let sick = findings.iter().filter(|f| f["ok"] != true).count();
        anyhow::ensure!(sick == 0, "{sick} of {} checks are not well", findings.len());
        Ok(())
    }
}
