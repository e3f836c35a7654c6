//! Files of tasks, by what is in them: messages to the BlobsActor, and streams to and from it.

pub mod files;

use skep_actors::Context;

/// The resources of this area.
pub type Routes = files::Files;

/// The resources of this area, in this node.
pub fn routes(context: &Context) -> Routes {
    files::Files(context.clone())
}
