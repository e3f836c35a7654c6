//! `skep completions`: for the user's shell.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

#[derive(Args)]
pub(crate) struct Completions {
    /// Which shell.
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        clap_complete::generate(self.shell, &mut super::Cli::command(), "skep", &mut std::io::stdout());
        Ok(())
    }
}
