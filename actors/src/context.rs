//! What every actor of a node is given when it starts: its way to everything else.

use crate::{
    blob::Blobs,
    event::Events,
    ledger::Ledger,
    ownership::Ownership,
    task::{Fences, kept::Keepers, scratch::Scratches},
};
use skep_runtime::{Directory, Env, Members, Metrics, Swarm, store::Store, tasks::Spawner};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};
use tokio_util::sync::CancellationToken;

/// A node, as its actors see it. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The name that the owner gave this machine.
    pub name: String,
    /// Randomness and the wall clock.
    pub env: Env,
    /// The way to every actor, here or elsewhere.
    pub directory: Directory,
    /// Who is in the swarm.
    pub members: Members,
    /// Membership and trust, for the owner's requests.
    pub swarm: Arc<dyn Swarm>,
    /// What must survive this process.
    pub store: Store,
    /// What must survive this machine.
    pub ledger: Ledger,
    /// Files that commands are given and leave.
    pub blobs: Blobs,
    /// What happens: `events.publish(|| What::...)` tells whoever listens, and never waits.
    pub events: Events,
    /// What only one may do: whether this node may.
    pub ownership: Ownership,
    /// Counters and gauges.
    pub metrics: Metrics,
    /// Starts tasks that end with the node.
    pub tasks: Spawner,
    /// Cancelled when the owner asks this node to end: whoever runs it then stops it.
    pub stop: CancellationToken,
    /// The node's folder: models, output of tasks.
    pub home: PathBuf,
    /// Where weights lie: `home/models`, or a folder that several nodes of one machine share.
    pub models: PathBuf,
    /// This program's own file, if it answers to the hidden subcommands: [`crate::node::probe::SUBCOMMAND`] and
    /// [`crate::task::keeper::SUBCOMMAND`]. `None` in a program that embeds a node: graphics processors are
    /// not looked for then, and commands outlive a node that is killed without a chance to end them.
    pub exe: Option<PathBuf>,
    /// What stands between this node and its commands, if there is such a program.
    pub keepers: Keepers,
    /// The folders of its commands.
    pub scratches: Scratches,
    /// What keeps commands from the rest of this machine.
    pub fences: Fences,
    /// Labels that the owner gave this machine, for its card.
    pub labels: BTreeMap<String, String>,
}
