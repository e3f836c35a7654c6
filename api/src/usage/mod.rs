//! Tokens and money spent: by thread, agent, model and machine; and what tokens cost. Messages to the ThreadBudgetActor.
//!
//! The document of these paths shows fields in snake case and its system sends camel case; both are served.

pub mod budgets;
mod money;
pub mod prices;
pub mod sums;
pub mod totals;

pub(crate) use money::{exact, millionths};
use skep_actors::Context;

/// The resources of this area.
pub type Routes = (totals::Usage, budgets::Budgets, crate::greedy::Greedy<sums::Models>, sums::Agents, prices::Prices);

/// The resources of this area, in this node.
pub fn routes(context: &Context) -> Routes {
    (
        totals::Usage(context.clone()),
        budgets::Budgets(context.clone()),
        crate::greedy::Greedy(sums::Models(context.clone())),
        sums::Agents(context.clone()),
        prices::Prices(context.clone()),
    )
}
