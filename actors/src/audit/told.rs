//! How far a node's log is, as that node tells the others: with its signature, since any member may write any record of the
//! ledger.

use super::entry::{Head, SEQ_MAX};
use serde::{Deserialize, Serialize};
use skep_runtime::{NodeId, Swarm, wire};

/// What these signatures are for.
const CONTEXT: &str = "skep audit head";

/// A node's word about its own log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    head: Head,
    signature: Vec<u8>,
}

impl Told {
    /// This node's log is so far.
    pub(super) fn new(swarm: &dyn Swarm, head: Head) -> Told {
        Told { head, signature: swarm.sign(CONTEXT, &wire::encode(&head)).to_vec() }
    }

    /// How far the log of `node` is, if that node said so.
    pub(super) fn of(&self, swarm: &dyn Swarm, node: NodeId) -> Option<Head> {
        let said =
            self.head.seq <= SEQ_MAX && swarm.vouched(&node, CONTEXT, &wire::encode(&self.head), &self.signature);
        said.then_some(self.head)
    }
}
