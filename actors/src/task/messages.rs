//! What a TaskActor can be asked. It is started by the scheduler, and tells it how the command ended.

use ractor::RpcReplyPort;
use ractor_cluster_derive::RactorClusterMessage;
use serde::{Deserialize, Serialize};
use skep_runtime::Wire;

/// What the TaskActor understands.
#[derive(RactorClusterMessage)]
pub enum Message {
    /// End the command and everything that it started. Answered when nothing of it is left.
    #[rpc]
    Stop(RpcReplyPort<Wire<()>>),
    /// It is good until then, in milliseconds by `Env::elapsed`: one that never may run on two nodes at once.
    Good(Wire<u64>),
    /// How far it is.
    #[rpc]
    Look(RpcReplyPort<Wire<Look>>),
}

/// A running command, at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Look {
    /// The last part of its output.
    pub output: String,
    /// Bytes of output in all.
    pub output_bytes: u64,
}
