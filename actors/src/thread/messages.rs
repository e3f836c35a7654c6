//! What the ThreadActor can be told and asked, and the records of threads, messages and turns.

use crate::{
    agent::{self, Goal, Run},
    budget::{Amount, Limit, Local, Severity},
    ledger,
    organism::OrganismError,
    ownership::Term,
    task::Level,
};
use ractor::RpcReplyPort;
use ractor_cluster_derive::RactorClusterMessage;
use serde::{Deserialize, Serialize};
use skep_runtime::{NodeId, Wire};
use uuid::Uuid;

/// What the ThreadActor understands. Orders may be given to any node and are passed on to the thread's owner, once.
#[derive(RactorClusterMessage)]
#[expect(clippy::large_enum_variant, reason = "a message moves once, into a mailbox that boxes it")]
pub enum Message {
    /// Say something to an agent, which is to answer. Answered when it is on disk at the owner and on another member, if
    /// one answers.
    #[rpc]
    Post(Wire<Order<Post>>, RpcReplyPort<Wire<Result<Posted, ThreadError>>>),
    /// Have a goal worked on that is no agent's: a thread of its own with one turn. Both have this id. Answered like
    /// [`Message::Post`].
    #[rpc]
    Work(Wire<(Uuid, Goal)>, RpcReplyPort<Wire<Result<Turn, ThreadError>>>),
    /// Write something down that nobody is to answer.
    #[rpc]
    Note(Wire<Order<Note>>, RpcReplyPort<Wire<Result<Uuid, ThreadError>>>),
    /// Begin a thread; its owner is this node.
    #[rpc]
    Open(Wire<NewThread>, RpcReplyPort<Wire<Result<Thread, ThreadError>>>),
    /// One thread, as this node knows it.
    #[rpc]
    Get(Wire<Uuid>, RpcReplyPort<Wire<Result<Thread, ThreadError>>>),
    /// Threads, as this node knows them, the last active ones first.
    #[rpc]
    List(Wire<Wanted>, RpcReplyPort<Wire<Page<Thread>>>),
    /// Messages of one thread or of all, as this node knows them.
    #[rpc]
    Said(Wire<WantedSaid>, RpcReplyPort<Wire<Result<Page<Said>, ThreadError>>>),
    /// The turns of a thread, in order, without their steps.
    #[rpc]
    Turns(Wire<Uuid>, RpcReplyPort<Wire<Result<Vec<Turn>, ThreadError>>>),
    /// One turn.
    #[rpc]
    Turn(Wire<Uuid>, RpcReplyPort<Wire<Result<Turn, ThreadError>>>),
    /// What was said with a turn: its message and, if there is one, its answer.
    #[rpc]
    Exchange(Wire<Uuid>, RpcReplyPort<Wire<Result<Exchange, ThreadError>>>),
    /// One turn, once it has ended and this node knows it.
    #[rpc]
    Await(Wire<Uuid>, RpcReplyPort<Wire<Result<Turn, ThreadError>>>),
    /// Say how good a turn's answer was.
    #[rpc]
    Grade(Wire<Order<Grade>>, RpcReplyPort<Wire<Result<Turn, ThreadError>>>),
    /// Give a thread another title.
    #[rpc]
    Rename(Wire<Order<(Uuid, String)>>, RpcReplyPort<Wire<Result<Thread, ThreadError>>>),
    /// End a thread: what is being thought in it is given up.
    #[rpc]
    Kill(Wire<Order<Uuid>>, RpcReplyPort<Wire<Result<Thread, ThreadError>>>),
    /// End a thread and forget all of it.
    #[rpc]
    Forget(Wire<Order<Uuid>>, RpcReplyPort<Wire<Result<(), ThreadError>>>),
    /// What each agent has to do and has done, as this node knows it.
    #[rpc]
    Activity(RpcReplyPort<Wire<Vec<(String, Activity)>>>),
    /// Between nodes: an agent asks another one, in its turn. Answered with what that one says. Repeatable.
    #[rpc]
    Ask(Wire<Ask>, RpcReplyPort<Wire<Result<String, ThreadError>>>),
    /// Between nodes: the run of a turn moved on; to the thread's owner. Repeated until it is answered: then that is on its
    /// disk.
    #[rpc]
    Moved(Wire<Run>, RpcReplyPort<Wire<Result<(), ThreadError>>>),
    /// From this node's budgets: so much of this thread may have been spent in all. Answered when it is on record here and on
    /// another member, if one answers.
    #[rpc]
    Charge(Local<(Uuid, Amount)>, RpcReplyPort<Wire<Result<(), ThreadError>>>),
}

