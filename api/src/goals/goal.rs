//! A goal, as the API takes and shows it.

use crate::{
    Problem,
    tasks::task::{NewTask, Status},
    when::rfc3339,
};
use poem_openapi::{Enum, Object};
use skep_actors::goal::{self, Mode, Plan, Shown, Step};

/// A goal to set.
#[derive(Debug, Object)]
pub struct NewGraph {
    /// What it is called.
    #[oai(validator(min_length = 1, max_length = 200))]
    pub title: String,
    /// What it is for.
    #[oai(validator(max_length = 4096))]
    pub description: Option<String>,
    /// Its steps.
    #[oai(validator(min_items = 1, max_items = 500))]
    pub tasks: Vec<NewStep>,
    /// Whoever sets the same goal with the same key once more, on any node, is answered with the first one, and what had
    /// not been taken of it then is.
    #[oai(validator(min_length = 1, max_length = 128))]
    pub idempotency_key: Option<String>,
}

/// A step of a goal.
#[derive(Debug, Object)]
pub struct NewStep {
    /// What other steps call it.
    #[oai(validator(min_length = 1, max_length = 200))]
    pub task_id: String,
    /// What it is for.
    #[oai(validator(max_length = 4096))]
    pub description: Option<String>,
    /// `sequential`: it waits for the step that stands before it.
    pub execution_mode: Option<ExecutionMode>,
    /// The steps that must have completed before it runs. If one of them doesn't, it fails.
    #[oai(validator(max_items = 500))]
    pub prerequisites: Option<Vec<String>>,
    /// How many times it runs, at once if there is room. Each finds its number, from 0, in `SKEP_INDEX`, and how many there
    /// are in `SKEP_COUNT`.
    #[oai(validator(minimum(value = "1"), maximum(value = "1024")))]
    pub count: Option<u32>,
    /// A gang: all of these tasks are placed at once, or none begins. When one can't stay where it runs, the others are ended,
    /// and all wait to be placed together again, except for what has completed; when one has failed for good, the rest fails.
    /// Not with `at_most_once` or `preempts`.
    pub gang: Option<bool>,
    /// What it runs. `after` and `idempotency_key` are the goal's to give.
    pub run: NewTask,
}

/// Whether a step waits for the one that stands before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
pub enum ExecutionMode {
    /// It doesn't, if that is no prerequisite.
    Parallel,
    /// It does.
    Sequential,
}

/// Where a goal stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "GoalStatus", rename_all = "snake_case")]
pub enum GoalStatus {
    /// Nothing of it has begun.
    Pending,
    /// Some of it runs, or has run and the rest waits.
    InProgress,
    /// All of it has completed.
    Completed,
    /// It is over, and a part of it failed.
    Failed,
    /// It is over, and somebody ended a part of it.
    Cancelled,
    /// Its tasks were never taken, or their records are gone.
    Unknown,
}

/// The newest goals.
#[derive(Debug, Object)]
pub struct GoalList {
    /// Each of them.
    pub goals: Vec<Goal>,
    /// How many they are.
    pub count: usize,
}

/// A goal and how far it is.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct Goal {
    /// Its id.
    pub goal_id: String,
    /// What it is called.
    pub title: String,
    /// What it is for.
    pub description: String,
    /// Where it stands.
    pub status: GoalStatus,
    /// When it was set.
    pub created_at: String,
    /// Its steps.
    pub steps: Vec<GoalStep>,
    /// Its tasks, step by step. Left out in a list.
    pub tasks: Option<Vec<GoalTask>>,
    /// How many of them stand where.
    pub progress: GoalProgress,
}

/// A step of a goal.
#[derive(Debug, Object)]
pub struct GoalStep {
    /// What other steps call it.
    pub task_id: String,
    /// What it is for.
    pub description: String,
    /// The steps that it waits for.
    pub prerequisites: Vec<String>,
    /// How many tasks it has.
    pub count: u32,
}

/// One task of a goal.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct GoalTask {
    /// Its id, for `/api/tasks/{id}`.
    pub id: String,
    /// The step's name.
    pub task_id: String,
    /// Which one of its step, from 0.
    pub index: u32,
    /// Where it stands; absent if nobody knows it any more.
    pub status: Option<Status>,
    /// It waits for other tasks of its goal.
    pub blocked: bool,
    /// Why it failed.
    pub error: Option<String>,
}

/// How many tasks stand where.
#[derive(Debug, Object)]
pub struct GoalProgress {
    /// All of them.
    pub total: u32,
    /// They wait for room, or for a moment.
    pub pending: u32,
    /// They wait for others.
    pub blocked: u32,
    /// They run.
    pub running: u32,
    /// They ended well.
    pub completed: u32,
    /// They ended badly.
    pub failed: u32,
    /// Somebody ended them.
    pub cancelled: u32,
}

impl TryFrom<NewGraph> for Plan {
    type Error = Problem;

    fn try_from(new: NewGraph) -> Result<Plan, Problem> {
        Ok(Plan {
            title: new.title,
            description: new.description.unwrap_or_default(),
            steps: new.tasks.into_iter().map(Step::try_from).collect::<Result<_, _>>()?,
            idempotency_key: new.idempotency_key,
        })
    }
}

impl TryFrom<NewStep> for Step {
    type Error = Problem;

    fn try_from(new: NewStep) -> Result<Step, Problem> {
        Ok(Step {
            name: new.task_id,
            description: new.description.unwrap_or_default(),
            mode: match new.execution_mode {
                Some(ExecutionMode::Sequential) => Mode::Sequential,
                Some(ExecutionMode::Parallel) | None => Mode::Parallel,
            },
            prerequisites: new.prerequisites.unwrap_or_default(),
            count: new.count.unwrap_or(1),
            gang: new.gang.unwrap_or(false),
            spec: new.run.try_into()?,
        })
    }
}

impl From<Shown> for Goal {
    fn from(shown: Shown) -> Goal {
        let counts = shown.counts;
        let step = |step: goal::messages::Outline| GoalStep {
            task_id: step.name,
            description: step.description,
            prerequisites: step.after,
            count: step.count,
        };
        let task = |task: goal::messages::Task| GoalTask {
            id: task.id.to_string(),
            task_id: task.step,
            index: task.index,
            status: task.state.map(Status::from),
            blocked: task.blocked,
            error: task.error,
        };
        let total = shown.goal.steps.iter().map(|step| step.count).sum();
        let tasks: Vec<GoalTask> = shown.tasks.into_iter().map(task).collect();
        Goal {
            goal_id: shown.goal.id.to_string(),
            title: shown.goal.title,
            description: shown.goal.description,
            status: shown.status.into(),
            created_at: rfc3339(shown.goal.created_ms),
            steps: shown.goal.steps.into_iter().map(step).collect(),
            tasks: (!tasks.is_empty()).then_some(tasks),
            progress: GoalProgress {
                total,
                pending: counts.pending,
                blocked: counts.blocked,
                running: counts.running,
                completed: counts.completed,
                failed: counts.failed,
                cancelled: counts.cancelled,
            },
        }
    }
}

impl From<goal::messages::Status> for GoalStatus {
    fn from(status: goal::messages::Status) -> GoalStatus {
        use goal::messages::Status as S;
        match status {
            S::Pending => GoalStatus::Pending,
            S::InProgress => GoalStatus::InProgress,
            S::Completed => GoalStatus::Completed,
            S::Failed => GoalStatus::Failed,
            S::Cancelled => GoalStatus::Cancelled,
            S::Unknown => GoalStatus::Unknown,
        }
    }
}
