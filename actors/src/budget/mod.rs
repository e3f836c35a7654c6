//! ThreadBudgetActor: the budgets of the threads that live on this node, in tokens and money, leases of them to other
//! nodes, and the usage that was metered here.
//!
//! ```text
//! this node owns it:   Reserve -> thread.rs, tally.rs: below the line? -> reply
//!                                                      | no: a higher line -> disk -> reply
//! another one does:    Reserve -> held.rs, tally.rs: in the lease? -> the same
//!                                  | no: Lease -> owner: thread.rs -> disk -> Granted -> again
//!                       more than is on record? -> charge.rs -> the thread's record -> again
//! Settle -> thread.rs | held.rs, meter.rs -> disk, with all that came meanwhile -> reply -> owner: Report
//! ```
//!
//! Invariant: spent + reserved + leased <= budget, for every thread, always. What a crash leaves unsettled is
//! charged in full, because nobody can know what the call cost; what that is on disk says `tally` (decision 0010). Callers
//! who don't know where a thread lives use a [`Purse`]. Whoever is to be told of thresholds calls [`watch`].
//!
//! What a lying member can do, and what not, says [`metered`] of servers; a lease's holder can neither spend nor claim more
//! than it was granted, nor hide what a pipeline of the owner's node served to it. It can claim less than it spent elsewhere,
//! for there its own node alone meters its calls: whoever may run agents for a thread is trusted with that much.

mod actor;
pub mod amount;
mod borrow;
mod charge;
#[cfg(test)]
mod conservation;
#[cfg(test)]
mod evasion;
mod held;
mod local;
pub mod messages;
mod meter;
pub mod metered;
mod past;
mod pen;
pub mod prices;
mod purse;
mod tally;
#[cfg(test)]
mod tests;
mod thread;
mod warning;

pub use actor::{start, watch};
pub use amount::Amount;
pub use local::Local;
pub use messages::{Budget, BudgetError, Call, Estate, Limit, Message, Reservation, Spent, Usage};
pub use metered::Metered;
pub use prices::{Price, Rate};
pub use purse::Purse;
pub use warning::{Severity, Warning};

/// The published name of a node's ThreadBudgetActor.
pub const NAME: &str = "budget";
