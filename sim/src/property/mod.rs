//! What has to hold. Each check has its property in one sentence beside it.
//!
//! Properties look at running nodes through the doors that production has (members, directory), never inside.

mod afterlife;
mod agreement;
mod approval;
mod budget;
mod cron;
mod gang;
mod job;
mod promise;
mod talk;
mod trust;
mod view;

pub use afterlife::nothing_outlives_its_node;
pub use agreement::{ledgers_become_equal, who_is_alone_holds_nothing_of_others};
pub use approval::Approvals;
pub use budget::Ledger;
pub use cron::Timetable;
pub use gang::{gangs_are_whole, heirs_have_whole_gangs};
pub use job::Jobs;
pub use promise::{Promises, Submitted, command, never_runs_twice_at_once, submit};
pub use talk::Talks;
pub use trust::{only_members_are_obeyed, only_members_are_obeyed_at_once, outsiders_are_refused};
pub use view::{cards_are_known, these_see, these_see_each_other, view_becomes_truth, view_stays_truth};
