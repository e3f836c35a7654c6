//! `/tasks/status`, `/tasks/queues`, `/tasks/balancing`: the tasks for external workers in numbers, and how they are given.

use super::{job::word, success, workers};
use crate::{Reply, caller::Caller, input::Input, tag::Tag, tasks::task::priority, when::rfc3339};
use poem_openapi::{Enum, Object, OpenApi, param::Path, payload::Json};
use skep_actors::{
    Context,
    runtime::{Wire, defaults::ASK_TIMEOUT},
    worker::{Message, Stats, Strategy},
};
use std::collections::BTreeMap;

/// Endpoints of the queues.
#[derive(Clone)]
pub struct Queues(pub Context);

#[OpenApi(prefix_path = "/tasks", tag = "Tag::Workers")]
impl Queues {
    /// Show the distribution in numbers
    ///
    /// Of the whole swarm, since each machine started; those that don't answer in time are left out.
    #[oai(path = "/status", method = "get", operation_id = "jobs_status")]
    async fn status(&self, _caller: Caller) -> Reply<Json<Status>> {
        let stats = self.stats().await?;
        Ok(Json(Status { status: success(), stats: stats.into(), timestamp: self.now() }))
    }

    /// Show how many tasks wait
    #[oai(path = "/queues", method = "get", operation_id = "queues_list")]
    async fn queues(&self, _caller: Caller) -> Reply<Json<Queued>> {
        let stats = self.stats().await?;
        Ok(Json(Queued { status: success(), queue_sizes: sizes(&stats), timestamp: self.now() }))
    }

    /// Show queues and distribution in numbers
    #[oai(path = "/queues/stats", method = "get", operation_id = "queues_stats")]
    async fn queue_stats(&self, _caller: Caller) -> Reply<Json<QueueStats>> {
        let stats = self.stats().await?;
        let queue_sizes = sizes(&stats);
        Ok(Json(QueueStats { status: success(), queue_sizes, distribution_stats: stats.into(), timestamp: self.now() }))
    }

    /// Cancel all tasks that wait in a queue
    #[oai(path = "/queues/:priority/clear", method = "post", operation_id = "queues_clear")]
    async fn clear(&self, _caller: Caller, #[oai(name = "priority")] class: Path<String>) -> Reply<Json<Cleared>> {
        let class = priority(Some(class.0))?;
        // Other machines' disks, as long as those may take.
        let count = workers(&self.0).ask(ASK_TIMEOUT * 4, |port| Message::Clear(Wire(class), port)).await?;
        let priority = word(class);
        Ok(Json(Cleared {
            status: success(),
            message: format!("Cleared {count} tasks from {priority} queue"),
            priority,
            cleared_count: count,
            timestamp: self.now(),
        }))
    }

    /// Choose how tasks are given
    ///
    /// In the whole swarm. Workers pull: it is chosen among those that wait for a task at one machine.
    #[oai(path = "/balancing", method = "put", operation_id = "balancing_set")]
    async fn balance(&self, _caller: Caller, body: Input<Balancing>) -> Reply<Json<Balancing>> {
        let strategy = Strategy::from(body.0.strategy);
        let set = workers(&self.0).ask(ASK_TIMEOUT * 3, |port| Message::Balance(Wire(strategy), port)).await??;
        Ok(Json(Balancing { strategy: set.into() }))
    }

    async fn stats(&self) -> Reply<Stats> {
        Ok(workers(&self.0).ask(ASK_TIMEOUT, Message::Stats).await?)
    }

    fn now(&self) -> String {
        rfc3339(self.0.env.now_ms())
    }
}

/// How tasks are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "BalancingStrategy", rename_all = "snake_case")]
pub enum StrategyWord {
    /// To whoever has the fewest.
    LeastConnections,
    /// To whoever got none for longest.
    RoundRobin,
    /// In proportion to the workers' weights.
    Weighted,
    /// To whoever has most to spare, as it says.
    ResourceBased,
    /// Of two that are drawn, to the one with fewer.
    RandomOfTwo,
}

/// How tasks are given.
#[derive(Debug, Object)]
pub struct Balancing {
    /// How they are given.
    pub strategy: StrategyWord,
}

/// The distribution in numbers.
#[derive(Debug, Object)]
#[oai(rename = "DistributionStatus")]
pub struct Status {
    /// Always `success`.
    pub status: String,
    /// The numbers.
    pub stats: Distribution,
    /// When.
    pub timestamp: String,
}

