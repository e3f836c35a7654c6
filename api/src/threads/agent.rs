//! `/api/agent`: the main agent, spoken to directly.

use super::{sessions::session_id, thread::threads, words::Words};
use crate::{
    Problem, Reply,
    caller::Caller,
    events::{Events, events},
    input::Input,
    organism::state,
    tag::Tag,
};
use futures::stream::{self, StreamExt};
use poem_openapi::{Object, OpenApi, Union, payload::Json};
use skep_actors::{
    Context,
    defaults::MODEL,
    node,
    organism::MAIN,
    runtime::{Wire, defaults::ASK_TIMEOUT},
    thread::{Message, Order, Origin, Post, Posted, Said, State, Turn, messages::Exchange},
};
use std::time::Duration;

/// How long an answer may take before whoever waits for it is told to look again.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(295);

/// Endpoints of the main agent.
#[derive(Clone)]
pub struct MainAgent(pub Context);

#[OpenApi(prefix_path = "/api/agent", tag = "Tag::Threads")]
impl MainAgent {
    /// Show what the main agent does
    #[oai(path = "/status", method = "get", operation_id = "agent_status")]
    async fn status(&self, _caller: Caller) -> Reply<Json<AgentStatus>> {
        let known = state::one(&self.0, MAIN, "Agent not found").await?;
        let node = self.0.directory.here::<node::Message>(node::NAME).ask(ASK_TIMEOUT, node::Message::Status).await?;
        let state = known.doing().word().into();
        let model = known.agent.model.unwrap_or_else(|| MODEL.into());
        Ok(Json(AgentStatus {
            state,
            name: self.0.name.clone(),
            agent_name: MAIN.into(),
            agent_id: MAIN.into(),
            primary_model: model.clone(),
            active_model: model.clone(),
            primary_provider_state: "closed".into(),
            cache_entries: 0,
            cache_hit_rate_pct: 0.0,
            diagnostics: Diagnostics {
                uptime_seconds: node.uptime_ms / 1000,
                primary_model: model.clone(),
                active_model: model,
                turns_waiting: known.activity.waiting,
                turns_running: known.activity.running,
            },
        }))
    }

    /// Ask the main agent
    ///
    /// In a session of its own, or in one that there is: that one must be idle. An answer that takes longer than five
    /// minutes comes all the same: the session has it.
    #[oai(path = "/message", method = "post", operation_id = "agent_message")]
    async fn message(&self, _caller: Caller, body: Input<NewMessage>) -> Reply<Json<Answer>> {
        let posted = self.post(body.0).await?;
        Ok(Json(self.answer(posted).await?))
    }

    /// Ask the main agent, and follow its answer
    ///
    /// Events: `stream_start`, `chunk`, `stream_end`, `error`.
    #[oai(path = "/message/stream", method = "post", operation_id = "agent_message_stream")]
    async fn stream(&self, _caller: Caller, body: Input<NewMessage>) -> Reply<Events<AnswerEvent>> {
        let mut words = Words::listen(&self.0).await;
        let posted = self.post(body.0).await?;
        let Asked { agent, model, plain } = self.asked(posted).await;
        if !plain {
            words.hush();
        }
        let (me, id) = (self.clone(), posted.thread.to_string());
        let start = StreamStart { session_id: id, turn_id: posted.turn.to_string(), model: model.clone() };
        let first = stream::iter([AnswerEvent::Start(start)]);
        let ended = Box::pin(async move { me.answer(posted).await });
        let rest = stream::unfold(Some((words, ended)), move |state| {
            let (agent, model) = (agent.clone(), model.clone());
            async move {
                let (mut words, mut ended) = state?;
                tokio::select! {
                    biased;
                    delta = words.next(posted, &agent) => {
                        Some((vec![AnswerEvent::Chunk(StreamChunk { delta, model })], Some((words, ended))))
                    }
                    answer = &mut ended => Some((last(posted, answer, &words), None)),
                }
            }
        });
        Ok(events(first.chain(rest.flat_map(stream::iter)), AnswerEvent::name))
    }

    async fn answer(&self, posted: Posted) -> Reply<Answer> {
        let turn = self.ended(posted).await?;
        let said = self.said(posted).await?;
        Answer::new(posted, turn, said)
    }

