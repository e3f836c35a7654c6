//! `/api/sessions`: threads, as sessions with an agent.

use super::{
    pieces::{self, Part},
    thread::{ThreadOrigin, thread_id_of, threads},
    turns::TurnRow,
};
use crate::{
    Problem, Reply,
    caller::Caller,
    input::Input,
    limits::{ROWS, ROWS_MAX},
    tag::Tag,
    when::rfc3339,
};
use poem_openapi::{
    Enum, Object, OpenApi,
    param::{Path, Query},
    payload::Json,
};
use skep_actors::{
    Context,
    runtime::{Wire, defaults::ASK_TIMEOUT},
    thread::{Message, NewThread, Note, Order, Origin, Role, Said, Status, Thread, Wanted, messages::WantedSaid},
};
use uuid::Uuid;

/// Characters of a name that is made of a session's first words.
const NICKNAME_CHARS: usize = 48;
/// Sessions that are given names in one request.
const NAMED_MAX: u32 = 1000;

/// Endpoints of the sessions.
#[derive(Clone)]
pub struct Sessions(pub Context);

#[OpenApi(prefix_path = "/api/sessions", tag = "Tag::Threads")]
impl Sessions {
    /// List sessions
    ///
    /// The last active ones first.
    #[oai(path = "/", method = "get", operation_id = "agent_sessions_list")]
    async fn list(
        &self,
        _caller: Caller,
        /// How many, at most 1000
        #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
        limit: Query<Option<u32>>,
        /// How many are left out first
        offset: Query<Option<u32>>,
        /// Only those that were begun so
        origin: Query<Option<ThreadOrigin>>,
    ) -> Reply<Json<SessionList>> {
        let (limit, offset) = (limit.0.unwrap_or(ROWS).min(ROWS_MAX), offset.0.unwrap_or(0));
        let wanted = Wanted { offset, limit, origin: origin.0.map(Origin::from), ..Wanted::default() };
        let page = threads(&self.0).ask(ASK_TIMEOUT, |port| Message::List(Wire(wanted), port)).await?;
        Ok(Json(SessionList { sessions: page.items.into_iter().map(SessionRow::from).collect() }))
    }

    /// Begin a session with an agent
    #[oai(path = "/", method = "post", operation_id = "agent_sessions_create")]
    async fn create(&self, _caller: Caller, body: Input<NewSession>) -> Reply<Json<SessionRow>> {
        let NewSession { agent_id, nickname, model, budget } = body.0;
        let new =
            NewThread { agent: agent_id, origin: Origin::Session, title: nickname, model, budget, budget_cost: None };
        let thread = threads(&self.0).ask(ASK_TIMEOUT * 3, |port| Message::Open(Wire(new), port)).await??;
        Ok(Json(thread.into()))
    }

    /// Show a session
    #[oai(path = "/:id", method = "get", operation_id = "agent_sessions_get")]
    async fn get(&self, _caller: Caller, id: Path<String>) -> Reply<Json<SessionRow>> {
        Ok(Json(session(&self.0, &id.0).await?.into()))
    }

    /// List what was said last in a session
    ///
    /// In its order: the newest message is the last one.
    #[oai(path = "/:id/messages", method = "get", operation_id = "agent_sessions_messages")]
    async fn messages(
        &self,
        _caller: Caller,
        id: Path<String>,
        /// How many, at most 1000
        #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
        limit: Query<Option<u32>>,
        /// How many of the newest are left out, for older ones
        offset: Query<Option<u32>>,
    ) -> Reply<Json<SaidList>> {
        let thread = Some(session(&self.0, &id.0).await?.id);
        let (limit, offset) = (limit.0.unwrap_or(ROWS_MAX), offset.0.unwrap_or(0));
        let wanted = WantedSaid { thread, agent: None, oldest_first: false, offset, limit };
        let Part { items, next, .. } = pieces::said(&self.0, wanted).await?;
        Ok(Json(SaidList { messages: items.into_iter().rev().map(SaidRow::from).collect(), next_offset: next }))
    }

