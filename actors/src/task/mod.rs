//! TaskActor: one running command, as a family of processes with bounded output; ends with everything it started.
//!
//! Not here: where it runs, and behind which fence it has to (scheduler). Whoever is on the roster can run anything here,
//! without a fence too if they ask for that.
//!
//! ```text
//! scheduler -> TaskActor -> job: launch -> keeper -> fence -> command     output -> segments on disk -> followers
//!      <- Ended(ending) <-      end: TERM, 3 s, KILL until nothing of the family is left
//! ```

pub mod actor;
pub mod family;
pub mod fence;
mod goods;
mod imitation;
mod job;
pub mod keeper;
pub mod kept;
mod launch;
pub mod mark;
pub mod messages;
pub mod output;
pub mod scratch;

pub use fence::{Fences, Level};
pub(crate) use job::sweep;
pub use mark::Mark;
pub use messages::{Look, Message};

/// The published name of the TaskActor of a command.
pub fn name(id: uuid::Uuid) -> String {
    format!("task/{id}")
}
