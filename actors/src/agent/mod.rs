//! AgentActor: a goal, worked on in steps, with sub-agents on other nodes, within a token budget.
//!
//! `AgentsActor` ("agents", one a node) starts runs and keeps their records; each run is an AgentActor of its own
//! ("agent/ID") around a core without I/O:
//!
//! ```text
//! model, tool, child, members --Event--> Life (limits, rights, sub-agents, record)
//!                                          | strategy::Event        ^ Move
//!                                          `-> answer | map_reduce | react
//! AgentActor <--Action-- Life:  think, call a tool, start or stop a sub-agent, save
//! ```
//!
//! A run may be a turn of a thread ([`Seat`]): then it is told who it is and what was said before, spends the thread's budget,
//! and tells the thread's node of each step.
//!
//! Invariant: a sub-agent has at most its parent's rights, which its host checks (`warrant`); what tools, documents and models said is data in every prompt.
//! Not here: budgets (`budget`), text generation (`pipeline`), where commands run (`scheduler`).

mod actor;
mod children;
mod data;
mod documents;
mod family;
mod given;
#[cfg(test)]
mod judged;
mod life;
pub mod messages;
mod news;
mod records;
mod repetition;
mod run;
#[cfg(test)]
pub(crate) mod stage;
mod strategy;
#[cfg(test)]
mod tests;
mod thinking;
mod told;
pub mod tools;
mod warrant;

pub use actor::{LIVE_MAX, start};
pub(crate) use data::bounded;
pub(crate) use given::needed;
pub use messages::{AgentError, Event, Goal, Message, Parent, Run, RunState, Seat, Snapshot, Spawned, Step, Strategy};
pub use told::Told;
pub use warrant::{Grant, Rights, Warrant};

/// The published name of a node's AgentsActor.
pub const NAME: &str = "agents";