    /// Write something down in a session
    ///
    /// Nobody answers it: `/api/agent/message` says something to the agent.
    #[oai(path = "/:id/messages", method = "post", operation_id = "agent_sessions_append")]
    async fn append(&self, _caller: Caller, id: Path<String>, body: Input<NewSaid>) -> Reply<Json<Appended>> {
        let note = Note { thread: session_id(&id.0)?, role: body.0.role.into(), content: body.0.content };
        let asked = |port| Message::Note(Wire(Order::new(note)), port);
        let id = threads(&self.0).ask(ASK_TIMEOUT * 3, asked).await??;
        Ok(Json(Appended { message_id: id.to_string() }))
    }

    /// List the turns of a session
    ///
    /// In their order, without what their agents thought: each turn of its own has that.
    #[oai(path = "/:id/turns", method = "get", operation_id = "agent_sessions_turns")]
    async fn turns(&self, _caller: Caller, id: Path<String>) -> Reply<Json<TurnList>> {
        let id = session_id(&id.0)?;
        let turns = threads(&self.0).ask(ASK_TIMEOUT, |port| Message::Turns(Wire(id), port)).await?;
        let turns = turns.map_err(|_| none(&id.to_string()))?;
        Ok(Json(TurnList { turns: turns.into_iter().map(TurnRow::from).collect() }))
    }

    /// Name the sessions that have no name
    ///
    /// After the first words that were said in each.
    #[oai(path = "/backfill-nicknames", method = "post", operation_id = "agent_sessions_name")]
    async fn backfill(&self, _caller: Caller) -> Reply<Json<Backfilled>> {
        let wanted = Wanted { limit: NAMED_MAX, ..Wanted::default() };
        let page = threads(&self.0).ask(ASK_TIMEOUT, |port| Message::List(Wire(wanted), port)).await?;
        let mut backfilled = 0;
        for thread in page.items.iter().filter(|thread| thread.title.is_none() && thread.last > 0) {
            let first = WantedSaid { thread: Some(thread.id), agent: None, oldest_first: true, offset: 0, limit: 1 };
            let first = threads(&self.0).ask(ASK_TIMEOUT, |port| Message::Said(Wire(first), port)).await??;
            let Some(title) = first.items.first().and_then(|said| nickname(&said.content())) else { continue };
            let order = Wire(Order::new((thread.id, title)));
            backfilled +=
                threads(&self.0).ask(ASK_TIMEOUT * 3, |port| Message::Rename(order, port)).await?.is_ok() as u32;
        }
        Ok(Json(Backfilled { backfilled }))
    }
}

/// A name of the first words.
fn nickname(text: &str) -> Option<String> {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let name: String = words.chars().filter(|c| !c.is_control()).take(NICKNAME_CHARS).collect();
    let name = name.trim();
    (!str::is_empty(name)).then(|| name.to_owned())
}

fn none(id: &str) -> Problem {
    Problem::not_found(format!("Session not found: {id}"))
}

/// The id of a session; what is no id is no session's.
pub(crate) fn session_id(text: &str) -> Result<Uuid, Problem> {
    thread_id_of(text).map_err(|_| none(text))
}

async fn session(context: &Context, text: &str) -> Reply<Thread> {
    let id = session_id(text)?;
    let found = threads(context).ask(ASK_TIMEOUT, |port| Message::Get(Wire(id), port)).await?;
    found.map_err(|_| none(text))
}

/// Sessions.
#[derive(Debug, Object)]
pub struct SessionList {
    /// Each of them.
    pub sessions: Vec<SessionRow>,
}

