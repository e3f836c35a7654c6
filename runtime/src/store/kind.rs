//! Which back end: the word on the command line and in the config.

use std::{fmt, str::FromStr};

/// A back end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// The default: no record was lost or returned wrong in any test of ours.
    #[default]
    Redb,
    /// Selectable; promises less, see `Sled`.
    Sled,
    /// Nothing outlives the process. For tests and simulations; no word selects it.
    Memory,
}

/// A word that names no back end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no store: choose redb (the default) or sled")]
pub struct UnknownKind(String);

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(word: &str) -> Result<Self, UnknownKind> {
        match word {
            "redb" => Ok(Self::Redb),
            "sled" => Ok(Self::Sled),
            _ => Err(UnknownKind(word.to_owned())),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redb => "redb",
            Self::Sled => "sled",
            Self::Memory => "memory",
        })
    }
}
