//! The domain: one folder an actor. `messages.rs` is its public face, `actor.rs` owns its state, the rest are
//! cores without I/O (event in, actions out).
//!
//! ```text
//! node       this machine: identity, capacity, health, drain; the swarm's door for the owner
//! ledger     small shared state that survives a lost machine
//! scheduler  commands placed on nodes; its record of them          task      one running command
//! blob       files that commands are given and leave, by their content
//! goal       graphs of commands
//! cron       commands at times: one owner each, which another node takes over
//! event      what happens, told to whoever listens
//! worker     jobs for programs outside of the swarm, and who those are
//! approval   which tools agents may call, and whom they ask        audit     what they wanted, who decided, what was done
//! agent      goals, their steps and sub-agents                     budget    token budgets and leases
//! organism   agents that the swarm has defined                     thread     what is said to them, turn by turn
//! model      weights on this disk: list, pull, serve, load         shard     one loaded layer range
//! pipeline   one served model: batches requests, drives shards, samples
//! ```
//!
//! Not here: HTTP (`api`), sockets (`transport`), tensors (`engine`).

pub mod agent;
pub mod approval;
pub mod audit;
pub mod blob;
pub mod budget;
pub mod context;
pub mod cron;
pub mod defaults;
pub mod digest;
pub mod event;
mod flight;
pub mod goal;
pub mod ledger;
pub mod model;
pub mod node;
pub mod organism;
pub mod ownership;
pub mod pipeline;
mod questions;
pub mod scheduler;
pub mod shard;
pub mod task;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod thread;
pub mod tree;
pub mod worker;

pub use context::Context;
pub use skep_runtime as runtime;
