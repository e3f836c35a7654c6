//! `/api/llm/chat`: a conversation goes in, an answer comes out word by word.
//!
//! The same generation as OpenAI's endpoint, in the events that clients of the documented API read.

use crate::{
    Problem, Reply,
    caller::Caller,
    completion::{self, Running, Wanted},
    events::{Events, events},
    input::Input,
    limits::COMPLETION_TOKENS,
    openai::sampling::Choice,
    tag::Tag,
};
use futures::{StreamExt, stream};
use poem_openapi::{Object, OpenApi, Union, types::Any};
use serde_json::Value;
use skep_actors::{
    Context,
    pipeline::{Chunk, Turn},
};
use tokio::time::Instant;

/// Endpoints of the chat.
#[derive(Clone)]
pub struct Chat(pub Context);

#[OpenApi(prefix_path = "/api/llm/chat", tag = "Tag::Llm")]
impl Chat {
    /// Chat with a model
    ///
    /// Events: `llm_session_started`, `inference_info`, `llm_token`, then `llm_done` or `llm_error`.
    #[oai(path = "/", method = "post", operation_id = "llm_chat")]
    async fn chat(&self, _caller: Caller, body: Input<NewChat>) -> Reply<Events<ChatEvent>> {
        let wanted = body.0.wanted(&self.0)?;
        let running = completion::begin(&self.0, wanted).await?;
        Ok(events(told(running), ChatEvent::name))
    }
}

/// A conversation to go on with.
#[derive(Debug, Object)]
pub struct NewChat {
    /// The model's name; `auto` or nothing is the node's default.
    pub model: Option<String>,
    /// The conversation so far.
    #[oai(validator(min_items = 1, max_items = 1024))]
    pub messages: Vec<ChatMessage>,
    /// Always streams.
    pub stream: Option<bool>,
    /// Tokens of the answer at most; 1024 if absent.
    #[oai(validator(minimum(value = "1"), maximum(value = "1048576")))]
    pub max_tokens: Option<u32>,
    /// From 0, always the likeliest word, to 2.
    #[oai(validator(minimum(value = "0"), maximum(value = "2")))]
    pub temperature: Option<f32>,
    /// The thread whose budget this spends, a UUID; the node's own if absent.
    pub thread_id: Option<String>,
    /// Documents of the brain: not in this version, refused when asked for.
    pub use_brain: Option<bool>,
    /// Facts of the memory: not in this version, refused when asked for.
    pub use_memory: Option<bool>,
    /// MCP servers: not in this version, refused when asked for.
    pub mcp_servers: Option<Vec<String>>,
    /// Tools for the model to call: not in this version, refused when asked for; an agent has some.
    pub tools: Option<Vec<Any<Value>>>,
    /// How many documents of the brain: means nothing without it.
    pub brain_top_k: Option<u32>,
    /// How many facts of the memory: means nothing without it.
    pub memory_top_k: Option<u32>,
}

/// One turn of a conversation.
#[derive(Debug, Object)]
pub struct ChatMessage {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text.
    pub content: String,
}

impl NewChat {
    fn wanted(self, context: &Context) -> Result<Wanted, Problem> {
        let missing = |field| Err(Problem::invalid(field, "this node has none"));
        if self.use_brain == Some(true) {
            return missing("use_brain");
        }
        if self.use_memory == Some(true) {
            return missing("use_memory");
        }
        if self.mcp_servers.is_some_and(|servers| !servers.is_empty()) {
            return missing("mcp_servers");
        }
        if self.tools.is_some_and(|tools| !tools.is_empty()) {
            return missing("tools");
        }
        let thread = self.thread_id.map(|t| t.parse().map_err(|_| Problem::invalid("thread_id", "must be a UUID")));
        Ok(Wanted {
            model: self.model.filter(|model| model != "auto"),
            turns: self.messages.into_iter().map(|m| Turn { role: m.role, content: m.content }).collect(),
            max_tokens: self.max_tokens.unwrap_or(COMPLETION_TOKENS),
            sampling: Choice { temperature: self.temperature, top_p: None, seed: None }.sampling(&context.env),
            stop: Vec::new(),
            thread: thread.transpose()?,
            agent: "chat",
        })
    }
}

/// What the caller is told of a generation.
fn told(running: Running) -> impl futures::Stream<Item = ChatEvent> + Send + 'static {
    let Running { id, model, prompt_tokens, nodes, chunks } = running;
    let session = id.to_string();
    let shards = nodes.len();
    let machines = if shards == 1 { "one machine".into() } else { format!("{shards} machines") };
    let info = format!("{model} on {machines}, {prompt_tokens} tokens of prompt");
    let head = [
        ChatEvent::LlmSessionStarted(ChatStarted { session: session.clone(), model }),
        ChatEvent::InferenceInfo(ChatInfo { message: info }),
    ];
    let (since, mut tokens) = (Instant::now(), 0u64);
    let body = chunks.map(move |chunk| {
        let session = session.clone();
        match chunk {
            Chunk::Text(token) => {
                tokens += 1;
                let tok_sec = tokens as f64 / since.elapsed().as_secs_f64().max(0.001);
                ChatEvent::LlmToken(ChatToken { session, token, done: false, tok_sec, shards })
            }
            Chunk::End { prompt_tokens, completion_tokens, .. } => {
                ChatEvent::LlmDone(ChatDone { session, prompt_tokens, completion_tokens })
            }
            Chunk::Failed { error, .. } => ChatEvent::LlmError(ChatFailed { session, error: error.to_string() }),
        }
    });
    stream::iter(head).chain(body)
}

/// Something happened in a chat.
#[derive(Debug, Union)]
#[oai(discriminator_name = "type", rename_all = "snake_case", one_of)]
pub enum ChatEvent {
    /// The model begins.
    LlmSessionStarted(ChatStarted),
    /// For people.
    InferenceInfo(ChatInfo),
    /// More text.
    LlmToken(ChatToken),
    /// The end.
    LlmDone(ChatDone),
    /// It broke; what came before stands.
    LlmError(ChatFailed),
}

impl ChatEvent {
    fn name(&self) -> &'static str {
        match self {
            ChatEvent::LlmSessionStarted(_) => "llm_session_started",
            ChatEvent::InferenceInfo(_) => "inference_info",
            ChatEvent::LlmToken(_) => "llm_token",
            ChatEvent::LlmDone(_) => "llm_done",
            ChatEvent::LlmError(_) => "llm_error",
        }
    }
}

/// The model begins.
#[derive(Debug, Object)]
pub struct ChatStarted {
    /// The generation's id.
    pub session: String,
    /// The model that answers.
    pub model: String,
}

/// Something for people.
#[derive(Debug, Object)]
pub struct ChatInfo {
    /// The text.
    pub message: String,
}

/// More text.
#[derive(Debug, Object)]
pub struct ChatToken {
    /// The generation's id.
    pub session: String,
    /// The text.
    pub token: String,
    /// Always false: `llm_done` is the end.
    pub done: bool,
    /// Tokens a second so far.
    pub tok_sec: f64,
    /// Machines that it runs on.
    pub shards: usize,
}

/// The end.
#[derive(Debug, Object)]
pub struct ChatDone {
    /// The generation's id.
    pub session: String,
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
}

/// It broke.
#[derive(Debug, Object)]
pub struct ChatFailed {
    /// The generation's id.
    pub session: String,
    /// Why.
    pub error: String,
}
