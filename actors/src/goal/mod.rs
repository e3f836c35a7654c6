//! GoalActor: a goal is a graph of commands. It is checked, written down and handed to the scheduler, whose commands know
//! what they wait for; from then on it goes its way on whichever machines there are, and this actor only tells how far it
//! is.
//!
//! ```text
//! Create -> graph (names, cycles, bounds) -> ledger -> each step's commands, first things first -> scheduler
//! Get    <- the plan in the ledger + the states of its commands
//! ```
//!
//! A plan never changes, so it has no owner: every node can tell of every goal, and nothing is to be taken over. Not here:
//! who runs what (`scheduler`), and runs of agents (`agent`).

mod actor;
pub mod graph;
pub mod messages;

pub use actor::start;
pub use messages::{Goal, GoalError, Message, Mode, Plan, Shown, Step};

/// The published name of a node's GoalActor.
pub const NAME: &str = "goals";
