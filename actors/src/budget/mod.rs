//! ThreadBudgetActor: the token budgets of the threads that live on this node, leases of them to other nodes,
//! and the usage that was metered here.
//!
//! ```text
//! this node owns it:   Reserve -> thread.rs -> disk -> reply
//! another one does:    Reserve -> held.rs (fits?) -> disk -> reply
//!                                  | no: Lease -> owner: thread.rs -> disk -> Granted -> again
//! ```
//!
//! Invariant: spent + reserved + leased <= budget, for every thread, always. What a crash leaves unsettled is
//! charged in full, because nobody can know what the call cost. Callers who don't know where a thread lives use a
//! [`Purse`].

mod actor;
#[cfg(test)]
mod conservation;
mod held;
mod local;
pub mod messages;
mod meter;
mod purse;
#[cfg(test)]
mod tests;
mod thread;

pub use actor::start;
pub use local::Local;
pub use messages::{Budget, BudgetError, Message, Reservation, Spent, Usage};
pub use purse::Purse;

/// The published name of a node's ThreadBudgetActor.
pub const NAME: &str = "budget";
