//! What tells the processes of one run from all others on this machine: a variable in their environment.
//!
//! It names the node as well: several nodes of one machine run attempts of the same task one after another, and none
//! of them may end what another one started.

use skep_runtime::NodeId;
use std::{fmt, str::FromStr};
use uuid::Uuid;

/// The variable that marks a command's processes.
pub const MARK: &str = "SKEP_TASK";

/// One attempt of a task on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The node that runs it.
    pub node: NodeId,
    /// The task.
    pub task: Uuid,
    /// Which attempt it is.
    pub attempt: u32,
}

/// The text is no mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a mark of a run: expected TASK/ATTEMPT/NODE")]
pub struct BadMark;

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.task, self.attempt, self.node)
    }
}

impl FromStr for Mark {
    type Err = BadMark;

    fn from_str(text: &str) -> Result<Mark, BadMark> {
        let mut parts = text.splitn(3, '/');
        let mut next = || parts.next().ok_or(BadMark);
        let task = next()?.parse().map_err(|_| BadMark)?;
        let attempt = next()?.parse().map_err(|_| BadMark)?;
        Ok(Mark { task, attempt, node: next()?.parse().map_err(|_| BadMark)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_survives_the_environment_and_names_node_and_attempt() {
        let mark = Mark { node: NodeId::from_bytes([7; 32]), task: Uuid::from_u128(1), attempt: 2 };
        assert_eq!(mark.to_string().parse(), Ok(mark));
        let others = [Mark { node: NodeId::from_bytes([8; 32]), ..mark }, Mark { attempt: 3, ..mark }];
        assert!(others.iter().all(|other| other.to_string() != mark.to_string()));
        for text in ["", "x", "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000001/2/x"] {
            assert_eq!(text.parse::<Mark>(), Err(BadMark));
        }
    }
}
