//! A record of a sub-agent on its way to its parent, signed by the node that tells it: messages between nodes don't say whose
//! they are, and no member may speak for a run that another one hosts.
//!
//! Whom a run believes is `life`'s to say.

use super::Run;
use crate::Context;
use serde::{Deserialize, Serialize};
use skep_runtime::{NodeId, Swarm, wire};
use uuid::Uuid;

/// What signatures of records are for.
const CONTEXT: &str = "skep agent record";

/// What a node says about a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The run that is told.
    pub(super) parent: Uuid,
    /// The record: of a sub-agent of that one, or of one of its own.
    pub(super) run: Run,
    /// Who says so.
    pub(super) by: NodeId,
    /// Over the run that is told and the record, by who says so.
    pub(super) signature: Vec<u8>,
}

impl Told {
    /// What this node says.
    pub(super) fn new(context: &Context, parent: Uuid, run: Run) -> Told {
        let mut told = Told { parent, run, by: context.directory.id(), signature: Vec::new() };
        told.signature = context.swarm.sign(CONTEXT, &told.signed()).to_vec();
        told
    }

    /// Whether it is by who it says.
    pub(super) fn holds(&self, swarm: &dyn Swarm) -> bool {
        swarm.vouched(&self.by, CONTEXT, &self.signed(), &self.signature)
    }

    fn signed(&self) -> Vec<u8> {
        wire::encode(&(self.parent, &self.run))
    }
}
