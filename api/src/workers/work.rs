//! `/agents/{agent_id}/...`: an external worker says that it is there, takes tasks and finishes them.

use super::{
    job::{Job, job_id},
    success, workers,
};
use crate::{
    Problem, Reply,
    caller::Caller,
    input::{Input, Perhaps},
    tag::Tag,
    when::rfc3339,
};
use poem_openapi::{ApiResponse, Object, OpenApi, param::Path, payload::Json};
use serde_json::Value;
use skep_actors::{
    Context,
    runtime::{Wire, defaults::ASK_TIMEOUT},
    worker::{
        Finish, Message, Take, Word,
        messages::{LEASE_S, TAKE_MARGIN},
    },
};
use std::{collections::BTreeSet, time::Duration};
use uuid::Uuid;

/// Endpoints of a worker's work.
#[derive(Clone)]
pub struct AgentWork(pub Context);

#[OpenApi(prefix_path = "/agents", tag = "Tag::Workers")]
impl AgentWork {
    /// Say that a worker is there
    ///
    /// Keeps it from going stale (30 s), and its tasks from being given to others (their leases). A worker that names its
    /// tasks has no others: those that it doesn't name go back to the front of their queues.
    #[oai(path = "/:agent_id/heartbeat", method = "post", operation_id = "workers_heartbeat")]
    async fn heartbeat(&self, _caller: Caller, agent_id: Path<String>, body: Perhaps<Beat>) -> Reply<Json<Heard>> {
        let id = agent_id.0;
        let word = Word::Heartbeat(body.0.and_then(|beat| beat.tasks).map(ids).transpose()?);
        let at_ms =
            workers(&self.0).ask(ASK_TIMEOUT * 2, |port| Message::Say(Wire((id.clone(), word)), port)).await??;
        Ok(Json(Heard {
            status: success(),
            message: format!("Heartbeat of agent {id} received"),
            agent_id: id,
            heartbeat_at: rfc3339(at_ms),
        }))
    }

    /// Take a task
    ///
    /// Waits until there is one that suits this worker, at most as long as it says. The task is the worker's until it
    /// finishes it, or is silent for longer than its lease; it may be given to another then.
    #[oai(path = "/:agent_id/take", method = "post", operation_id = "workers_take")]
    async fn take(&self, _caller: Caller, agent_id: Path<String>, body: Perhaps<NewTake>) -> Reply<Taken> {
        let NewTake { wait_s, lease_s, tasks } = body.0.unwrap_or_default();
        let take = Take {
            worker: agent_id.0,
            wait_s: wait_s.unwrap_or_default(),
            lease_s: lease_s.unwrap_or(LEASE_S),
            has: tasks.map(ids).transpose()?,
        };
        // Twice the margin: the task may be at home elsewhere, and so may the worker.
        let deadline = Duration::from_secs(take.wait_s.into()) + 2 * TAKE_MARGIN;
        let job = workers(&self.0).ask(deadline, |port| Message::Take(Wire(take), port)).await??;
        Ok(job.map_or(Taken::Nothing, |job| Taken::Task(Json(Box::new(Job::new(job, None))))))
    }

    /// Finish a task
    ///
    /// Said twice, it is answered alike, and the first word counts. 409 if the task is another's by now, or has ended.
    #[oai(path = "/:agent_id/tasks/:task_id/finish", method = "post", operation_id = "workers_finish")]
    async fn finish(
        &self,
        _caller: Caller,
        agent_id: Path<String>,
        task_id: Path<String>,
        body: Input<End>,
    ) -> Reply<Json<Job>> {
        let End { ok, result, error, attempt } = body.0;
        let finish = Finish {
            worker: agent_id.0,
            job: job_id(&task_id.0)?,
            attempt,
            ok,
            result: result.map(|result| result.to_string()),
            error,
        };
        // It waits for another machine's disk, and may have to be passed on.
        let job = workers(&self.0).ask(ASK_TIMEOUT * 4, |port| Message::Finish(Wire(finish), port)).await??;
        Ok(Json(Job::new(job, None)))
    }
}

/// A worker is there.
#[derive(Debug, Object)]
#[oai(rename = "Heartbeat")]
pub struct Beat {
    /// The tasks that it has, if it says; it has no others then.
    #[oai(validator(max_items = 1000))]
    pub tasks: Option<Vec<String>>,
}

/// A worker asks for a task.
#[derive(Debug, Default, Object)]
#[oai(rename = "TaskWish")]
pub struct NewTake {
    /// Seconds to wait for one; 0 if it doesn't say.
    #[oai(validator(minimum(value = "0"), maximum(value = "30")))]
    pub wait_s: Option<u32>,
    /// Seconds that it may be silent over it before it is given to another; 60 if it doesn't say.
    #[oai(validator(minimum(value = "5"), maximum(value = "3600")))]
    pub lease_s: Option<u32>,
    /// The tasks that it has, if it says; it has no others then.
    #[oai(validator(max_items = 1000))]
    pub tasks: Option<Vec<String>>,
}

/// What came of a task.
#[derive(Debug, Object)]
#[oai(rename = "TaskEnd")]
pub struct End {
    /// Whether it is done.
    pub ok: bool,
    /// What came of it: anything of at most 120 KiB.
    pub result: Option<Value>,
    /// Why it failed.
    #[oai(validator(max_length = 2000))]
    pub error: Option<String>,
    /// The attempt that `take` told: an earlier one of the same worker doesn't count then.
    pub attempt: Option<u32>,
}

/// A task, or none.
#[derive(ApiResponse)]
pub enum Taken {
    /// This worker's now
    #[oai(status = 200)]
    Task(Json<Box<Job>>),
    /// There was none in time
    #[oai(status = 204)]
    Nothing,
}

/// It was heard.
#[derive(Debug, Object)]
#[oai(rename = "HeartbeatHeard")]
pub struct Heard {
    /// Always `success`.
    pub status: String,
    /// For people.
    pub message: String,
    /// Who.
    pub agent_id: String,
    /// When.
    pub heartbeat_at: String,
}

fn ids(texts: Vec<String>) -> Result<BTreeSet<Uuid>, Problem> {
    let id = |text: String| text.parse().map_err(|_| Problem::invalid("tasks", format!("{text} is no task's id")));
    texts.into_iter().map(id).collect()
}
