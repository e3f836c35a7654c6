//! `/api/llm/sessions`: threads, as chats with a model.

use super::{
    pieces::{self, Part},
    thread::{ThreadOrigin, thread_id_of, threads},
};
use crate::{
    Problem, Reply,
    caller::Caller,
    input::Input,
    limits::{CANCEL_TIMEOUT, ROWS_MAX},
    reply::Done,
    tag::Tag,
    when::rfc3339,
};
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
    payload::Json,
};
use skep_actors::{
    Context,
    defaults::MODEL,
    organism::MAIN,
    runtime::{Wire, defaults::ASK_TIMEOUT},
    thread::{Message, NewThread, Order, Origin, Role, Thread, Wanted, messages::WantedSaid},
};
use uuid::Uuid;

/// Endpoints of the chats.
#[derive(Clone)]
pub struct Chats(pub Context);

#[OpenApi(prefix_path = "/api/llm/sessions", tag = "Tag::Threads")]
impl Chats {
    /// List chats
    ///
    /// The newest first, without their messages.
    #[oai(path = "/", method = "get", operation_id = "chats_list")]
    async fn list(
        &self,
        _caller: Caller,
        /// Only those that were begun so
        origin: Query<Option<ThreadOrigin>>,
    ) -> Reply<Json<Vec<ChatRow>>> {
        let wanted = Wanted { limit: ROWS_MAX, origin: origin.0.map(Origin::from), ..Wanted::default() };
        let page = threads(&self.0).ask(ASK_TIMEOUT, |port| Message::List(Wire(wanted), port)).await?;
        Ok(Json(page.items.into_iter().map(ChatRow::from).collect()))
    }

    /// Begin a chat with a model
    #[oai(path = "/", method = "post", operation_id = "chats_create")]
    async fn create(&self, _caller: Caller, body: Input<NewChat>) -> Reply<Json<ChatRow>> {
        let new = NewThread {
            agent: MAIN.into(),
            origin: Origin::Chat,
            budget_cost: None,
            title: None,
            model: Some(body.0.model),
            budget: None,
        };
        let thread = threads(&self.0).ask(ASK_TIMEOUT * 3, |port| Message::Open(Wire(new), port)).await??;
        Ok(Json(thread.into()))
    }

    /// Show a chat and its messages
    ///
    /// The newest 1000, in their order.
    #[oai(path = "/:id", method = "get", operation_id = "chats_get")]
    async fn get(
        &self,
        _caller: Caller,
        id: Path<String>,
        /// How many of the newest messages are left out, for older ones
        offset: Query<Option<u32>>,
    ) -> Reply<Json<ChatRow>> {
        let id = chat_id(&id.0)?;
        let thread = threads(&self.0).ask(ASK_TIMEOUT, |port| Message::Get(Wire(id), port)).await?;
        let thread = thread.map_err(|_| none(&id.to_string()))?;
        let offset = offset.0.unwrap_or(0);
        let wanted = WantedSaid { thread: Some(id), agent: None, oldest_first: false, offset, limit: ROWS_MAX };
        let Part { items, next, .. } = pieces::said(&self.0, wanted).await?;
        let messages = items.into_iter().rev().map(|said| ChatMessage {
            role: match said.role {
                Role::User => "user",
                Role::Assistant => "assistant",
                Role::System => "system",
            }
            .into(),
            content: said.content(),
            sent_at: rfc3339(said.created_ms),
        });
        Ok(Json(ChatRow { messages: messages.collect(), next_offset: next, ..thread.into() }))
    }

    /// Forget a chat
    #[oai(path = "/:id", method = "delete", operation_id = "chats_delete")]
    async fn delete(&self, _caller: Caller, id: Path<String>) -> Reply<Done> {
        let id = chat_id(&id.0)?;
        threads(&self.0).ask(CANCEL_TIMEOUT, |port| Message::Forget(Wire(Order::new(id)), port)).await??;
        Ok(Done::Done)
    }

    /// Give a chat another title
    #[oai(path = "/:id/title", method = "put", operation_id = "chats_rename")]
    async fn rename(&self, _caller: Caller, id: Path<String>, body: Input<NewTitle>) -> Reply<Done> {
        let order = Wire(Order::new((chat_id(&id.0)?, body.0.title)));
        threads(&self.0).ask(ASK_TIMEOUT * 3, |port| Message::Rename(order, port)).await??;
        Ok(Done::Done)
    }
}

fn none(id: &str) -> Problem {
    Problem::not_found(format!("Session not found: {id}"))
}

fn chat_id(text: &str) -> Result<Uuid, Problem> {
    thread_id_of(text).map_err(|_| none(text))
}

/// A chat.
#[derive(Debug, Object)]
#[oai(rename = "ChatSession", skip_serializing_if_is_none)]
pub struct ChatRow {
    /// Its id; its thread's too.
    pub id: String,
    /// The model.
    pub model: String,
    /// What it is called; empty if it has no name.
    pub title: String,
    /// When it was begun.
    pub created_at: String,
    /// When something happened in it last.
    pub updated_at: String,
    /// What was said, the oldest first. Not in lists.
    pub messages: Vec<ChatMessage>,
    /// The `offset` of the messages before them, if there are any. Not in lists.
    pub next_offset: Option<u32>,
    /// How many messages memory was made of: none yet.
    pub last_extracted_idx: u64,
}

impl From<Thread> for ChatRow {
    fn from(thread: Thread) -> ChatRow {
        ChatRow {
            id: thread.id.to_string(),
            model: thread.model.unwrap_or_else(|| MODEL.into()),
            title: thread.title.unwrap_or_default(),
            created_at: rfc3339(thread.created_ms),
            updated_at: rfc3339(thread.updated_ms),
            messages: Vec::new(),
            next_offset: None,
            last_extracted_idx: 0,
        }
    }
}

/// Something that was said in a chat.
#[derive(Debug, Object)]
#[oai(rename = "ChatSessionMessage")]
pub struct ChatMessage {
    /// `user`, `assistant`, or `system` for what the swarm itself says.
    pub role: String,
    /// The words.
    pub content: String,
    /// When.
    pub sent_at: String,
}

/// A chat to begin.
#[derive(Debug, Object)]
#[oai(rename = "NewChatSession")]
pub struct NewChat {
    /// The model.
    #[oai(validator(min_length = 1, max_length = 256))]
    pub model: String,
}

/// Another title.
#[derive(Debug, Object)]
pub struct NewTitle {
    /// One line.
    pub title: String,
}
