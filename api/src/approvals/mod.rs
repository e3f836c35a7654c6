//! What agents may do, who allowed it, and what they did. Messages to the ApprovalActor and the AuditActor.

pub mod audit;
pub mod entry;
pub mod log;
pub mod policy;
pub mod request;
pub mod requests;

use skep_actors::Context;

/// The resources of this area.
pub type Routes = (requests::Requests, policy::Policies, audit::Audit, log::Log);

/// The resources of this area, in this node.
pub fn routes(context: &Context) -> Routes {
    (
        requests::Requests(context.clone()),
        policy::Policies(context.clone()),
        audit::Audit(context.clone()),
        log::Log(context.clone()),
    )
}
