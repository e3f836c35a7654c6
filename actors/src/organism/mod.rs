//! OrganismActor: the agents that a swarm has defined, by name, for every node.
//!
//! ```text
//! a file (TOML or YAML) -> read (all that is wrong with it, at once) -> Draft -> what it changes -> the ledger
//! ```
//!
//! Definitions are in the ledger: whichever node is asked knows all of them, and a reload on one is a reload on all. Agents
//! that a file no longer names are removed; what they have begun ends as it would, and what waits for them waits for the
//! next definition for a while.
//!
//! `read`, `draft` and `schema` do no I/O. Not here: what agents do (`thread` hands them messages, `agent` works on them).

mod actor;
mod draft;
pub mod messages;
mod read;
mod records;
mod schema;
#[cfg(test)]
mod tests;

pub use actor::start;
pub use draft::{AGENTS_MAX, Agent, Draft, FILE_BYTES_MAX, Field, FieldKind, Frame, Problem};
pub use messages::{Change, Message, OrganismError, Standing};
pub use records::{agent, frame, standing};
pub use schema::{example, xsd};

/// The agent that answers where nobody names one. Without a definition it has no instructions and no tools.
pub const MAIN: &str = "main";

/// What a goal that is no agent's stands under in its thread. No agent is called so.
pub const GOAL: &str = "goal";

/// The published name of a node's OrganismActor.
pub const NAME: &str = "organism";