/// Something to be done by a thread's owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order<T> {
    /// What.
    pub what: T,
    /// It was passed on: who doesn't own the thread either says so and passes it no further.
    pub forwarded: bool,
}

impl<T> Order<T> {
    /// An order, given to any node.
    pub fn new(what: T) -> Order<T> {
        Order { what, forwarded: false }
    }
}

/// Something that is said to an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Post {
    /// In which thread; `None` begins one.
    pub thread: Option<Uuid>,
    /// To whom; `None`: to the agent that the thread was begun with.
    pub to: Option<String>,
    /// Who says it.
    pub from: String,
    /// What kind of message it is; `None`: what its agent's definition says.
    pub kind: Option<String>,
    /// A JSON object, as text. At most 32 KiB.
    pub payload: String,
    /// For a thread that begins with it: how it was begun, and the most tokens that may be spent in it.
    pub origin: Origin,
    /// The same.
    pub budget: Option<u64>,
    /// Refused if a turn of the thread has not ended.
    pub only_idle: bool,
}

/// A message that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posted {
    /// Its thread.
    pub thread: Uuid,
    /// Its id.
    pub message: Uuid,
    /// The turn that answers it.
    pub turn: Uuid,
}

/// Something that is only written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// In which thread.
    pub thread: Uuid,
    /// As whose word.
    pub role: Role,
    /// The words.
    pub content: String,
}

/// A thread to begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewThread {
    /// Which agent answers in it.
    pub agent: String,
    /// How it was begun.
    pub origin: Origin,
    /// What it is called.
    pub title: Option<String>,
    /// The model that its turns think with, in place of the agent's.
    pub model: Option<String>,
    /// The most tokens that may be spent in it.
    pub budget: Option<u64>,
    /// The most money that may be spent in it, in millionths; `None` is as much as the tokens cost.
    pub budget_cost: Option<u64>,
}

/// How good a turn's answer was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grade {
    /// Which turn.
    pub turn: Uuid,
    /// From 1 to 5.
    pub grade: u8,
    /// Why. At most 4096 bytes.
    pub comment: Option<String>,
    /// There is a grade already, which this one replaces; else there must be none.
    pub again: bool,
}

/// An agent's question to another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// What the question is known by, together with its words: asked again, it is the same question.
    pub key: String,
    /// The thread.
    pub thread: Uuid,
    /// The turn in which it is asked.
    pub turn: Uuid,
    /// Which agent is asked.
    pub to: String,
    /// What.
    pub text: String,
}

/// Which threads.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Wanted {
    /// Those that stand so.
    pub status: Option<Status>,
    /// Those in which this agent takes part.
    pub agent: Option<String>,
    /// Those that were begun so.
    pub origin: Option<Origin>,
    /// So many are left out first.
    pub offset: u32,
    /// So many at most.
    pub limit: u32,
}

/// Which messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedSaid {
    /// Of this thread; `None`: the newest of all threads.
    pub thread: Option<Uuid>,
    /// From or to this agent.
    pub agent: Option<String>,
    /// The oldest first; else the newest.
    pub oldest_first: bool,
    /// So many are left out first.
    pub offset: u32,
    /// So many at most.
    pub limit: u32,
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The part.
    pub items: Vec<T>,
    /// How many there are in all.
    pub total: u64,
}

/// How a thread was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Origin {
    /// By a message to an agent.
    #[default]
    Message,
    /// As a session with an agent.
    Session,
    /// As a chat with a model.
    Chat,
    /// As a goal that is no agent's.
    Goal,
}

/// Where a thread stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Status {
    /// Something is to be answered, or nothing has been said yet.
    #[default]
    Active,
    /// All is answered.
    Completed,
    /// The last turn failed.
    Error,
    /// Somebody ended it.
    Killed,
}

