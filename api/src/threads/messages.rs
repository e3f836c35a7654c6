//! `/api/v1/messages`, a thread's own, and `/api/v1/inject`: what was said, and saying something to an agent.

use super::{
    kind::kind_of,
    pieces::{self, Part},
    thread::{ROWS, thread_id_of, threads},
};
use crate::{Problem, Reply, caller::Caller, input::WithText, limits::CANCEL_TIMEOUT, tag::Tag, when::rfc3339};
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
    payload::Json,
    types::Any,
};
use serde_json::Value;
use skep_actors::{
    Context,
    runtime::Wire,
    thread::{Message, Order, Origin, Post, Posted, Said, ThreadError, messages::WantedSaid},
};

/// Endpoints of the messages.
#[derive(Clone)]
pub struct Messages(pub Context);

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Threads")]
impl Messages {
    /// List the newest messages of all threads
    #[oai(path = "/messages", method = "get", operation_id = "messages_list")]
    async fn list(
        &self,
        _caller: Caller,
        /// Only those from or to this agent
        agent: Query<Option<String>>,
        /// How many
        #[oai(validator(minimum(value = "1"), maximum(value = "100")))]
        limit: Query<Option<u32>>,
        /// How many are left out first
        offset: Query<Option<u32>>,
    ) -> Reply<Json<MessageList>> {
        let (limit, offset) = (limit.0.unwrap_or(ROWS), offset.0.unwrap_or(0));
        self.page(WantedSaid { thread: None, agent: agent.0, oldest_first: false, offset, limit }).await
    }

    /// List the messages of a thread
    ///
    /// The newest first.
    #[oai(path = "/threads/:thread_id/messages", method = "get", operation_id = "messages_of_thread")]
    async fn of_thread(
        &self,
        _caller: Caller,
        thread_id: Path<String>,
        /// How many
        #[oai(validator(minimum(value = "1"), maximum(value = "100")))]
        limit: Query<Option<u32>>,
        /// How many are left out first
        offset: Query<Option<u32>>,
    ) -> Reply<Json<MessageList>> {
        let (limit, offset) = (limit.0.unwrap_or(ROWS), offset.0.unwrap_or(0));
        let thread = Some(thread_id_of(&thread_id.0)?);
        self.page(WantedSaid { thread, agent: None, oldest_first: false, offset, limit }).await
    }

    /// Say something to an agent
    ///
    /// It is answered by a turn of that agent; `/api/v1/threads/{threadId}/messages` shows the answer. Acknowledged once
    /// it is on two machines, if there are two.
    #[oai(path = "/inject", method = "post", operation_id = "messages_inject")]
    async fn inject(&self, _caller: Caller, body: WithText<Injection>) -> Reply<Json<Injected>> {
        let WithText(Injection { to, payload: Any(payload), thread_id, camel_thread_id, budget }, text) = body;
        let posted = inject(&self.0, to, payload, kind_of(&text), thread_id.or(camel_thread_id), budget).await?;
        Ok(Json(Injected {
            thread_id: posted.thread.to_string(),
            message_id: posted.message.to_string(),
            turn_id: posted.turn.to_string(),
        }))
    }

    async fn page(&self, wanted: WantedSaid) -> Reply<Json<MessageList>> {
        let (offset, limit) = (wanted.offset, wanted.limit);
        let Part { items, total, next } = pieces::said(&self.0, wanted).await?;
        let messages: Vec<MessageRow> = items.into_iter().map(MessageRow::from).collect();
        Ok(Json(MessageList { count: messages.len(), messages, total, offset, limit, next_offset: next }))
    }
}

/// Says something to an agent, in a thread that there is or in a new one; `kind` is the payload's first key.
pub(crate) async fn inject(
    context: &Context,
    to: String,
    payload: Value,
    kind: Option<String>,
    thread: Option<String>,
    budget: Option<u64>,
) -> Reply<Posted> {
    let thread = thread.map(|id| thread_id_of(&id)).transpose()?;
    if !payload.is_object() {
        return Err(Problem::invalid("payload", "is a JSON object"));
    }
    let post = Post {
        thread,
        to: Some(to),
        from: "api".into(),
        kind: Some(kind.unwrap_or_else(|| "Payload".into())),
        payload: payload.to_string(),
        origin: Origin::Message,
        budget,
        only_idle: false,
    };
    let posted = threads(context).ask(CANCEL_TIMEOUT, |port| Message::Post(Wire(Order::new(post)), port)).await?;
    posted.map_err(|error| match error {
        // In the words of its document, which has no 404 here.
        ThreadError::NoSuchAgent(_) => Problem::bad(error.to_string()).in_field("to"),
        error => error.into(),
    })
}

/// A part of the messages.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct MessageList {
    /// Each of them.
    pub messages: Vec<MessageRow>,
    /// How many they are.
    pub count: usize,
    /// How many there are in all.
    pub total: u64,
    /// How many were left out first.
    pub offset: u32,
    /// How many were asked for.
    pub limit: u32,
    /// The `offset` of the next part, if there is one: an answer may have fewer messages than were asked for.
    pub next_offset: Option<u32>,
}

/// A message.
#[derive(Debug, Object)]
#[oai(rename = "Message", rename_all = "camelCase")]
pub struct MessageRow {
    /// Its id.
    pub id: String,
    /// Its thread.
    pub thread_id: String,
    /// Who said it.
    pub from: String,
    /// To whom.
    pub to: String,
    /// What kind of message it is.
    pub payload_type: String,
    /// What it says.
    pub payload: Any<Value>,
    /// When.
    pub timestamp: String,
    /// Its place in its thread, from 0.
    pub slot_index: u64,
}

impl From<Said> for MessageRow {
    fn from(said: Said) -> MessageRow {
        let payload = serde_json::from_str(&said.payload).unwrap_or(Value::String(said.payload));
        MessageRow {
            id: said.id.to_string(),
            thread_id: said.thread.to_string(),
            from: said.from,
            to: said.to,
            payload_type: said.kind,
            payload: Any(payload),
            timestamp: rfc3339(said.created_ms),
            slot_index: said.number.saturating_sub(1),
        }
    }
}

/// Something to say to an agent.
#[derive(Debug, Object)]
pub struct Injection {
    /// To whom.
    #[oai(validator(min_length = 1, max_length = 64))]
    pub to: String,
    /// What: a JSON object of at most 32 KiB. Words stand under `content`; fields are those of the agent's payload.
    pub payload: Any<Value>,
    /// In which thread; a new one if absent.
    pub thread_id: Option<String>,
    /// `thread_id`.
    #[oai(rename = "threadId")]
    pub camel_thread_id: Option<String>,
    /// For a new thread: the most tokens that may be spent in it.
    #[oai(validator(minimum(value = "1")))]
    pub budget: Option<u64>,
}

/// Something was said.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub struct Injected {
    /// In which thread.
    pub thread_id: String,
    /// The message.
    pub message_id: String,
    /// The turn that answers it: `/api/turns/{id}`.
    pub turn_id: String,
}