/// How many tasks wait.
#[derive(Debug, Object)]
#[oai(rename = "QueueSizes")]
pub struct Queued {
    /// Always `success`.
    pub status: String,
    /// By class.
    pub queue_sizes: BTreeMap<String, u32>,
    /// When.
    pub timestamp: String,
}

/// Queues and distribution in numbers.
#[derive(Debug, Object)]
pub struct QueueStats {
    /// Always `success`.
    pub status: String,
    /// By class.
    pub queue_sizes: BTreeMap<String, u32>,
    /// The numbers.
    pub distribution_stats: Distribution,
    /// When.
    pub timestamp: String,
}

/// A queue was cleared.
#[derive(Debug, Object)]
#[oai(rename = "QueueCleared")]
pub struct Cleared {
    /// Always `success`.
    pub status: String,
    /// For people.
    pub message: String,
    /// Which.
    pub priority: String,
    /// How many tasks were cancelled.
    pub cleared_count: u32,
    /// When.
    pub timestamp: String,
}

/// What became of tasks since the machines started.
#[derive(Debug, Object)]
#[oai(rename = "DistributionStats")]
pub struct Distribution {
    /// Given to a worker, each time.
    pub tasks_distributed: u64,
    /// Done.
    pub tasks_completed: u64,
    /// Failed, as the worker said, or given up.
    pub tasks_failed: u64,
    /// Seconds between being submitted and being given to a worker for the first time, on average.
    pub avg_distribution_time: f64,
    /// How they are given.
    pub load_balancer_stats: Balancer,
    /// Tasks that wait, by class.
    pub queue_sizes: BTreeMap<String, u32>,
}

/// How tasks are given, in numbers.
#[derive(Debug, Object)]
#[oai(rename = "LoadBalancerStats")]
pub struct Balancer {
    /// How.
    pub strategy: StrategyWord,
    /// Given to a worker, each time.
    pub total_assignments: u64,
    /// Done.
    pub successful_assignments: u64,
    /// Failed, as the worker said, or taken back from it.
    pub failed_assignments: u64,
    /// The share of those that were successful among those of which it is known; 1 while there are none.
    pub success_rate: f64,
    /// Workers that are not stale.
    pub active_agents: u32,
    /// Their weights.
    pub agent_weights: BTreeMap<String, u32>,
    /// Tasks that each of them has, on average.
    pub avg_agent_load: f64,
}

impl From<Stats> for Distribution {
    fn from(stats: Stats) -> Distribution {
        let (tally, active) = (stats.tally, stats.weights.len());
        // What was given up was taken back for the last time: it is in both counts.
        let failed = tally.lost + tally.failed - tally.given_up;
        let known = tally.completed + failed;
        let part = |of: u64, whole: u64, none: f64| if whole == 0 { none } else { of as f64 / whole as f64 };
        Distribution {
            tasks_distributed: tally.assigned,
            tasks_completed: tally.completed,
            tasks_failed: tally.failed,
            avg_distribution_time: part(tally.waited_ms, tally.first, 0.0) / 1000.0,
            queue_sizes: sizes(&stats),
            load_balancer_stats: Balancer {
                strategy: stats.strategy.into(),
                total_assignments: tally.assigned,
                successful_assignments: tally.completed,
                failed_assignments: failed,
                success_rate: part(tally.completed, known, 1.0),
                active_agents: active as u32,
                avg_agent_load: part(stats.held.into(), active as u64, 0.0),
                agent_weights: stats.weights,
            },
        }
    }
}

fn sizes(stats: &Stats) -> BTreeMap<String, u32> {
    stats.queued.iter().map(|(class, count)| (word(*class), *count)).collect()
}

impl From<StrategyWord> for Strategy {
    fn from(word: StrategyWord) -> Strategy {
        match word {
            StrategyWord::LeastConnections => Strategy::LeastConnections,
            StrategyWord::RoundRobin => Strategy::RoundRobin,
            StrategyWord::Weighted => Strategy::Weighted,
            StrategyWord::ResourceBased => Strategy::ResourceBased,
            StrategyWord::RandomOfTwo => Strategy::RandomOfTwo,
        }
    }
}

impl From<Strategy> for StrategyWord {
    fn from(strategy: Strategy) -> StrategyWord {
        match strategy {
            Strategy::LeastConnections => StrategyWord::LeastConnections,
            Strategy::RoundRobin => StrategyWord::RoundRobin,
            Strategy::Weighted => StrategyWord::Weighted,
            Strategy::ResourceBased => StrategyWord::ResourceBased,
            Strategy::RandomOfTwo => StrategyWord::RandomOfTwo,
        }
    }
}
