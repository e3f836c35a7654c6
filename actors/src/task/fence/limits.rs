//! How much a command may take of its machine: what it asked for, or a share. All levels have the same.
//!
//! Two lines of defence: the keeper's own limits, which the system enforces for each process (`setrlimit`), and looks at
//! the whole family several times a second (`watch`). Cgroups are not used yet.

use crate::scheduler::Spec;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Processes of one command at once: four builds with all of their compilers. A bomb has more in a tenth of a second.
pub const PROCESSES_MAX: u32 = 512;
/// Memory of a command that did not say what it needs, in thousandths of the machine's: with less left, the system
/// begins to end other processes.
const MEMORY_PERMILLE: u64 = 750;
/// The least that a command is held to, whatever it asked for: a shell and a small interpreter.
const MEMORY_BYTES_MIN: u64 = 64 << 20;
/// Bytes in the folder of a command that did not say what it needs: a build or a checkout, not a data set.
const DISK_BYTES_MAX: u64 = 16 << 30;
/// The share of what is free on the disk that one command may take without having asked for it.
const DISK_FREE_DIVISOR: u64 = 2;
/// The least that a command may write, whatever it asked for.
const DISK_BYTES_MIN: u64 = 1 << 20;

/// The bounds of one command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Processes at once.
    pub processes: u32,
    /// Bytes of memory of all of them together, that are nobody else's.
    pub memory_bytes: u64,
    /// Bytes in its own folders.
    pub disk_bytes: u64,
}

/// The limit that a command broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breach {
    /// It had more processes than this.
    Processes(u32),
    /// It held more bytes than this.
    Memory(u64),
    /// It wrote more bytes than this.
    Disk(u64),
}

impl Limits {
    /// Those of this command on a machine with so much memory, and so much free on the disk of the node's folder. Zero is
    /// not known.
    pub fn of(spec: &Spec, memory_bytes: u64, disk_free_bytes: u64) -> Limits {
        let memory = match (spec.memory_bytes, memory_bytes) {
            (0, 0) => u64::MAX,
            (0, whole) => whole / 1000 * MEMORY_PERMILLE,
            (asked, _) => asked,
        };
        let disk = match (spec.demand.disk_bytes, disk_free_bytes) {
            (0, 0) => DISK_BYTES_MAX,
            (0, free) => DISK_BYTES_MAX.min(free / DISK_FREE_DIVISOR),
            (asked, _) => asked,
        };
        Limits {
            processes: PROCESSES_MAX,
            memory_bytes: memory.max(MEMORY_BYTES_MIN),
            disk_bytes: disk.max(DISK_BYTES_MIN),
        }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Breach::Processes(max) => write!(f, "it had more than {max} processes (limit processes)"),
            Breach::Memory(bytes) => write!(f, "it held more than {} MiB of memory (limit memory)", bytes >> 20),
            Breach::Disk(bytes) => write!(f, "it wrote more than {} MiB into its folder (limit disk)", bytes >> 20),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::Demand;

    #[test]
    fn a_command_is_held_to_what_it_asked_for_or_to_a_share() {
        let share = Limits::of(&Spec::new("true"), 8000 << 20, 10 << 30);
        assert_eq!((share.memory_bytes, share.disk_bytes), (6000 << 20, 5 << 30));
        assert_eq!(Limits::of(&Spec::new("true"), 8000 << 20, 100 << 30).disk_bytes, 16 << 30);
        let demand = Demand { disk_bytes: 3 << 30, ..Demand::default() };
        let asked = Limits::of(&Spec { memory_bytes: 1 << 30, demand, ..Spec::new("true") }, 8 << 30, 10 << 30);
        assert_eq!((asked.memory_bytes, asked.disk_bytes), (1 << 30, 3 << 30));
        let tiny = Limits::of(&Spec { memory_bytes: 1, ..Spec::new("true") }, 8 << 30, 1);
        assert_eq!((tiny.memory_bytes, tiny.disk_bytes), (64 << 20, 1 << 20));
    }
}
