//! Tokens spent: by thread, agent and model. Messages to the ThreadBudgetActor.
//!
//! The document of these paths shows fields in snake case and its system sends camel case; both are served.

pub mod budgets;
pub mod sums;
pub mod totals;

use skep_actors::Context;

/// The resources of this area.
pub type Routes = (totals::Usage, budgets::Budgets, crate::greedy::Greedy<sums::Models>, sums::Agents);

/// The resources of this area, in this node.
pub fn routes(context: &Context) -> Routes {
    (
        totals::Usage(context.clone()),
        budgets::Budgets(context.clone()),
        crate::greedy::Greedy(sums::Models(context.clone())),
        sums::Agents(context.clone()),
    )
}
