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
//! Invariant: a sub-agent has at most its parent's tools; what tools, documents and models said is data in every prompt.
//! Not here: budgets (`budget`), text generation (`pipeline`), where commands run (`scheduler`).

mod actor;
mod children;
mod data;
mod documents;
mod family;
mod life;
pub mod messages;
mod news;
mod records;
mod repetition;
mod run;
#[cfg(test)]
mod stage;
mod strategy;
#[cfg(test)]
mod tests;
mod thinking;
pub mod tools;

pub use actor::start;
pub use messages::{AgentError, Event, Goal, Message, Parent, Run, RunState, Step, Strategy};

/// The published name of a node's AgentsActor.
pub const NAME: &str = "agents";
