//! Ownership of tasks: what ends with a node.

use crate::World;
use anyhow::{Result, ensure};
use std::{sync::Weak, time::Duration};

/// The longest time for which a task of a dead node may sleep before it notices: a supervisor's back-off and its
/// tasks' drain.
const AFTERLIFE_MAX: Duration = Duration::from_secs(60);

/// Of a node that ended, by a crash or in order, nothing is left: no task, no connection, no actor.
pub async fn nothing_outlives_its_node(world: &World) -> Result<()> {
    world.pass(AFTERLIFE_MAX).await;
    let left = world.ended.iter().filter_map(Weak::upgrade).count();
    ensure!(left == 0, "{left} of {} ended nodes still have tasks that hold their transport", world.ended.len());
    world.note("nothing is left of the nodes that ended");
    Ok(())
}
