//! `/api/v1/threads`: what is said to agents, thread by thread.

use crate::{Problem, Reply, caller::Caller, limits::CANCEL_TIMEOUT, tag::Tag, when::rfc3339};
use poem_openapi::{
    Enum, Object, OpenApi,
    param::{Path, Query},
    payload::Json,
};
use skep_actors::{
    Context,
    runtime::{Handle, Wire, defaults::ASK_TIMEOUT},
    thread::{self, Message, Order, Origin, Status, Thread, Wanted},
};
use uuid::Uuid;

/// Rows of these lists when the caller doesn't say.
pub(crate) const ROWS: u32 = 50;

/// Endpoints of the threads.
#[derive(Clone)]
pub struct Threads(pub Context);

#[OpenApi(prefix_path = "/api/v1/threads", tag = "Tag::Threads")]
impl Threads {
    /// List threads
    ///
    /// The last active ones first.
    #[oai(path = "/", method = "get", operation_id = "threads_list")]
    async fn list(
        &self,
        _caller: Caller,
        /// `active`, `completed`, `error` or `killed`: only these
        status: Query<Option<String>>,
        /// Only those in which this agent takes part
        agent: Query<Option<String>>,
        /// Only those that were begun so
        origin: Query<Option<ThreadOrigin>>,
        /// How many
        #[oai(validator(minimum(value = "1"), maximum(value = "100")))]
        limit: Query<Option<u32>>,
        /// How many are left out first
        offset: Query<Option<u32>>,
    ) -> Reply<Json<ThreadList>> {
        let status = status.0.map(|word| ThreadStatus::parse(&word)).transpose()?;
        let (limit, offset) = (limit.0.unwrap_or(ROWS), offset.0.unwrap_or(0));
        let (status, origin) = (status.map(Status::from), origin.0.map(Origin::from));
        let wanted = Wanted { status, agent: agent.0, origin, offset, limit };
        let page = threads(&self.0).ask(ASK_TIMEOUT, |port| Message::List(Wire(wanted), port)).await?;
        let threads: Vec<ThreadRow> = page.items.into_iter().map(ThreadRow::from).collect();
        Ok(Json(ThreadList { count: threads.len(), threads, total: page.total, offset, limit }))
    }

    /// Show a thread
    #[oai(path = "/:thread_id", method = "get", operation_id = "threads_get")]
    async fn get(&self, _caller: Caller, thread_id: Path<String>) -> Reply<Json<ThreadRow>> {
        let id = thread_id_of(&thread_id.0)?;
        let thread = threads(&self.0).ask(ASK_TIMEOUT, |port| Message::Get(Wire(id), port)).await??;
        Ok(Json(thread.into()))
    }

    /// End a thread
    ///
    /// What is being thought in it is given up, with its sub-agents, wherever they are.
    #[oai(path = "/:thread_id/kill", method = "post", operation_id = "threads_kill")]
    async fn kill(&self, _caller: Caller, thread_id: Path<String>) -> Reply<Json<ThreadKilled>> {
        let id = thread_id_of(&thread_id.0)?;
        threads(&self.0).ask(CANCEL_TIMEOUT, |port| Message::Kill(Wire(Order::new(id)), port)).await??;
        Ok(Json(ThreadKilled { success: true, thread_id: id.to_string() }))
    }
}

/// The way to this node's threads.
pub(crate) fn threads(context: &Context) -> Handle<Message> {
    context.directory.here(thread::NAME)
}

/// The id of a thread; what is no id is no thread's.
pub(crate) fn thread_id_of(text: &str) -> Result<Uuid, Problem> {
    text.parse().map_err(|_| Problem::not_found(format!("Thread not found: {text}")))
}

/// A part of the threads.
#[derive(Debug, Object)]
pub struct ThreadList {
    /// Each of them.
    pub threads: Vec<ThreadRow>,
    /// How many they are.
    pub count: usize,
    /// How many there are in all.
    pub total: u64,
    /// How many were left out first.
    pub offset: u32,
    /// How many were asked for.
    pub limit: u32,
}

/// Where a thread stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
pub enum ThreadStatus {
    /// Something is to be answered, or nothing has been said yet.
    Active,
    /// All is answered.
    Completed,
    /// Its last answer failed.
    Error,
    /// Somebody ended it.
    Killed,
}

impl ThreadStatus {
    fn parse(word: &str) -> Result<ThreadStatus, Problem> {
        match word {
            "active" => Ok(ThreadStatus::Active),
            "completed" => Ok(ThreadStatus::Completed),
            "error" => Ok(ThreadStatus::Error),
            "killed" => Ok(ThreadStatus::Killed),
            _ => {
                let shown: String = word.chars().take(64).collect();
                let text = format!("Invalid status: {shown}. It is active, completed, error or killed");
                Err(Problem::bad(text).in_field("status"))
            }
        }
    }
}

impl From<ThreadStatus> for Status {
    fn from(status: ThreadStatus) -> Status {
        match status {
            ThreadStatus::Active => Status::Active,
            ThreadStatus::Completed => Status::Completed,
            ThreadStatus::Error => Status::Error,
            ThreadStatus::Killed => Status::Killed,
        }
    }
}

impl From<Status> for ThreadStatus {
    fn from(status: Status) -> ThreadStatus {
        match status {
            Status::Active => ThreadStatus::Active,
            Status::Completed => ThreadStatus::Completed,
            Status::Error => ThreadStatus::Error,
            Status::Killed => ThreadStatus::Killed,
        }
    }
}

/// How a thread was begun: each of the three lists shows all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
pub enum ThreadOrigin {
    /// By a message to an agent.
    Message,
    /// As a session with an agent.
    Session,
    /// As a chat with a model.
    Chat,
    /// As a goal that is no agent's.
    Goal,
}

impl From<ThreadOrigin> for Origin {
    fn from(origin: ThreadOrigin) -> Origin {
        match origin {
            ThreadOrigin::Message => Origin::Message,
            ThreadOrigin::Session => Origin::Session,
            ThreadOrigin::Chat => Origin::Chat,
            ThreadOrigin::Goal => Origin::Goal,
        }
    }
}

/// A thread.
#[derive(Debug, Object)]
#[oai(rename = "Thread", rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct ThreadRow {
    /// Its id.
    pub id: String,
    /// Where it stands.
    pub status: ThreadStatus,
    /// Who has said something in it, or was told something.
    pub participants: Vec<String>,
    /// Messages in it.
    pub message_count: u64,
    /// When it was begun.
    pub created_at: String,
    /// When something happened in it last.
    pub last_activity: String,
    /// Why its last answer failed.
    pub error: Option<String>,
    /// The agent that it was begun with.
    pub agent: String,
    /// What it is called.
    pub title: Option<String>,
    /// The key of the machine that decides about it.
    pub owner_node: String,
    /// The most tokens that may be spent in it.
    pub budget: u64,
}

impl From<Thread> for ThreadRow {
    fn from(thread: Thread) -> ThreadRow {
        ThreadRow {
            id: thread.id.to_string(),
            status: thread.status.into(),
            participants: thread.participants,
            message_count: thread.last,
            created_at: rfc3339(thread.created_ms),
            last_activity: rfc3339(thread.updated_ms),
            error: thread.error,
            agent: thread.agent,
            title: thread.title,
            owner_node: thread.owner.to_string(),
            budget: thread.budget,
        }
    }
}

/// A thread was ended.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub struct ThreadKilled {
    /// True.
    pub success: bool,
    /// Its id.
    pub thread_id: String,
}