/// A thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// Its id; its budget's too.
    pub id: Uuid,
    /// The agent that it was begun with.
    pub agent: String,
    /// How it was begun.
    pub origin: Origin,
    /// What it is called.
    pub title: Option<String>,
    /// The model that its turns think with, in place of the agents'.
    pub model: Option<String>,
    /// The node that decides about it.
    pub owner: NodeId,
    /// In which term.
    pub term: Term,
    /// Where it stands.
    pub status: Status,
    /// Who has said something in it, or was told something.
    pub participants: Vec<String>,
    /// Numbers of messages that were given out: the last one's, from 1.
    pub last: u64,
    /// Turns in it.
    pub turns: u32,
    /// Why the last turn failed.
    pub error: Option<String>,
    /// The most tokens that may be spent in it.
    pub budget: u64,
    /// The most money that may be spent in it, in millionths; `None` is as much as the tokens cost.
    pub budget_cost: Option<u64>,
    /// What may have been spent in it, known or not: nothing beyond it is spent before it is raised here.
    pub charged: Amount,
    /// The last threshold of its budget that it was told of.
    pub warned: Option<Severity>,
    /// Tokens spent in it on prompts, as last known.
    pub prompt: u64,
    /// The same on completions.
    pub completion: u64,
    /// What those cost, in millionths.
    pub cost: u64,
    /// When it was begun, in milliseconds since 1970.
    pub created_ms: u64,
    /// When something happened in it last.
    pub updated_ms: u64,
}

impl Thread {
    /// What may be spent in it.
    pub fn limit(&self) -> Limit {
        Limit { tokens: self.budget, cost: self.budget_cost }
    }
}

/// As whose word something is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Whoever asks.
    User,
    /// Whoever answers.
    Assistant,
    /// The swarm itself.
    System,
}

/// A message of a thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Its id.
    pub id: Uuid,
    /// Its thread.
    pub thread: Uuid,
    /// Its place there, from 1. Two that were said in two halves of a swarm may have the same.
    pub number: u64,
    /// Who said it.
    pub from: String,
    /// To whom.
    pub to: String,
    /// As whose word.
    pub role: Role,
    /// What kind of message it is.
    pub kind: String,
    /// A JSON object, as text.
    pub payload: String,
    /// The turn that answers it, or that it is the answer of.
    pub turn: Option<Uuid>,
    /// When, in milliseconds since 1970.
    pub created_ms: u64,
}

impl Said {
    /// Its words: what stands under `content` in its payload if that is a text, else the payload.
    pub fn content(&self) -> String {
        let value = serde_json::from_str::<serde_json::Value>(&self.payload).unwrap_or_default();
        value.get("content").and_then(|text| text.as_str()).map_or_else(|| self.payload.clone(), str::to_owned)
    }
}

/// What was said with a turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// The message that it answers.
    pub asked: Option<Said>,
    /// The answer, or the part of it that there is.
    pub answered: Option<Said>,
}

/// Where a turn stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Its agent has not begun.
    Waiting,
    /// It is worked on.
    Running,
    /// It has its answer.
    Completed,
    /// It could not be answered; the error says why.
    Failed,
    /// It was given up with its thread.
    Cancelled,
}

impl State {
    /// Whether nothing more will come of it.
    pub fn ended(self) -> bool {
        !matches!(self, State::Waiting | State::Running)
    }
}

/// A turn: what an agent does about one message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Its id.
    pub id: Uuid,
    /// Its thread.
    pub thread: Uuid,
    /// The number of the message that it answers.
    pub number: u64,
    /// That message.
    pub message: Uuid,
    /// Who answers.
    pub agent: String,
    /// Who is answered.
    pub from: String,
    /// The turn in which that one asks; `None`: a person or a client does.
    pub within: Option<Uuid>,
    /// Where it stands.
    pub state: State,
    /// How often it was begun.
    pub attempt: u32,
    /// The run that works on it, or did last.
    pub run: Uuid,
    /// The node where that lives.
    pub node: Option<NodeId>,
    /// The most tokens that it may spend, sub-agents included.
    pub cap: u64,
    /// What keeps its commands in, at least: decided once, so that the same command is the same in each attempt.
    pub sandbox: Option<Level>,
    /// What is worked on if that is a goal that is no agent's. Its words are the message's.
    pub goal: Option<Box<Goal>>,
    /// What was done so far. Not in lists.
    pub steps: Vec<agent::Step>,
    /// What the first prompt was made of.
    pub context: Option<agent::Snapshot>,
    /// Tokens that its own prompts had, those of attempts that were lost included.
    pub prompt: u64,
    /// Tokens that its own completions had, in the same way.
    pub completion: u64,
    /// What its own tokens cost, in millionths, by the prices of the moment in which it was last heard of.
    pub cost: u64,
    /// Those three, of attempts that were lost.
    pub before: (u64, u64, u64),
    /// The model that was asked for; `None`: the default one.
    pub wanted: Option<String>,
    /// The one that answered.
    pub model: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// How good its answer was.
    pub feedback: Option<Feedback>,
    /// When its message came, in milliseconds since 1970.
    pub created_ms: u64,
    /// When it was begun.
    pub started_ms: Option<u64>,
    /// When it ended.
    pub ended_ms: Option<u64>,
}