    async fn post(&self, new: NewMessage) -> Reply<Posted> {
        let thread = new.session_id.map(|id| session_id(&id)).transpose()?;
        let post = Post {
            thread,
            to: None,
            from: new.sender_id.unwrap_or_else(|| "user".into()),
            kind: None,
            payload: serde_json::json!({ "content": new.content }).to_string(),
            origin: Origin::Session,
            budget: None,
            only_idle: true,
        };
        if post.from.len() > 64 {
            return Err(Problem::invalid("sender_id", "has 64 bytes at most"));
        }
        let order = Wire(Order::new(post));
        Ok(threads(&self.0).ask(ASK_TIMEOUT * 4, |port| Message::Post(order, port)).await??)
    }

    /// Who answers a message, and how. It is answered whether or not this machine has heard of its session yet.
    async fn asked(&self, posted: Posted) -> Asked {
        let thread = threads(&self.0).ask(ASK_TIMEOUT, |port| Message::Get(Wire(posted.thread), port)).await;
        let thread = thread.ok().and_then(Result::ok);
        let (agent, model) = thread.map_or((MAIN.into(), None), |thread| (thread.agent, thread.model));
        let known = state::one(&self.0, &agent, "Agent not found").await.ok().map(|known| known.agent);
        let plain = known.as_ref().is_some_and(|known| known.tools.is_empty() && known.peers.is_empty());
        let model = model.or(known.and_then(|known| known.model)).unwrap_or_else(|| MODEL.into());
        Asked { agent, model, plain }
    }

    async fn ended(&self, posted: Posted) -> Reply<Turn> {
        Ok(threads(&self.0).ask(ANSWER_TIMEOUT, |port| Message::Await(Wire(posted.turn), port)).await??)
    }

    async fn said(&self, posted: Posted) -> Reply<Exchange> {
        Ok(threads(&self.0).ask(ASK_TIMEOUT, |port| Message::Exchange(Wire(posted.turn), port)).await??)
    }
}

/// Who answers a message.
struct Asked {
    agent: String,
    /// The session's, the agent's, or the default one.
    model: String,
    /// It calls no tools and asks nobody: all that it says is its answer.
    plain: bool,
}

/// How the stream of an answer ends.
fn last(posted: Posted, answer: Reply<Answer>, words: &Words) -> Vec<AnswerEvent> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(problem) => return vec![AnswerEvent::Error(StreamError { error: problem.detail().into() })],
    };
    let Some(rest) = words.rest(&answer.content) else {
        let error = "the answer was begun anew and is not what was told so far: the session has it".into();
        return vec![AnswerEvent::Error(StreamError { error })];
    };
    let chunk = StreamChunk { delta: rest.to_owned(), model: answer.model.clone() };
    let chunk = (!chunk.delta.is_empty()).then_some(AnswerEvent::Chunk(chunk));
    let end = StreamEnd {
        session_id: answer.session_id.clone(),
        turn_id: posted.turn.to_string(),
        model: answer.model,
        tokens_in: answer.tokens_in,
        tokens_out: answer.tokens_out,
        content_length: answer.content.len(),
        content_blocked: false,
    };
    chunk.into_iter().chain([AnswerEvent::End(end)]).collect()
}

/// What the main agent does.
#[derive(Debug, Object)]
#[oai(rename = "MainAgentStatus")]
pub struct AgentStatus {
    /// `running`, `booting`, `error`, `idle`, `paused` or `stopped`.
    pub state: String,
    /// This machine's name.
    pub name: String,
    /// The agent's name.
    pub agent_name: String,
    /// The same.
    pub agent_id: String,
    /// The model that it thinks with.
    pub primary_model: String,
    /// The same.
    pub active_model: String,
    /// The breaker in front of that model's provider: `closed`, for the swarm's own models have none.
    pub primary_provider_state: String,
    /// Answers that are kept to be given again: none.
    pub cache_entries: u64,
    /// How often one was.
    pub cache_hit_rate_pct: f64,
    /// More of it.
    pub diagnostics: Diagnostics,
}

