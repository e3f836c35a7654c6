//! `/api/scheduler/stats`: the scheduler in numbers.

use crate::{Reply, caller::Caller, tag::Tag};
use poem_openapi::{Object, OpenApi, payload::Json};
use skep_actors::{Context, runtime::defaults::ASK_TIMEOUT, scheduler};
use std::collections::BTreeMap;

/// Endpoints of the scheduler.
#[derive(Clone)]
pub struct Scheduler(pub Context);

#[OpenApi(prefix_path = "/api/scheduler", tag = "Tag::Tasks")]
impl Scheduler {
    /// Show the scheduler's numbers
    #[oai(path = "/stats", method = "get", operation_id = "scheduler_stats")]
    async fn stats(&self, _caller: Caller) -> Reply<Json<SchedulerStats>> {
        let scheduler = self.0.directory.here::<scheduler::Message>(scheduler::NAME);
        let stats = scheduler.ask(ASK_TIMEOUT, scheduler::Message::Stats).await?;
        Ok(Json(SchedulerStats::new(stats, self.0.members.up().len())))
    }
}

/// This node's scheduler in numbers.
#[derive(Debug, Object)]
pub struct SchedulerStats {
    /// Commands that wait.
    pub queue_depth: u32,
    /// The same by priority.
    pub queue_sizes: BTreeMap<String, u32>,
    /// Commands that wait for others to end, or for a moment.
    pub aside: u32,
    /// Commands that run, whose record is here.
    pub in_flight: u32,
    /// Commands that run on this machine.
    pub running_here: u32,
    /// Machines that answer.
    pub node_count: u32,
    /// Ended well since the node started.
    pub completed: u64,
    /// Ended badly since then.
    pub failed: u64,
    /// Ended by somebody since then.
    pub cancelled: u64,
    /// Machines that failed lately, by key: `closed`, `open` or `half_open`.
    pub breaker_states: BTreeMap<String, String>,
}

impl SchedulerStats {
    fn new(stats: scheduler::Stats, nodes: usize) -> SchedulerStats {
        SchedulerStats {
            queue_depth: stats.queued.values().sum(),
            queue_sizes: stats.queued,
            aside: stats.aside,
            in_flight: stats.in_flight,
            running_here: stats.running_here,
            node_count: nodes as u32,
            completed: stats.completed,
            failed: stats.failed,
            cancelled: stats.cancelled,
            breaker_states: stats.breakers,
        }
    }
}