/// A session with an agent.
#[derive(Debug, Object)]
#[oai(rename = "AgentSession", skip_serializing_if_is_none)]
pub struct SessionRow {
    /// Its id; its thread's too.
    pub id: String,
    /// The agent.
    pub agent_id: String,
    /// What sessions are kept apart by, for clients that have such a thing: how it was begun.
    pub scope_key: String,
    /// `active`, or `archived` when somebody ended it.
    pub status: String,
    /// The model that it thinks with, in place of the agent's.
    pub model: Option<String>,
    /// What it is called.
    pub nickname: Option<String>,
    /// When it was begun.
    pub created_at: String,
    /// When something happened in it last.
    pub updated_at: String,
    /// Turns in it.
    pub turn_count: u32,
}

impl From<Thread> for SessionRow {
    fn from(thread: Thread) -> SessionRow {
        let scope = match thread.origin {
            Origin::Message => "message",
            Origin::Session => "session",
            Origin::Chat => "chat",
            Origin::Goal => "goal",
        };
        SessionRow {
            id: thread.id.to_string(),
            agent_id: thread.agent,
            scope_key: scope.into(),
            status: if thread.status == Status::Killed { "archived" } else { "active" }.into(),
            model: thread.model,
            nickname: thread.title,
            created_at: rfc3339(thread.created_ms),
            updated_at: rfc3339(thread.updated_ms),
            turn_count: thread.turns,
        }
    }
}

/// A session to begin.
#[derive(Debug, Object)]
pub struct NewSession {
    /// The agent.
    #[oai(validator(min_length = 1, max_length = 64))]
    pub agent_id: String,
    /// What it is called.
    pub nickname: Option<String>,
    /// The model that it thinks with, in place of the agent's.
    pub model: Option<String>,
    /// The most tokens that may be spent in it.
    #[oai(validator(minimum(value = "1")))]
    pub budget: Option<u64>,
}

/// What was said in a session.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct SaidList {
    /// Each message.
    pub messages: Vec<SaidRow>,
    /// The `offset` of those before them, if there are any.
    pub next_offset: Option<u32>,
}

/// Something that was said in a session.
#[derive(Debug, Object)]
#[oai(rename = "SessionMessage", skip_serializing_if_is_none)]
pub struct SaidRow {
    /// Its id.
    pub id: String,
    /// Its session.
    pub session_id: String,
    /// As whose word.
    pub role: SaidRole,
    /// The words.
    pub content: String,
    /// The turn that answers it, or that it is the answer of.
    pub turn_id: Option<String>,
    /// When.
    pub created_at: String,
}

impl From<Said> for SaidRow {
    fn from(said: Said) -> SaidRow {
        SaidRow {
            content: said.content(),
            id: said.id.to_string(),
            session_id: said.thread.to_string(),
            role: match said.role {
                Role::User => SaidRole::User,
                Role::Assistant => SaidRole::Assistant,
                Role::System => SaidRole::System,
            },
            turn_id: said.turn.map(|turn| turn.to_string()),
            created_at: rfc3339(said.created_ms),
        }
    }
}

/// As whose word something is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
pub enum SaidRole {
    /// Whoever asks.
    User,
    /// Whoever answers.
    Assistant,
    /// The swarm itself: what it tells of the budget.
    System,
}

/// As whose word something may be written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
pub enum NoteRole {
    /// Whoever asks.
    User,
    /// Whoever answers.
    Assistant,
}

impl From<NoteRole> for Role {
    fn from(role: NoteRole) -> Role {
        match role {
            NoteRole::User => Role::User,
            NoteRole::Assistant => Role::Assistant,
        }
    }
}

/// Something to write down.
#[derive(Debug, Object)]
pub struct NewSaid {
    /// As whose word.
    pub role: NoteRole,
    /// The words: at most 32 KiB.
    pub content: String,
}

/// It is written down.
#[derive(Debug, Object)]
pub struct Appended {
    /// Its id.
    pub message_id: String,
}

/// The turns of a session.
#[derive(Debug, Object)]
pub struct TurnList {
    /// Each of them.
    pub turns: Vec<TurnRow>,
}

/// Sessions were named.
#[derive(Debug, Object)]
pub struct Backfilled {
    /// How many.
    pub backfilled: u32,
}
