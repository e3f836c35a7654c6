//! What browsers come for: the page for a machine that wants to join, signing in, and the dashboard's files.

pub mod dashboard;
pub mod files;
pub mod join;
pub mod signin;

use crate::session::Sessions;
use skep_actors::Context;

/// The resources of this area.
pub type Routes = (dashboard::Dashboard, join::Join, signin::SignIn);

/// The resources of this area, in this server.
pub(crate) fn routes(context: &Context, sessions: &Sessions) -> Routes {
    (dashboard::Dashboard, join::Join(context.clone()), signin::SignIn::new(sessions.clone()))
}
