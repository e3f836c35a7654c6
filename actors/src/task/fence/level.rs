//! How strong a fence is.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// How a command is kept from the rest of its machine; the later is the stronger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Not at all: it has the rights of the user that the node runs as.
    #[default]
    None,
    /// It reads the system's own files and writes into its folder; no network, no signals to others, few system calls.
    Landlock,
    /// In namespaces of its own: what isn't its own or the system's isn't there.
    Bubblewrap,
}

/// All of them, the weakest first.
pub const LEVELS: [Level; 3] = [Level::None, Level::Landlock, Level::Bubblewrap];

/// The text is no level's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no sandbox level: bubblewrap, landlock or none")]
pub struct BadLevel(String);

impl Level {
    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Level::None => "none",
            Level::Landlock => "landlock",
            Level::Bubblewrap => "bubblewrap",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Level {
    type Err = BadLevel;

    fn from_str(text: &str) -> Result<Level, BadLevel> {
        LEVELS.into_iter().find(|level| level.word() == text).ok_or_else(|| BadLevel(text.chars().take(32).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_ordered_and_read_as_they_are_written() {
        assert!(LEVELS.is_sorted());
        assert!(LEVELS.iter().all(|level| level.to_string().parse() == Ok(*level)));
        assert!("Landlock".parse::<Level>().is_err() && "".parse::<Level>().is_err());
    }
}
