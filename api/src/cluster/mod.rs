//! The machines of the swarm, and how machines come in and go. Messages to the NodeActor.

pub mod access;
pub mod drain;
pub mod findings;
pub mod invites;
pub mod labels;
pub mod node;
pub mod nodes;
pub mod status;

use skep_actors::Context;

/// The resources of this area.
pub type Routes =
    (status::Summary, nodes::Nodes, drain::Drain, labels::Labels, invites::Invites, access::Access, findings::Findings);

/// The resources of this area, in this node.
pub fn routes(context: &Context) -> Routes {
    (
        status::Summary(context.clone()),
        nodes::Nodes(context.clone()),
        drain::Drain(context.clone()),
        labels::Labels(context.clone()),
        invites::Invites(context.clone()),
        access::Access(context.clone()),
        findings::Findings(context.clone()),
    )
}
