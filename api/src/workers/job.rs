//! `/tasks`: tasks for external workers are submitted and looked at.

use super::workers;
use crate::{
    Problem, Reply, caller::Caller, input::Input, tag::Tag, tasks::task::priority, when::rfc3339, workers::success,
};
use poem_openapi::{Enum, Object, OpenApi, param::Path, payload::Json};
use serde_json::Value;
use skep_actors::{
    Context,
    runtime::{Wire, defaults::ASK_TIMEOUT},
    worker::{self, Message, Needs, NewJob, State, Work},
};
use uuid::Uuid;

/// Endpoints of the tasks.
#[derive(Clone)]
pub struct Jobs(pub Context);

#[OpenApi(prefix_path = "/tasks", tag = "Tag::Workers")]
impl Jobs {
    /// Submit a task
    ///
    /// It waits for a worker that has what it requires. Answered when it is on this machine's disk, and on another's if
    /// one answers.
    #[oai(path = "/submit", method = "post", operation_id = "jobs_submit")]
    async fn submit(&self, _caller: Caller, body: Input<NewTaskForWorkers>) -> Reply<Json<Submitted>> {
        let new = body.0.try_into()?;
        // It waits for another machine's disk, as long as that may take.
        let job = workers(&self.0).ask(ASK_TIMEOUT * 3, |port| Message::Submit(Wire(new), port)).await??;
        Ok(Json(Submitted {
            status: success(),
            message: "Task submitted".into(),
            task_id: job.slip.id.to_string(),
            priority: word(job.slip.priority),
            submitted_at: rfc3339(job.slip.submitted_ms),
        }))
    }

    /// Show a task and its result
    #[oai(path = "/:task_id", method = "get", operation_id = "jobs_get")]
    async fn get(&self, _caller: Caller, task_id: Path<String>) -> Reply<Json<Job>> {
        let id = job_id(&task_id.0)?;
        let found = workers(&self.0).ask(ASK_TIMEOUT, |port| Message::Get(Wire(id), port)).await??;
        Ok(Json(Job::new(found.job, found.waits_for)))
    }
}

/// A task for external workers.
#[derive(Debug, Object)]
#[oai(rename = "TaskSubmission")]
pub struct NewTaskForWorkers {
    /// What is to be done: at most 120 KiB.
    pub task_data: TaskData,
    /// `urgent`, `critical`, `high`, `normal` or `low`: a higher class goes strictly first.
    pub priority: String,
    /// What its worker must have.
    pub requirements: Option<WorkerRequirements>,
}

/// What is to be done. The swarm doesn't look at it.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct TaskData {
    /// What kind of work.
    #[oai(validator(min_length = 1, max_length = 128))]
    pub task_type: String,
    /// The model that it is for.
    #[oai(validator(max_length = 256))]
    pub model: Option<String>,
    /// The prompt.
    pub prompt: Option<String>,
    /// An object.
    pub parameters: Option<Value>,
}

/// What a worker must have.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct WorkerRequirements {
    /// All of these.
    #[oai(validator(max_items = 64))]
    pub capabilities: Option<Vec<String>>,
    /// This type.
    #[oai(validator(min_length = 1, max_length = 128))]
    pub agent_type: Option<String>,
}

impl TryFrom<NewTaskForWorkers> for NewJob {
    type Error = Problem;

    fn try_from(new: NewTaskForWorkers) -> Result<NewJob, Problem> {
        let priority = priority(Some(new.priority))?;
        let data = new.task_data;
        let parameters = data.parameters.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        if !parameters.is_object() {
            return Err(Problem::invalid("task_data.parameters", "must be an object"));
        }
        let needs = new.requirements.map_or_else(Needs::default, |needs| Needs {
            capabilities: needs.capabilities.unwrap_or_default().into_iter().collect(),
            kind: needs.agent_type,
        });
        let work = Work {
            task_type: data.task_type,
            model: data.model.unwrap_or_default(),
            prompt: data.prompt.unwrap_or_default(),
            parameters: parameters.to_string(),
        };
        Ok(NewJob { work, priority, needs })
    }
}

/// A task is taken.
#[derive(Debug, Object)]
#[oai(rename = "TaskSubmitted")]
pub struct Submitted {
    /// Always `success`.
    pub status: String,
    /// For people.
    pub message: String,
    /// Its id.
    pub task_id: String,
    /// Its class.
    pub priority: String,
    /// When.
    pub submitted_at: String,
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "WorkerTaskState", rename_all = "lowercase")]
pub enum StateWord {
    /// It waits for a worker.
    Queued,
    /// A worker has it.
    Assigned,
    /// A worker has done it.
    Completed,
    /// A worker said that it failed, or too many fell silent over it.
    Failed,
    /// Its queue was cleared.
    Cancelled,
}

/// A task and what came of it.
#[derive(Debug, Object)]
#[oai(rename = "WorkerTask", skip_serializing_if_is_none)]
pub struct Job {
    /// Its id.
    pub task_id: String,
    /// Where it stands.
    pub state: StateWord,
    /// What it waits for, in words.
    pub waits_for: Option<String>,
    /// Its class.
    pub priority: String,
    /// What is to be done.
    pub task_data: TaskData,
    /// What its worker must have.
    pub requirements: WorkerRequirements,
    /// The worker that has it, or had it last.
    pub assigned_agent: Option<String>,
    /// How often it was given to a worker. More than once: one had fallen silent.
    pub attempt: u32,
    /// Seconds that its worker may be silent.
    pub lease_s: Option<u32>,
    /// What came of it.
    pub result: Option<Value>,
    /// Why it failed.
    pub error: Option<String>,
    /// The key of the machine that decides about it.
    pub owner_node: String,
    /// When it was submitted.
    pub submitted_at: String,
    /// When it was given to its worker.
    pub assigned_at: Option<String>,
    /// When it ended.
    pub finished_at: Option<String>,
}

impl Job {
    pub(super) fn new(job: worker::Job, waits_for: Option<String>) -> Job {
        let worker::Job { slip, work, result } = job;
        let json = |text: String| serde_json::from_str(&text).unwrap_or(Value::Null);
        Job {
            task_id: slip.id.to_string(),
            state: match slip.state {
                State::Queued => StateWord::Queued,
                State::Assigned => StateWord::Assigned,
                State::Completed => StateWord::Completed,
                State::Failed => StateWord::Failed,
                State::Cancelled => StateWord::Cancelled,
            },
            waits_for,
            priority: word(slip.priority),
            task_data: TaskData {
                task_type: work.task_type,
                model: Some(work.model),
                prompt: Some(work.prompt),
                parameters: Some(json(work.parameters)),
            },
            requirements: WorkerRequirements {
                capabilities: Some(slip.needs.capabilities.into_iter().collect()),
                agent_type: slip.needs.kind,
            },
            assigned_agent: slip.worker,
            attempt: slip.attempts,
            lease_s: (slip.lease_s > 0).then_some(slip.lease_s),
            result: result.map(json),
            error: slip.error,
            owner_node: slip.owner.to_string(),
            submitted_at: rfc3339(slip.submitted_ms),
            assigned_at: slip.assigned_ms.map(rfc3339),
            finished_at: slip.finished_ms.map(rfc3339),
        }
    }
}

/// A class's name.
pub(super) fn word(priority: skep_actors::scheduler::messages::Priority) -> String {
    format!("{priority:?}").to_lowercase()
}

/// The id of a task; what is no id is no task's.
pub(super) fn job_id(text: &str) -> Result<Uuid, Problem> {
    text.parse().map_err(|_| Problem::not_found(format!("Task not found: {text}")))
}
