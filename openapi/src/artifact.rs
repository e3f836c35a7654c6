//! The committed files: what each holds now, and what it should hold.

use anyhow::{Context, Result};
use std::{fs, io::ErrorKind, path::PathBuf};

/// What brings the committed files up to date.
const COMMAND: &str = "cargo run -p skep-openapi";

/// A committed file that is made from the program.
#[derive(Debug)]
pub struct Artifact {
    /// Where it lies.
    pub path: PathBuf,
    /// What it should hold.
    pub text: String,
}

/// All of them.
pub fn artifacts() -> Result<[Artifact; 2]> {
    let spec: serde_json::Value = serde_json::from_str(&skep_api::spec()).context("the specification is JSON")?;
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let pretty = serde_json::to_string_pretty(&spec)? + "\n";
    Ok([
        Artifact { path: folder.join("openapi.json"), text: pretty },
        Artifact { path: folder.join("tags.txt"), text: super::tags(&spec)? },
    ])
}

impl Artifact {
    /// Writes the file, if it holds anything else.
    pub fn write(&self) -> Result<bool> {
        if self.is_current()? {
            return Ok(false);
        }
        fs::write(&self.path, &self.text).with_context(|| format!("writing {}", self.path.display()))?;
        Ok(true)
    }

    /// Fails with the command to run if the file holds anything else.
    pub fn check(&self) -> Result<()> {
        let name = self.path.file_name().unwrap_or_default().display();
        anyhow::ensure!(self.is_current()?, "openapi/{name} is not what the program says: run `{COMMAND}`");
        Ok(())
    }

    fn is_current(&self) -> Result<bool> {
        match fs::read_to_string(&self.path) {
            Ok(text) => Ok(text == self.text),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e).with_context(|| format!("reading {}", self.path.display())),
        }
    }
}
