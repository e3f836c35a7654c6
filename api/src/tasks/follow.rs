//! `/api/tasks/:id/events`: what a command writes, as it writes it.

use super::{commands::task_id, task::Status, text::Text};
use crate::{
    Reply,
    caller::Caller,
    events::{Events, await_from, events},
    tag::Tag,
};
use futures::{StreamExt, stream};
use poem_openapi::{Object, OpenApi, Union, param::Path};
use skep_actors::{
    Context,
    runtime::{self, Wire, defaults::ASK_TIMEOUT},
    scheduler::{
        self, Message,
        messages::{Ending, Output},
    },
};

/// Endpoints of following a command.
#[derive(Clone)]
pub struct Follow(pub Context);

#[OpenApi(prefix_path = "/api/tasks", tag = "Tag::Tasks")]
impl Follow {
    /// Follow a command's output
    ///
    /// From its beginning, as far as it is kept, to its end. Events: `output`, `skipped`, `ended`, `failed`.
    #[oai(path = "/:id/events", method = "get", operation_id = "tasks_events")]
    async fn events(&self, _caller: Caller, id: Path<String>) -> Reply<Events<TaskEvent>> {
        let id = task_id(&id.0)?;
        let scheduler = self.0.directory.here::<Message>(scheduler::NAME);
        // Whoever keeps the record opens the stream.
        let owner = scheduler.ask(ASK_TIMEOUT, |port| Message::Get(Wire(id), port)).await??.owner;
        let stream = await_from(&self.0, owner)?;
        let whom = (id, stream.me, stream.ticket);
        let there = self.0.directory.at::<Message>(owner, scheduler::NAME);
        there.ask(ASK_TIMEOUT, |port| Message::Follow(Wire(whom), port)).await??;
        let frames = stream.frames::<Output>().await?;
        let mut text = Text::default();
        Ok(events(frames.flat_map(move |frame| stream::iter(told(&mut text, frame))), TaskEvent::name))
    }
}

/// What the caller is told of one frame.
fn told(text: &mut Text, frame: Result<Output, runtime::Error>) -> Vec<TaskEvent> {
    match frame {
        Ok(Output::Bytes(bytes)) => {
            let text = text.push(&bytes);
            if text.is_empty() { Vec::new() } else { vec![TaskEvent::Output(TaskOutput { text })] }
        }
        Ok(Output::Skipped(bytes)) => vec![TaskEvent::Skipped(TaskSkipped { bytes })],
        Ok(Output::Ended(ending)) => {
            let rest = Some(text.end()).filter(|rest| !rest.is_empty());
            let rest = rest.map(|text| TaskEvent::Output(TaskOutput { text }));
            rest.into_iter().chain([TaskEvent::Ended(ending.into())]).collect()
        }
        Err(e) => vec![TaskEvent::Failed(TaskFailed { error: e.to_string() })],
    }
}

/// Something happened to a command.
#[derive(Debug, Union)]
#[oai(discriminator_name = "type", rename_all = "lowercase", one_of)]
pub enum TaskEvent {
    /// It wrote.
    Output(TaskOutput),
    /// Earlier output is no longer kept.
    Skipped(TaskSkipped),
    /// It ended; nothing follows.
    Ended(TaskEnded),
    /// It can't be followed any more, though it may go on; nothing follows.
    Failed(TaskFailed),
}

impl TaskEvent {
    fn name(&self) -> &'static str {
        match self {
            TaskEvent::Output(_) => "output",
            TaskEvent::Skipped(_) => "skipped",
            TaskEvent::Ended(_) => "ended",
            TaskEvent::Failed(_) => "failed",
        }
    }
}

/// What a command wrote.
#[derive(Debug, Object)]
pub struct TaskOutput {
    /// Output and errors as they came; bytes that are no UTF-8 are U+FFFD.
    pub text: String,
}

/// Output that is no longer kept.
#[derive(Debug, Object)]
pub struct TaskSkipped {
    /// How much.
    pub bytes: u64,
}

/// How a command ended.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct TaskEnded {
    /// `completed`, `failed` or `cancelled`.
    pub status: Status,
    /// Its exit status, if it exited by itself.
    pub exit_code: Option<i32>,
    /// Why it failed.
    pub error: Option<String>,
    /// Bytes that it wrote in all.
    pub output_bytes: u64,
}

/// Why the stream broke.
#[derive(Debug, Object)]
pub struct TaskFailed {
    /// For people.
    pub error: String,
}

impl From<Ending> for TaskEnded {
    fn from(ending: Ending) -> TaskEnded {
        TaskEnded {
            status: ending.state.into(),
            exit_code: ending.exit_code,
            error: ending.error,
            output_bytes: ending.output_bytes,
        }
    }
}
