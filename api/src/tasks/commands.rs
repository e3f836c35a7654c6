//! `/api/tasks`: commands, their records, and how to end them.

use super::task::{NewTask, Task};
use crate::{
    Problem, Reply,
    caller::Caller,
    input::Input,
    limits::{CANCEL_TIMEOUT, ROWS, ROWS_MAX},
    reply::{Created, Done},
    tag::Tag,
};
use poem_openapi::{
    OpenApi,
    param::{Path, Query},
    payload::Json,
};
use skep_actors::{
    Context,
    runtime::{Handle, Wire, defaults::ASK_TIMEOUT},
    scheduler::{self, Message},
};
use uuid::Uuid;

/// Endpoints of the commands.
#[derive(Clone)]
pub struct Tasks(pub Context);

#[OpenApi(prefix_path = "/api/tasks", tag = "Tag::Tasks")]
impl Tasks {
    /// List the newest commands
    #[oai(path = "/", method = "get", operation_id = "tasks_list")]
    async fn list(
        &self,
        _caller: Caller,
        /// How many, at most 1000
        #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
        limit: Query<Option<u32>>,
    ) -> Reply<Json<Vec<Task>>> {
        let rows = limit.0.unwrap_or(ROWS).min(ROWS_MAX);
        let records = self.scheduler().ask(ASK_TIMEOUT, |port| Message::List(Wire(rows), port)).await?;
        Ok(Json(records.into_iter().map(Task::from).collect()))
    }

    /// Run a command
    #[oai(path = "/", method = "post", operation_id = "tasks_create")]
    async fn create(&self, _caller: Caller, body: Input<NewTask>) -> Reply<Created<Task>> {
        let named_in = body.0.names_its_node_in();
        let spec = body.0.try_into()?;
        let submitted = self.scheduler().ask(ASK_TIMEOUT, |port| Message::Submit(Wire(spec), port)).await?;
        let record = submitted.map_err(|error| Problem::from(error).renamed("node", named_in))?;
        Ok(Created::Made(Json(record.into())))
    }

    /// Show a command
    #[oai(path = "/:id", method = "get", operation_id = "tasks_get")]
    async fn get(&self, _caller: Caller, id: Path<String>) -> Reply<Json<Task>> {
        let id = task_id(&id.0)?;
        let record = self.scheduler().ask(ASK_TIMEOUT, |port| Message::Get(Wire(id), port)).await??;
        Ok(Json(record.into()))
    }

    /// End a command
    ///
    /// And everything that it started. Answered once it has ended.
    #[oai(path = "/:id", method = "delete", operation_id = "tasks_delete")]
    async fn delete(&self, _caller: Caller, id: Path<String>) -> Reply<Done> {
        let id = task_id(&id.0)?;
        self.scheduler().ask(CANCEL_TIMEOUT, |port| Message::Cancel(Wire(id), port)).await??;
        Ok(Done::Done)
    }

    fn scheduler(&self) -> Handle<Message> {
        self.0.directory.here(scheduler::NAME)
    }
}

/// The id of a task; what is no id is no task's.
pub(crate) fn task_id(text: &str) -> Result<Uuid, Problem> {
    text.parse().map_err(|_| Problem::not_found(format!("Task not found: {text}")))
}