impl Turn {
    /// The turn of this id that is to answer a message: nobody has begun it.
    pub fn of(said: &Said, id: Uuid) -> Turn {
        Turn {
            id,
            thread: said.thread,
            number: said.number,
            message: said.id,
            agent: said.to.clone(),
            from: said.from.clone(),
            within: None,
            state: State::Waiting,
            attempt: 0,
            run: Uuid::nil(),
            node: None,
            cap: 0,
            sandbox: None,
            goal: None,
            steps: Vec::new(),
            context: None,
            prompt: 0,
            completion: 0,
            cost: 0,
            before: (0, 0, 0),
            wanted: None,
            model: None,
            error: None,
            feedback: None,
            created_ms: said.created_ms,
            started_ms: None,
            ended_ms: None,
        }
    }

    /// Its calls of tools, and the sub-agents that it sent: all of its steps but thinking.
    pub fn calls(&self) -> impl Iterator<Item = &agent::Step> {
        self.steps.iter().filter(|step| step.tool != "think")
    }

    /// Those of them that failed, or have not ended.
    pub fn failed_calls(&self) -> usize {
        self.calls().filter(|step| step.state != agent::RunState::Completed).count()
    }
}

/// How good a turn's answer was, as somebody said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feedback {
    /// From 1 to 5.
    pub grade: u8,
    /// Why.
    pub comment: Option<String>,
    /// When.
    pub created_ms: u64,
}

/// What an agent has to do and has done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Activity {
    /// Turns that wait.
    pub waiting: u32,
    /// Turns that are worked on.
    pub running: u32,
    /// The thread of one of those.
    pub thread: Option<Uuid>,
    /// Messages from it and to it, of the newest that are kept.
    pub messages: u64,
    /// When the last of them came.
    pub last_ms: Option<u64>,
    /// The last turn of it that ended, failed.
    pub failed: bool,
}

/// Why it was not done; nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ThreadError {
    /// No such thread.
    #[error("Thread not found: {0}")]
    NoSuchThread(Uuid),
    /// No such turn.
    #[error("Turn not found: {0}")]
    NoSuchTurn(Uuid),
    /// Nobody has graded it.
    #[error("No feedback found for turn: {0}")]
    NoFeedback(Uuid),
    /// There is a grade already.
    #[error("turn {0} has been graded: change the grade")]
    Graded(Uuid),
    /// No such agent.
    #[error("Unknown target agent: {0}")]
    NoSuchAgent(String),
    /// The agent takes nothing.
    #[error("agent {0} is stopped: start it")]
    Stopped(String),
    /// One agent may not ask the other.
    #[error("{from} can't ask {to}: it is none of its peers")]
    NoPeer {
        /// Who asks.
        from: String,
        /// Who is asked.
        to: String,
    },
    /// The one waits for the other's answer already.
    #[error("{from} can't ask {to}: that one waits for its answer")]
    Circle {
        /// Who asks.
        from: String,
        /// Who is asked.
        to: String,
    },
    /// A turn of it has not ended.
    #[error("thread {0} is busy: wait for its answer")]
    Busy(Uuid),
    /// Somebody ended it.
    #[error("thread {0} was killed: start a new one")]
    Killed(Uuid),
    /// It has as many messages as a thread may have, or the swarm as many threads.
    #[error("no more: {0}")]
    Full(String),
    /// A field is out of its bounds.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field's name.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It has more bytes than a message may have.
    #[error("a message has {max} bytes at most; this one has {bytes}")]
    TooLarge {
        /// How many it has.
        bytes: usize,
        /// How many it may have.
        max: usize,
    },
    /// The turn that was asked in failed.
    #[error("{0}")]
    Failed(String),
    /// Whose thread it is, is being found out.
    #[error("thread {0} is changing hands: ask again in a moment")]
    Moving(Uuid),
    /// The budget could not be had.
    #[error(transparent)]
    Budget(#[from] crate::budget::BudgetError),
    /// The definitions could not be read.
    #[error(transparent)]
    Organism(#[from] OrganismError),
    /// It could not be written.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// It could not be read.
    #[error("the threads can't be read: {0}")]
    Store(String),
    /// Another node did not answer.
    #[error("{0}")]
    Link(#[from] skep_runtime::Error),
}

impl From<skep_runtime::store::Error> for ThreadError {
    fn from(error: skep_runtime::store::Error) -> ThreadError {
        ThreadError::Store(error.to_string())
    }
}
