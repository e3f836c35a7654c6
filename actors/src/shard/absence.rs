//! Waits until one of several nodes is not up any more: whoever depends on it acts at once, before time-outs do.

use skep_runtime::{Members, NodeId, member::State};

/// The first of `nodes` that isn't up; pending for ever while all are. This node always is.
pub(crate) async fn gone(members: &Members, nodes: &[NodeId]) -> NodeId {
    let mut changes = members.changes();
    loop {
        let lost = {
            let picture = changes.borrow_and_update();
            let up = |node: &NodeId| *node == members.me() || picture.get(node).is_some_and(|m| m.state == State::Up);
            nodes.iter().copied().find(|node| !up(node))
        };
        if let Some(lost) = lost {
            return lost;
        }
        if changes.changed().await.is_err() {
            // The picture's owner went: the node stops, and this task with it.
            return std::future::pending().await;
        }
    }
}