/// More of what the main agent does.
#[derive(Debug, Object)]
pub struct Diagnostics {
    /// Seconds since this node started.
    pub uptime_seconds: u64,
    /// The model that it thinks with.
    pub primary_model: String,
    /// The same.
    pub active_model: String,
    /// Messages that wait for it.
    pub turns_waiting: u32,
    /// Answers that it works on.
    pub turns_running: u32,
}

/// Something to say to the main agent.
#[derive(Debug, Object)]
#[oai(rename = "NewAgentMessage")]
pub struct NewMessage {
    /// The words: at most 32 KiB.
    pub content: String,
    /// In which session; a new one if absent.
    pub session_id: Option<String>,
    /// Who says it.
    pub sender_id: Option<String>,
    /// Which way it came: taken, and not kept.
    pub channel: Option<String>,
}

/// What the main agent answered.
#[derive(Debug, Object)]
pub struct Answer {
    /// The session.
    pub session_id: String,
    /// The turn.
    pub turn_id: String,
    /// What was said.
    pub user_message_id: String,
    /// What was answered.
    pub assistant_message_id: String,
    /// The words of it.
    pub content: String,
    /// The model that answered.
    pub selected_model: String,
    /// The same.
    pub model: String,
    /// It was answered before, and not thought of anew.
    pub cached: bool,
    /// Tokens of its prompts.
    pub tokens_in: u64,
    /// Tokens of its completions.
    pub tokens_out: u64,
    /// How often its agent called tools.
    pub react_turns: usize,
}

impl Answer {
    fn new(posted: Posted, turn: Turn, said: Exchange) -> Reply<Answer> {
        if turn.state != State::Completed {
            let why = turn.error.unwrap_or_else(|| "it was ended".into());
            return Err(Problem::new(poem::http::StatusCode::BAD_GATEWAY, "turn_failed", why));
        }
        let react_turns = turn.calls().count();
        let model = turn.model.unwrap_or_default();
        let id = |said: &Option<Said>| said.as_ref().map(|said| said.id.to_string()).unwrap_or_default();
        Ok(Answer {
            session_id: posted.thread.to_string(),
            turn_id: posted.turn.to_string(),
            user_message_id: id(&said.asked),
            assistant_message_id: id(&said.answered),
            content: said.answered.map(|said| said.content()).unwrap_or_default(),
            selected_model: model.clone(),
            model,
            cached: false,
            tokens_in: turn.prompt,
            tokens_out: turn.completion,
            react_turns,
        })
    }
}

/// Something of an answer.
#[derive(Debug, Union)]
#[oai(discriminator_name = "type", one_of)]
pub enum AnswerEvent {
    /// It is worked on.
    #[oai(mapping = "stream_start")]
    Start(StreamStart),
    /// More of its words.
    #[oai(mapping = "chunk")]
    Chunk(StreamChunk),
    /// It has ended; nothing follows.
    #[oai(mapping = "stream_end")]
    End(StreamEnd),
    /// It failed; nothing follows.
    #[oai(mapping = "error")]
    Error(StreamError),
}

impl AnswerEvent {
    fn name(&self) -> &'static str {
        match self {
            AnswerEvent::Start(_) => "stream_start",
            AnswerEvent::Chunk(_) => "chunk",
            AnswerEvent::End(_) => "stream_end",
            AnswerEvent::Error(_) => "error",
        }
    }
}

/// An answer is worked on.
#[derive(Debug, Object)]
pub struct StreamStart {
    /// The session.
    pub session_id: String,
    /// The turn.
    pub turn_id: String,
    /// The model that was asked for: the session's, its agent's or the default one. The end says which answered.
    pub model: String,
}

/// Words of an answer.
#[derive(Debug, Object)]
pub struct StreamChunk {
    /// The words.
    pub delta: String,
    /// The model.
    pub model: String,
}

/// An answer has ended.
#[derive(Debug, Object)]
pub struct StreamEnd {
    /// The session.
    pub session_id: String,
    /// The turn.
    pub turn_id: String,
    /// The model.
    pub model: String,
    /// Tokens of its prompts.
    pub tokens_in: u64,
    /// Tokens of its completions.
    pub tokens_out: u64,
    /// Bytes of it.
    pub content_length: usize,
    /// It was held back: it never is.
    pub content_blocked: bool,
}

/// An answer failed.
#[derive(Debug, Object)]
pub struct StreamError {
    /// Why.
    pub error: String,
}
