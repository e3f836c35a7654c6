//! ApprovalActor: which tools agents may call, with which arguments, and whom they have to ask.
//!
//! ```text
//! run -> pass -> Judge -> policy -> allow -> audit: judged, began -> the call is made -> audit: ended
//!                          |-> deny -> the model is told why
//!                          `-> ask: core -> request -> disk, and ledger: every member shows it
//!                                         any node: Decide -> the request's owner -> audit -> ledger -> the run goes on
//! ```
//!
//! `arguments`, `pattern`, `policy` and `core` decide and do no I/O; `desk` has the hands. A request is for one call with
//! exactly these arguments, and an approval lets it be made once. Whatever can't be judged, asked about or written down is
//! not done.
//!
//! Invariant: nothing here gives a run a tool that its goal did not name; that was refused before (`agent::life`). Whoever
//! decides has a node's token: no message of an agent, its tools or their arguments leads here.

mod actor;
mod arguments;
pub mod core;
mod desk;
pub mod messages;
mod pass;
mod pattern;
pub mod policy;
#[cfg(test)]
mod tests;

pub use crate::audit::Verdict;
pub use actor::start;
pub use arguments::Arguments;
pub use messages::{ApprovalError, Call, Decide, Judged, Message, Request, State};
pub(crate) use pass::{Passed, pass, refused, withdraw};
pub use policy::{Mistake, Policy, Rule};

/// The published name of a node's ApprovalActor.
pub const NAME: &str = "approvals";
