//! What OpenAI's clients expect, on the paths where they expect it: `/v1/chat/completions` and `/v1/models`.

pub mod answer;
pub mod completions;
pub mod envelope;
pub mod models;
pub mod request;
pub mod sampling;
pub mod text_or;

use crate::greedy::Greedy;
use skep_actors::Context;

/// The resources of this area.
pub type Routes = (completions::Completions, models::Models, Greedy<models::Named>);

/// The resources of this area, in this node.
pub fn routes(context: &Context) -> Routes {
    (completions::Completions(context.clone()), models::Models(context.clone()), Greedy(models::Named(context.clone())))
}
